"""`list`: print the records that pass the filters."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, NamedTuple

import typer

from manifestlog.cli import durations, reading, target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output, status_line
from manifestlog.engines.protocol import Snapshot
from manifestlog.model import codec
from manifestlog.model.rows import Row, observations, sort_key, utc_text


class _Filter(NamedTuple):
    """The filters. A record passes if one of its observations passes all of them."""

    source: str | None
    dataset: str | None
    since: str | None
    """A time as `sort_key` gives it."""

    def passes(self, seen: Row) -> bool:
        return (
            (self.source is None or seen["source_id"] == self.source)
            and (self.dataset is None or seen["dataset"] == self.dataset)
            and (self.since is None or sort_key(seen)[0] >= self.since)
        )


class _Match(NamedTuple):
    """A record, as JSON and as a row, and the observation in it that passed the filters."""

    raw: bytes
    row: Row
    seen: Row


def list_records(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    source: Annotated[str | None, typer.Option("--source", metavar="ID", help="Only records of this source.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Only records of this dataset.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only downloads since an ISO date or time (UTC), or a duration ago (2h, 7d).",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, help="Print at most N records.", show_default=False)
    ] = None,
    as_of: durations.AsOfOption = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON record per line.")] = False,
) -> int:
    """Print the records, sorted by checksum.

    Prints tab-separated columns: checksum, download time, bytes, dataset, source, path. Prints a record if one of its
    sources passes all filters; the columns then show that source.
    """
    path = target.locate(settings, manifest)
    moment = durations.since(since, datetime.now(UTC))
    wanted = _Filter(source, dataset, None if moment is None else utc_text(moment)[:-1])
    with reading.open_to_read(settings, path, as_of) as found, _printing():
        matches = islice(_matches(found.snapshot(), wanted), limit)
        root = reading.Root(found.root)
        if jsonl:
            _write_jsonl(matches, root)
        elif settings.as_json:
            _write_json(matches, root)
        else:
            _write_columns(matches, root)
    return 0


@contextmanager
def _printing() -> Iterator[None]:
    with output.ignore_broken_pipe(), status_line.hidden(here=sys.stdout.isatty()):
        yield


def _matches(snapshot: Snapshot, wanted: _Filter) -> Iterator[_Match]:
    for some in snapshot.batches():
        raws = [raw for _, raw in some]
        for raw, row in zip(raws, codec.loads_all(raws), strict=True):
            seen = next(filter(wanted.passes, observations(row) if "also_seen" in row else (row,)), None)
            if seen is not None:
                yield _Match(raw, row, seen)


def _write_jsonl(matches: Iterator[_Match], root: reading.Root) -> None:
    for text in output.joined((_json(match, root) for match in matches), "\n"):
        output.stream(text)


def _write_json(matches: Iterator[_Match], root: reading.Root) -> None:
    before = "[\n"
    for text in output.joined((_json(match, root) for match in matches), ",\n"):
        output.raw(before + text)
        before = ",\n"
    output.stream("[]" if before == "[\n" else "\n]")


def _write_columns(matches: Iterator[_Match], root: reading.Root) -> None:
    for text in output.joined((_columns(match, root) for match in matches), "\n"):
        output.stream(text)


def _json(match: _Match, root: reading.Root) -> str:
    raw = match.raw if root.prints_as_stored(match.row) else codec.dumps(root.printed(match.row))
    return output.json_text(raw.decode())


def _columns(match: _Match, root: reading.Root) -> str:
    row, seen = match.row, match.seen
    fields = (seen["dataset"], seen["source_id"], root.locate(seen["file_path"]))
    return "\t".join([row["checksum"], seen["ts_downloaded"], str(row["file_size"]), *map(output.clean, fields)])
