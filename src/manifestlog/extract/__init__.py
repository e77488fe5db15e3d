"""Extractors: fetch remote sources in worker processes and register what changed in one manifest.

The path of a source: `PipelineOrchestrator.run` → a worker (`worker`) → `download.extract`, which runs the four
steps. `schedule` says which source is next, `decide` what a response means, `part_file` keeps what lies on the disk,
`landing` adds the record. The package uses the manager's public interface only.
"""

from manifestlog.extract.config.configuration import Defaults, ExtractConfig, load_config
from manifestlog.extract.config.source import Conditions, DownloadEvent, ETLSource, SourceState
from manifestlog.extract.errors import ConfigError, ExtractError
from manifestlog.extract.fetchers.dispatch import MissingExtraError, RemoteFetcher
from manifestlog.extract.fetchers.protocol import Fetcher, FetchError, FetchRequest, Response, ResponseHead
from manifestlog.extract.former_names import __getattr__ as __getattr__
from manifestlog.extract.orchestrator import PipelineOrchestrator, plan_all
from manifestlog.extract.report import (
    Event,
    Finished,
    Outcome,
    Plan,
    Progress,
    Result,
    RunReport,
    Stale,
    Started,
    Waiting,
)

__all__ = [
    "FetchRequest",
    "Conditions",
    "ConfigError",
    "Defaults",
    "DownloadEvent",
    "ETLSource",
    "Event",
    "ExtractConfig",
    "ExtractError",
    "FetchError",
    "Fetcher",
    "Finished",
    "ResponseHead",
    "MissingExtraError",
    "Outcome",
    "PipelineOrchestrator",
    "Plan",
    "Progress",
    "RemoteFetcher",
    "Response",
    "Result",
    "RunReport",
    "SourceState",
    "Stale",
    "Started",
    "Waiting",
    "load_config",
    "plan_all",
]
