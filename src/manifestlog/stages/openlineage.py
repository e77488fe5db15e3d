"""Sends the runs of stages to OpenLineage: START, then COMPLETE, FAIL or ABORT with the datasets that were read and
written.

Invariants:

- A run has one event for its begin, and one for its end, unless its process is killed.
- Events are a copy of the manifests' facts: an event that cannot be delivered is a warning, and stops no run.
- The package `openlineage-python`, the extra `[openlineage]`, is imported only here, and only if events are wanted.

A dataset of a manifest is an OpenLineage dataset `MANIFEST/DATASET` in the namespace of the directory of manifests.
"""

from __future__ import annotations

import importlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from manifestlog.error_texts import reason
from manifestlog.errors import ManifestError
from manifestlog.files import disk
from manifestlog.files.processes import this_process
from manifestlog.model.safe_urls import safe_text, safe_url
from manifestlog.names import is_url, name_of
from manifestlog.stages.lineage_totals import Totals
from manifestlog.stages.report import Begun, Ended, Finished
from manifestlog.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from manifestlog.stages.definition import Stage
    from manifestlog.stages.lineage_totals import Total
    from manifestlog.stages.report import StageEvent, StageReport

log = logging.getLogger(__name__)

PRODUCER = f"https://github.com/manifestlog/manifestlog/tree/v{__version__}"
NAMESPACE_VARIABLE = "OPENLINEAGE_NAMESPACE"
KEY_VARIABLE = "OPENLINEAGE_API_KEY"
_ENDPOINT = "api/v1/lineage"
_RETRY = {"total": 2, "backoff_factor": 0.3}
"""A server that is down delays a run by some seconds, not by minutes."""


@dataclass(slots=True)
class _Open:
    """A run of a stage whose end was not sent yet."""

    stage: Stage
    run: str
    totals: Totals = field(default_factory=Totals)


