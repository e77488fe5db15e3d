"""`log`: print the events of manifests, the latest first."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import typer

from manifestlog import history
from manifestlog.cli import durations, histories, target, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import event_lines, output
from manifestlog.history import Recorded
from manifestlog.model import codec
from manifestlog.model.events import KIND_WORDS, Event, event_members
from manifestlog.model.rows import normal_checksum
from manifestlog.queries import kind_of

_SCHEMA_VERSION = 1
_Named = tuple[str, Event]
"""An event, and the name of its manifest."""


def _checked_kinds(values: list[str] | None) -> list[str] | None:
    for value in values or ():
        try:
            kind_of(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return values


_KindOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        callback=_checked_kinds,
        help=f"Only events of this kind, or puts with this verdict; repeatable: {', '.join(KIND_WORDS)}.",
    ),
]


_SourceOption = Annotated[
    str | None,
    typer.Option("--source", metavar="ID", callback=validators.recordable, help="Only events of this source."),
]
_DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", callback=validators.recordable, help="Only events of this dataset."),
]
_RunOption = Annotated[
    str | None, typer.Option("--run", metavar="ID", callback=validators.recordable, help="Only events of this run.")
]
_ChecksumOption = Annotated[
    str | None,
    typer.Option(
        "--checksum",
        metavar="SHA256",
        help="Only events of this content, or with it as an input. At least 6 digits stand for a recorded content.",
    ),
]
_UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Only events until this time, in the same forms.")
]


def log(
    settings: Settings,
    manifests: target.ManifestsArgument = None,
    *,
    source: _SourceOption = None,
    dataset: _DatasetOption = None,
    checksum: _ChecksumOption = None,
    run: _RunOption = None,
    kind: _KindOption = None,
    since: histories.SinceOption = None,
    until: _UntilOption = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Print the earliest event first.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, help="Print at most N events.", show_default=False)
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON event per line.")] = False,
) -> int:
    """Print what happened, the latest first.

    Reads the named manifests [default: all of the directory]; merges several by time. Prints tab-separated columns: time,
    kind or verdict, dataset, source, path or error; then the manifest, unless exactly one is named; run and cursor with
    --verbose. Paths are shown as recorded. A time without a zone is UTC.
    """
    now = datetime.now(UTC)
    wanted: dict[str, Any] = {
        "source_id": source,
        "dataset": dataset,
        "run": run,
        "kinds": kind or (),
        "since": durations.since(since, now),
        "until": durations.since(until, now, "--until"),
    }
    with ExitStack() as stack, output.ignore_broken_pipe():
        asked = histories.Asked(settings, manifests, stack)
        wanted["checksum"] = _whole_checksum(asked.manifests, checksum)
        streams = [(one.location.name, one.history(reverse=not reverse, **wanted)) for one in asked.manifests]
        events = islice(history.merged(streams, reverse=not reverse), limit)
        if jsonl:
            _write_jsonl(events)
        elif settings.as_json:
            _write_json(events)
        else:
            _write_lines(events, several=len(manifests or ()) != 1, verbose=settings.verbose)
    return asked.exit_code()


def _whole_checksum(manifests: list[Recorded], text: str | None) -> str | None:
    """Return the checksum that the option means: all its digits, or the first ones of a recorded content."""
    if text is None or normal_checksum(text) is not None:
        return text
    if len(text) < history.PREFIX_DIGITS_MIN or not history.are_digits(text):
        rule = f"64 hexadecimal digits, or at least the first {history.PREFIX_DIGITS_MIN} of a recorded content"
        raise typer.BadParameter(f"{text[:80]!r} is not a checksum: expected {rule}", param_hint="--checksum")
    found = history.checksums_from(manifests, text)
    if len(found) != 1:
        many = f"{len(found):,} records begin" if found else "no record begins"
        raise typer.BadParameter(f"{many} with {text}: give the whole checksum", param_hint="--checksum")
    return found.pop()


def _json(named: _Named) -> str:
    name, event = named
    return output.json_text(codec.dumps(event_members(event, name)).decode())


def _write_jsonl(events: Iterable[_Named]) -> None:
    for named in events:
        output.stream(_json(named))


def _write_json(events: Iterator[_Named]) -> None:
    output.raw(f'{{"schema_version":{_SCHEMA_VERSION},"events":[')
    before = "\n"
    for named in events:
        output.raw(before + _json(named))
        before = ",\n"
    output.stream("]}" if before == "\n" else "\n]}")


def _write_lines(events: Iterable[_Named], *, several: bool, verbose: bool) -> None:
    joined = event_lines.padded if sys.stdout.isatty() else "\t".join
    for name, event in events:
        shown = event_lines.cells(event)
        if several:
            shown.append(name)
        if verbose:
            shown += [output.clean(event.run or "-"), event.cursor]
        output.stream(joined(shown))
