"""`failures`: print one row per failing source: since when, how often, and why."""

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated

import typer

from manifestlog import history
from manifestlog.cli import durations, histories, target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.cli.ui.event_lines import made_from, with_status
from manifestlog.model.failures import Failure

_COLUMNS = ("manifest", "dataset", "source", "first", "last", "attempts", "succeeded", "error")
_WORDS = ("dataset", "source")
_LEAST = ("manifest", "succeeded", "dataset", "last", "attempts")
"""Columns that a narrow terminal drops, in this order."""
_NUMBERS = ("attempts",)


def failures(
    settings: Settings,
    manifests: target.ManifestsArgument = None,
    *,
    since: histories.SinceOption = None,
    limit: histories.LimitOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also show sources that have succeeded since.")] = False,
    fail: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if a source is failing.")] = False,
    jsonl: histories.JsonlOption = False,
) -> int:
    """Show the sources that are failing, the latest failure first.

    Reads the named manifests [default: all of the directory]; --since: only sources that failed since then. First and
    attempts count since the source last succeeded. A source succeeds when it gets a new record, or when `extract` finds
    it unchanged. An input of a stage also stops failing when it no longer needs to be processed. Without --exit-code,
    exits with 0 even if sources are failing.
    """
    earliest = durations.since(since, datetime.now(UTC))
    with ExitStack() as stack, output.ignore_broken_pipe():
        asked = histories.Asked(settings, manifests, stack)
        found = history.failures(asked.manifests, since=earliest, recovered=everything)
        shown = found[:limit]
        if not histories.write_json(settings, "failures", [one._asdict() for one in shown], jsonl=jsonl) and shown:
            output.table(
                _COLUMNS, list(map(_cells, shown)), numbers=_NUMBERS, words=_WORDS, least=_LEAST, whole="error"
            )
    failing = any(one.succeeded is None for one in found)
    return asked.exit_code() or int(fail and failing)


def _cells(one: Failure) -> tuple[str, ...]:
    return (
        one.manifest,
        one.dataset or "-",
        one.source_id or "-",
        output.human_time(one.first),
        output.human_time(one.last),
        f"{one.attempts:,}",
        output.human_time(one.succeeded),
        " ".join(filter(None, [with_status(one.status, one.error) or "-", made_from(one.inputs)])),
    )
