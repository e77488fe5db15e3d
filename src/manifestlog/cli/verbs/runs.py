"""`runs`: print one row per run: when, by whom, and with what result."""

from contextlib import ExitStack
from datetime import UTC, datetime

from manifestlog import history
from manifestlog.cli import durations, histories, target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.model.runs import RunSummary

_COLUMNS = ("begun", "name", "version", "took", "counts", "failed", "bytes", "by", "manifests", "run", "outcome")
_WORDS = ("name", "counts", "manifests", "outcome")
_LEAST = ("run", "by", "manifests", "version", "bytes", "took", "counts")
"""Columns that a narrow terminal drops, in this order."""
_NUMBERS = ("took", "failed", "bytes")


def runs(
    settings: Settings,
    manifests: target.ManifestsArgument = None,
    *,
    since: histories.SinceOption = None,
    limit: histories.LimitOption = None,
    jsonl: histories.JsonlOption = False,
) -> int:
    """Show the runs, the latest first.

    Reads the named manifests [default: all of the directory]; --since: only runs that began since then. Outcomes: ok,
    failed, interrupted, running, died (it did not end, and its process is gone), unknown (it did not end, and its process
    is on another host). Always exits with 0, unless a manifest cannot be read.
    """
    earliest = durations.since(since, datetime.now(UTC))
    with ExitStack() as stack, output.ignore_broken_pipe():
        asked = histories.Asked(settings, manifests, stack)
        found = history.runs(asked.manifests, since=earliest, limit=limit)
        if not histories.write_json(settings, "runs", [run._asdict() for run in found], jsonl=jsonl) and found:
            output.table(_COLUMNS, list(map(_cells, found)), numbers=_NUMBERS, words=_WORDS, least=_LEAST)
    return asked.exit_code()


def _cells(run: RunSummary) -> tuple[str, ...]:
    counts = ", ".join(f"{count:,} {word}" for word, count in run.counts.items())
    return (
        output.human_time(run.begun),
        run.name or "-",
        run.version or "-",
        "-" if run.seconds is None else output.human_seconds(run.seconds),
        counts or "-",
        f"{run.failed:,}",
        output.human_bytes(run.bytes),
        f"{run.user or '-'}@{run.host}:{run.pid}" if run.host else "-",
        ", ".join(run.manifests),
        run.run,
        f"{run.outcome}: {run.error}" if run.error else run.outcome,
    )
