"""`list`: print the records that pass the filters."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, NamedTuple

import typer

from manifestlog.cli import durations, reading, target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.manager import AbstractManifest
from manifestlog.model.models import ManifestRecord, Observation
from manifestlog.model.rows import utc_text


class _Filter(NamedTuple):
    """The filters. A record passes if one of its observations passes all of them."""

    source: str | None
    dataset: str | None
    since: datetime | None

    def passes(self, seen: ManifestRecord | Observation) -> bool:
        return (
            (self.source is None or seen.source_id == self.source)
            and (self.dataset is None or seen.dataset == self.dataset)
            and (self.since is None or seen.ts_downloaded >= self.since)
        )


_Match = tuple[ManifestRecord, ManifestRecord | Observation]
"""A record, and the observation in it that passed the filters."""


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

    Prints tab-separated columns: checksum, download time, bytes, dataset, source, path. A record passes if one of its
    sources passes all filters; the columns then show that source.
    """
    path = target.locate(settings, manifest)
    wanted = _Filter(source, dataset, durations.since(since, datetime.now(UTC)))
    with reading.open_to_read(settings, path, as_of) as found, output.ignore_broken_pipe():
        matches = islice(_matches(found, wanted), limit)
        if jsonl:
            _write_jsonl(matches)
        elif settings.as_json:
            _write_json(matches)
        else:
            _write_columns(matches)
    return 0


def _matches(found: AbstractManifest, wanted: _Filter) -> Iterator[_Match]:
    root = found.root
    for stored in found.records.values():
        record = reading.located(stored, root)
        observations: tuple[ManifestRecord | Observation, ...] = (record, *record.also_seen)
        seen = next(filter(wanted.passes, observations), None)
        if seen is not None:
            yield record, seen


def _write_jsonl(matches: Iterator[_Match]) -> None:
    for record, _ in matches:
        output.stream(output.json_text(record.model_dump_json()))


def _write_json(matches: Iterator[_Match]) -> None:
    before = "[\n"
    for record, _ in matches:
        sys.stdout.write(before + output.json_text(record.model_dump_json()))
        before = ",\n"
    output.stream("[]" if before == "[\n" else "\n]")


def _write_columns(matches: Iterator[_Match]) -> None:
    for record, seen in matches:
        fields = (seen.dataset, seen.source_id, seen.file_path)
        when = utc_text(seen.ts_downloaded)
        output.stream("\t".join([record.checksum, when, str(record.file_size), *map(output.clean, fields)]))
