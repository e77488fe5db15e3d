"""`compact`: merge logs into their canonical files, once or as a service.

Invariants:

- An error in one manifest does not stop the compaction of the others.
- A signal ends the service between two compactions, never during one.
"""

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from manifestlog.cli import durations, signals, target
from manifestlog.cli.invoke import INTERRUPTED, CommandError, worst
from manifestlog.cli.keeping import HistoryOption
from manifestlog.cli.outcomes import Outcome, attempt, for_each_manifest
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.reports import CompactionOutcome, CompactionReport
from manifestlog.errors import ManifestError
from manifestlog.managers import DownloadManifestManager
from manifestlog.names import name_of


def compact(
    settings: Settings,
    manifests: target.ManifestsArgument = None,
    *,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Compact only if the log is long or old enough.")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            metavar="DURATION",
            help="Run as a service: repeat at this interval (30s, 5m), until SIGTERM or Ctrl-C.",
        ),
    ] = None,
    keep: HistoryOption = None,
) -> int:
    """Merge the log into the canonical file, while writers continue.

    Skips a manifest that another process is compacting, and exits with 0. With --every, SIGTERM ends the service with exit
    code 0 and Ctrl-C with 130; a running compaction finishes first.
    """
    pause_s = durations.interval(every)
    if pause_s is not None:
        return _serve(settings, manifests, pause_s, if_needed=if_needed, keep=keep)
    paths = target.locate_all(settings, manifests)
    outcomes = for_each_manifest(paths, lambda path: _compact(settings, path, if_needed=if_needed, keep=keep))
    if settings.as_json:
        output.document([_as_json(outcome) for outcome in outcomes])
    for outcome in outcomes:
        _print_outcome(settings, outcome)
    if not outcomes:
        output.notice(settings, f"{settings.directory}: no manifests found; nothing to compact")
    return worst(outcome.exit_code for outcome in outcomes)


def _compact(settings: Settings, path: str, *, if_needed: bool, keep: str | None) -> CompactionReport:
    with DownloadManifestManager(path, options=settings.options(keep)) as manifest:
        return manifest.compact(if_needed=if_needed)


def _print_outcome(
    settings: Settings, outcome: Outcome[CompactionReport], say: Callable[[str], None] = output.line
) -> None:
    if outcome.error is not None:
        output.error(output.reason(outcome.error))
    elif not settings.as_json and not settings.quiet and outcome.result is not None:
        say(f"{name_of(outcome.path)}: {_sentence(outcome.result)}")


def _sentence(report: CompactionReport) -> str:
    match report.outcome:
        case CompactionOutcome.ALREADY_RUNNING:
            return "skipped: another process is compacting this manifest"
        case CompactionOutcome.NOTHING_TO_DO:
            return f"nothing to merge; total records: {report.records_total:,}"
    return (
        f"records merged: {report.records_merged:,}, total: {report.records_total:,};"
        f" {output.human_bytes(report.bytes_written)} written in {output.human_seconds(report.seconds)},"
        f" writers paused {output.human_seconds(report.writer_pause_s)}"
    )


def _as_json(outcome: Outcome[CompactionReport]) -> dict[str, Any]:
    named: dict[str, Any] = {"name": name_of(outcome.path), "path": str(outcome.path)}
    if outcome.error is not None:
        return named | {"outcome": "failed"} | output.failure(outcome.error, outcome.exit_code)
    return named | asdict(outcome.result or CompactionReport(CompactionOutcome.NOTHING_TO_DO))


def _serve(
    settings: Settings, manifests: Sequence[str] | None, pause_s: float, *, if_needed: bool, keep: str | None
) -> int:
    """Compact the directory at intervals until a signal."""
    where = ", ".join(manifests) if manifests else settings.directory
    with signals.noted() as ending:
        output.notice(settings, f"compacting {where} every {pause_s:g} s until SIGTERM or Ctrl-C")
        while True:
            began = time.monotonic()
            _round(settings, manifests, ending, if_needed=if_needed, keep=keep)
            ending.pause(began + pause_s - time.monotonic())
            if ending.caught:
                return INTERRUPTED if ending.caught[0] == signal.SIGINT else 0


def _round(
    settings: Settings, manifests: Sequence[str] | None, ending: signals.Ending, *, if_needed: bool, keep: str | None
) -> None:
    try:
        paths = target.locate_all(settings, manifests)
    except (CommandError, ManifestError, OSError) as error:
        output.error(output.reason(error))  # the directory may exist again at the next round
        return
    for path in paths:
        if ending.caught:
            return
        outcome = attempt(path, lambda path: _compact(settings, path, if_needed=if_needed, keep=keep))
        idle = outcome.result is not None and outcome.result.outcome is CompactionOutcome.NOTHING_TO_DO
        if settings.as_json:
            output.stream(json.dumps(_as_json(outcome)))
        if not idle or settings.verbose:
            _print_outcome(settings, outcome, output.stream)
        output.flush()
