"""What a manifest must answer, told from its files with nothing but `json`: the oracle of every case.

Invariants:

- It shares no code with the engine. A line counts if it stands, byte for byte, where it was written.
- `of_active` also says when the engine must refuse: damage before an offset that a later line calls synced, and a line
  that is whole and stands elsewhere than where it was written.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog import DownloadManifestManager, ManifestMetadata, ManifestRecord, Observation

from .corpus import ACTIVE, CANONICAL, FENCED, SEALED, TORN, Corpus, Row, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_OBSERVED = ("source_id", "dataset", "file_path", "etag", "last_modified", "ts_downloaded", "version", "tie")


class Answers(NamedTuple):
    """Everything that can be asked of a manifest."""

    keys: list[str]
    total: int
    metadata: ManifestMetadata
    records: dict[str, ManifestRecord]
    by_source: dict[tuple[str, str | None], ManifestRecord]


def ask(manager: DownloadManifestManager, *, singly: bool = False) -> Answers:
    """Ask it all: the records in bulk, or one by one. Each way has a check of its own, and the other may not hide it."""
    records = {key: manager.records[key] for key in manager} if singly else dict(manager.records.items())
    sources: set[tuple[str, str | None]] = set()
    for record in records.values():
        sightings: list[ManifestRecord | Observation] = [record, *record.also_seen]
        for seen in sightings:
            sources |= {(seen.source_id, seen.dataset), (seen.source_id, None)}
    by_source = {}
    for source in sources:
        current = manager.get_record_by_source(*source)
        assert current is not None, f"no record of {source}"
        by_source[source] = current
    for key, record in islice(records.items(), 0, None, 3):
        assert manager.get(key) == record
        assert manager.has_checksum(key)
    return Answers(list(manager), len(manager), manager.metadata, records, by_source)


class History:
    """A canonical and the lines behind it."""

    def __init__(self, canonical: bytes) -> None:
        document = json.loads(canonical)
        self.metadata: Row = document["metadata"]
        self.rows: dict[str, Row] = document["records"]

    def take(self, lines: Iterable[bytes]) -> History:
        for text in lines:
            line = json.loads(text)
            if line["op"] in ("put", "batch"):
                self.rows |= {row["checksum"]: row for row in line.get("records") or [line["record"]]}
            elif line["op"] == "forget":
                self.rows.pop(line["checksum"], None)
            elif line["op"] == "meta":
                self.metadata |= line["metadata"]
            else:
                continue
            self.metadata["ts_updated"] = line["ts"]
        return self

    def answers(self) -> Answers:
        total = len(self.rows)
        records = {key: _shown(row, _observations(row)) for key, row in self.rows.items()}
        metadata = ManifestMetadata.model_validate(self.metadata | {"total_records": total})
        return Answers(sorted(self.rows), total, metadata, records, self._by_source())

    def _by_source(self) -> dict[tuple[str, str | None], ManifestRecord]:
        latest: dict[tuple[str, str | None], tuple[Any, ManifestRecord]] = {}
        for row in self.rows.values():
            seen = _observations(row)
            for one in seen:
                rank = (one["ts_downloaded"][:-1], one.get("tie", 0), one["dataset"], row["checksum"])
                shown = _shown(row, [one, *sorted((o for o in seen if o is not one), key=_age)])
                for dataset in (one["dataset"], None):
                    source = (one["source_id"], dataset)
                    if source not in latest or latest[source][0] < rank:
                        latest[source] = (rank, shown)
        return {source: shown for source, (_, shown) in latest.items()}


def _age(seen: Row) -> tuple[str, int, str, str]:
    return seen["ts_downloaded"][:-1], seen.get("tie", 0), seen["source_id"], seen["dataset"]


def _observations(row: Row) -> list[Row]:
    return [{name: row[name] for name in _OBSERVED if name in row}, *row.get("also_seen", ())]


def _shown(row: Row, seen: list[Row]) -> ManifestRecord:
    """A record as the public model shows it, the first of these observations in front."""
    first, *others = [{name: value for name, value in one.items() if name != "tie"} for one in seen]
    content = {name: row[name] for name in ("checksum", "file_size", "derived_from") if name in row}
    return ManifestRecord.model_validate(content | first | {"also_seen": others})


class Oracle:
    """What the corpus says when it is sound, and what is left of it when the active segment is damaged."""

    def __init__(self, corpus: Corpus) -> None:
        self._canonical = corpus.files[corpus.named[CANONICAL]]
        fenced = corpus.files[corpus.named[FENCED]].removesuffix(TORN)
        self._before = corpus.files[corpus.named[SEALED]].splitlines() + fenced.splitlines()
        self.active = lines_of(corpus.files[corpus.named[ACTIVE]])
        self._known: dict[tuple[int, ...], Answers] = {}
        self.sound = self.of_lines(range(len(self.active)))

    def of_lines(self, kept: Iterable[int]) -> Answers:
        """The answers when these lines of the active segment are left."""
        numbers = tuple(kept)
        if numbers not in self._known:
            lines = [*self._before, *(self.active[number][1] for number in numbers)]
            self._known[numbers] = History(self._canonical).take(lines).answers()
        return self._known[numbers]

    def kept_lines(self, active: bytes) -> list[int]:
        """The lines that stand where they were written, a missing newline at the very end or not."""
        return [n for n, (at, line) in enumerate(self.active) if active[at:].startswith(line[:-1])]

    def of_active(self, active: bytes) -> Answers | None:
        """The answers when the active segment has become these bytes; None when it must be refused."""
        kept = self.kept_lines(active)
        first = self.active[0][1]
        if not kept or kept[0] != 0 or active[len(first) - 1 : len(first)] not in (b"\n", b""):
            return None
        if any(line[:-1] in active for number, (_, line) in enumerate(self.active) if number not in kept):
            return None
        synced = max(json.loads(self.active[number][1]).get("synced", 0) for number in kept)
        position = 0
        for number in kept:
            at, line = self.active[number]
            if at > position and position < synced:
                return None
            position = at + len(line) - (active[at + len(line) - 1 : at + len(line)] != b"\n")
        return self.of_lines(kept)
