"""Extractors: a list of remote sources, several worker processes, one manifest that decides what has to be fetched.

The way of a source: `PipelineOrchestrator.run` → a worker (`worker`) → `download.extract`: the four steps → `parts` (what
lies on the disk) and `decide` (what an answer means). It stands on the manager's public interface and nothing below it.
"""

from manifestlog.extract.config.configuration import Defaults, ExtractConfig, load_config
from manifestlog.extract.config.source import Conditions, DownloadEvent, ETLSource, SourceState
from manifestlog.extract.errors import ConfigError, ExtractError
from manifestlog.extract.fetchers.dispatch import MissingExtraError, RemoteFetcher
from manifestlog.extract.fetchers.protocol import Ask, Fetcher, FetchError, Head, Response
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
    "Ask",
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
    "Head",
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