class OpenLineage:
    """Receives `StageEvent`s: pass it to `run_stage(…, on_event=…)`. Use it as a context manager, and in one thread.

    ::

        with OpenLineage("lineage.jsonl", stages, "manifests") as lineage:
            for stage in stages:
                run_stage(stage, "manifests", on_event=lineage)
    """

    def __init__(
        self,
        target: str,
        stages: Sequence[Stage],
        directory: str | os.PathLike[str] = "manifests",
        *,
        namespace: str | None = None,
    ) -> None:
        """Prepare to send the events of runs of these stages, whose manifests are in this directory.

        `target` is a file, to which each event is appended as a line of JSON, or the URL of a server. Events are posted to
        the server's `/api/v1/lineage`, or to the URL itself if it has a path, with the key in `OPENLINEAGE_API_KEY`.
        `namespace` is that of the jobs [default: `OPENLINEAGE_NAMESPACE`, else `manifestlog`]. Raises `ManifestError` if
        the package is not installed, or the file cannot be written.
        """
        self._target = safe_url(target)
        self._client: Any = _client(target)
        self._types = _types()
        self._stages = {stage.name: stage for stage in stages}
        self._job_namespace = namespace or os.environ.get(NAMESPACE_VARIABLE) or "manifestlog"
        self._dataset_namespace = _namespace_of(os.fspath(directory))
        self._open: dict[str, _Open] = {}

    def __call__(self, event: StageEvent) -> None:
        """Take in an event of a run. Nothing is sent for a run that has nothing to do."""
        match event:
            case Begun() if event.run is not None and event.stage in self._stages:
                found = self._open[event.stage] = _Open(self._stages[event.stage], event.run)
                self._send("START", found, {})
            case Finished() if event.stage in self._open:
                self._open[event.stage].totals.add(event.outcome)
            case Ended() if event.stage in self._open:
                self._end(self._open.pop(event.stage), event.report)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send the end of a run that an error has ended, and close the connection."""
        for found in self._open.values():
            state = "FAIL" if isinstance(error, Exception) else "ABORT"
            self._send(state, found, self._message(f"{kind.__name__ if kind else 'ended'}: {error}"))
        self._open.clear()
        with suppress(Exception):
            self._client.close()

    def _end(self, found: _Open, report: StageReport) -> None:
        if report.interrupted:
            self._send("ABORT", found, self._message("the run was interrupted; the next one does the rest"))
        elif report.is_ok:
            self._send("COMPLETE", found, {})
        else:
            said = f"; the first: {found.totals.error}" if found.totals.error else ""
            failed = report.counts.total() - report.done
            self._send("FAIL", found, self._message(f"{failed:,} of {report.counts.total():,} items failed{said}"))

    def _message(self, text: str) -> dict[str, Any]:
        return {"errorMessage": self._types.error(safe_text(text), "Python", producer=PRODUCER)}

    def _send(self, state: str, found: _Open, facets: Mapping[str, Any]) -> None:
        if self._client is None:
            return
        try:
            self._client.emit(self._event(state, found, facets))
        except Exception as error:  # noqa: BLE001 -- a copy that is not delivered stops no run
            log.warning(
                "%s: OpenLineage events cannot be delivered (%s); the run goes on without them",
                self._target,
                safe_text(str(error)),
            )
            self._client = None

    def _event(self, state: str, found: _Open, facets: Mapping[str, Any]) -> Any:
        types = self._types
        engine = types.engine(__version__, "manifestlog", producer=PRODUCER)
        job = types.job_type("BATCH", "MANIFESTLOG", "STAGE", producer=PRODUCER)
        return types.event(
            eventType=types.state[state],
            eventTime=datetime.now(UTC).isoformat(),
            run=types.run(
                str(uuid5(NAMESPACE_URL, f"{PRODUCER}/{found.run}")), {"processing_engine": engine, **facets}
            ),
            job=types.job(self._job_namespace, found.stage.name, {"jobType": job}),
            inputs=[
                types.input(self._dataset_namespace, f"{name_of(found.stage.upstream)}/{name}")
                for name in sorted(found.totals.inputs)
            ],
            outputs=[
                types.output(
                    self._dataset_namespace,
                    f"{name_of(found.stage.manifest)}/{name}",
                    {"outputStatistics": self._statistics(total)},
                )
                for name, total in sorted(found.totals.outputs.items())
            ],
            producer=PRODUCER,
        )

    def _statistics(self, total: Total) -> Any:
        return self._types.statistics(total.rows, total.bytes, total.files, producer=PRODUCER)


def _namespace_of(directory: str) -> str:
    """Return the namespace of datasets: the directory on this host, or the database at a URL."""
    if is_url(directory):
        return safe_url(directory.partition("?")[0])
    return f"file://{this_process()['host']}{os.path.abspath(directory)}"


# -- the package -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Types:
    """The classes of the package that are used."""

    event: Any
    state: Any
    run: Any
    job: Any
    input: Any
    output: Any
    statistics: Any
    error: Any
    job_type: Any
    engine: Any


def _types() -> _Types:
    base = _imported("openlineage.client.event_v2")
    facets = _imported("openlineage.client.facet_v2")
    return _Types(
        event=base.RunEvent,
        state=base.RunState,
        run=base.Run,
        job=base.Job,
        input=base.InputDataset,
        output=base.OutputDataset,
        statistics=facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
        error=facets.error_message_run.ErrorMessageRunFacet,
        job_type=facets.job_type_job.JobTypeJobFacet,
        engine=facets.processing_engine_run.ProcessingEngineRunFacet,
    )


def _client(target: str) -> Any:
    module = _imported("openlineage.client")
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https"):
        _check_writable(target)
        return module.OpenLineageClient(config={"transport": {"type": "file", "log_file_path": target, "append": True}})
    transport: dict[str, Any] = {
        "type": "http",
        "url": f"{parts.scheme}://{parts.netloc}",
        "endpoint": parts.path.strip("/") or _ENDPOINT,
        "retry": _RETRY,
    }
    if key := os.environ.get(KEY_VARIABLE):
        transport["auth"] = {"type": "api_key", "apiKey": key}
    return module.OpenLineageClient(config={"transport": transport})


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "openlineage":
            raise ManifestError(
                "OpenLineage needs the package openlineage-python: pip install 'manifestlog[openlineage]'"
            ) from None
        raise


def _check_writable(path: str) -> None:
    """Create the file if it is missing, so that a path that cannot be written fails before the run."""
    try:
        disk.close(disk.open_append(path) if disk.exists(path) else disk.create(path))
    except OSError as error:
        raise ManifestError(f"{path}: OpenLineage events cannot be written there: {reason(error)}") from None
