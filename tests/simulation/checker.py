"""Judges a history: is there one order of everything that explains every answer?

The log gives that order, (segment, offset), so nothing has to be searched for, and the check takes linear time:

- the lines stand in the log in the order in which they were written, so the order respects real time;
- played through the model of the contract, each line is what its call had to write, and each verdict what it had to be: so
  there is one winner for each checksum between two forgets, and whoever was acknowledged has a line;
- every other answer (reads, duplicates, forgets of nothing) is right for some moment between its question and itself, so it is
  never older than what was acknowledged, or even written, before the question, and reads never go back;
- every canonical is the manifest of some moment, none of an earlier one than the canonical before it, and a compaction that has
  been answered left one that holds everything written before it was asked for.

It knows the contract's model (`property.model`) and shares no code with the engine.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from manifestlog import LockTimeoutError, ManifestRecord, RecordNotFoundError
from property.model import Model, Pair, Seen
from support.records import EPOCH

from .workload import CHECKSUMS, Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from .history import Call, History, Line, Row

_WRITES = frozenset({"add", "add_many", "update", "forget"})
_MERGES = frozenset({"compact", "save"})


class Timeline:
    """What the manifest held behind each line of the log: position n is behind n lines."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = sorted(lines, key=lambda line: (line.segment, line.offset))
        self.written = [line.at for line in self.lines]
        assert self.written == sorted(self.written), "the order of the log is not that of time"
        self.rows: list[dict[str, Row]] = [{}]
        self.contents: list[dict[str, dict[Pair, Seen]]] = [{}]
        self._model = Model()
        for position, line in enumerate(self.lines):
            self._play(position, line)

    def model(self, position: int) -> Model:
        """The model as it was, to be asked only."""
        return Model(self.contents[position])

    def _play(self, position: int, line: Line) -> None:
        rows = dict(self.rows[position])
        if line.op["op"] == "forget":
            del rows[line.op["checksum"]]
        else:
            for row in line.op.get("records") or [line.op["record"]]:
                rows[row["checksum"]] = row
        assert line.call is not None, f"nobody was asked to write {line}"
        verdict = _apply(self._model, line.call, self.rows[position])
        if line.call.ended is not None:
            assert line.call.result == verdict, f"{line.call}, and at its place in the log it is {verdict}"
        self.rows.append(rows)
        self.contents.append({checksum: dict(seen) for checksum, seen in self._model.contents.items()})
        touched = {row["checksum"] for row in line.op.get("records") or [line.op.get("record", line.op)]}
        for checksum in touched:
            told, expected = _sightings(rows.get(checksum)), _plain(self._model.contents.get(checksum, {}))
            assert told == expected, f"{line.call} wrote {told}, the model has {expected}"

    def window(self, call: Call) -> range:
        """The positions of the moments between a question and its answer."""
        assert call.ended is not None
        return range(bisect_left(self.written, call.began), bisect_left(self.written, call.ended) + 1)


def _sightings(row: Row | None) -> dict[Pair, tuple[str, str | None, str]]:
    if row is None:
        return {}
    return {
        Pair(seen["source_id"], seen["dataset"]): (seen["ts_downloaded"][17:19], seen["etag"], seen["file_path"])
        for seen in [row, *row.get("also_seen", ())]
    }


def _plain(seen: dict[Pair, Seen]) -> dict[Pair, tuple[str, str | None, str]]:
    return {pair: (f"{one.time:02d}", one.etag, one.path) for pair, one in seen.items()}


def _apply(model: Model, call: Call, rows: dict[str, Row]) -> Any:
    """Do to the model what was asked, and give the answer that is due."""
    if call.kind == "add":
        return model.add(*_told(call.args[0]))
    if call.kind == "add_many":
        counts: dict[str, int] = {}
        for event in call.args[0]:
            verdict = model.add(*_told(event))
            counts[verdict] = counts.get(verdict, 0) + 1
        return counts
    if call.kind == "forget":
        return model.forget(call.args[0])
    assert call.kind == "update", call
    checksum, etag, path = call.args
    row = rows[checksum]
    model.update(checksum, Pair(row["source_id"], row["dataset"]), etag, path)
    return "refreshed"


def _told(event: Event) -> tuple[str, Pair, Seen]:
    return event.checksum, Pair(event.source, event.dataset), Seen(event.time, event.etag, event.path)


# -- answers that wrote nothing ----------------------------------------------------------------------------------------


def _add_is_right(timeline: Timeline, position: int, call: Call) -> bool:
    return bool(call.result == "duplicate" == timeline.model(position).verdict(*_told(call.args[0])))


def _add_many_is_right(timeline: Timeline, position: int, call: Call) -> bool:
    model = timeline.model(position)
    return all(verdict == "duplicate" for verdict in call.result) and all(
        model.verdict(*_told(event)) == "duplicate" for event in call.args[0]
    )


def _update_is_right(timeline: Timeline, position: int, call: Call) -> bool:
    checksum, etag, path = call.args
    row = timeline.rows[position].get(checksum)
    if row is None:
        return bool(call.result is RecordNotFoundError)
    return bool(call.result == "duplicate" and (row["etag"], row["file_path"]) == (etag, path))


def _source_is_right(timeline: Timeline, position: int, call: Call) -> bool:
    found = timeline.model(position).current(*call.args)
    record: ManifestRecord | None = call.result
    if record is None or found is None:
        return record is None and found is None
    pair, checksum = found
    seen = timeline.contents[position][checksum][pair]
    return (pair, checksum, seen.etag, seen.path, seen.time) == (
        Pair(record.source_id, record.dataset),
        record.checksum,
        record.etag,
        str(record.file_path),
        (record.ts_downloaded - EPOCH).seconds,
    )


def _same(record: ManifestRecord | None, row: Row | None) -> bool:
    if record is None or row is None:
        return record is None and row is None
    return (record.checksum, record.source_id, record.dataset, record.etag, str(record.file_path)) == (
        row["checksum"], row["source_id"], row["dataset"], row["etag"], row["file_path"],
    ) and len(record.also_seen) == len(row.get("also_seen", ()))  # fmt: skip


def same_records(found: dict[str, ManifestRecord], rows: dict[str, Row]) -> bool:
    """Whether these, sorted by checksum, are the records of these rows."""
    return list(found) == sorted(rows) and all(_same(found[checksum], rows[checksum]) for checksum in rows)


IS_RIGHT: dict[str, Callable[[Timeline, int, Call], bool]] = {
    "add": _add_is_right,
    "add_many": _add_many_is_right,
    "update": _update_is_right,
    "forget": lambda timeline, at, call: call.result is False and call.args[0] not in timeline.rows[at],
    "has": lambda timeline, at, call: call.result is (call.args[0] in timeline.rows[at]),
    "get": lambda timeline, at, call: _same(call.result, timeline.rows[at].get(call.args[0])),
    "source": _source_is_right,
    "len": lambda timeline, at, call: call.result == len(timeline.rows[at]),
    "items": lambda timeline, at, call: same_records(call.result, timeline.rows[at]),
}
"""Whether an answer is right at a position."""


def check(history: History) -> Timeline:
    """Raise `AssertionError` for a history that no order explains; gives the order."""
    timeline = Timeline(history.lines)
    for call in history.calls:
        if call.ended is None or call.kind not in IS_RIGHT:
            continue
        if call.lines:
            assert len(call.lines) == 1, f"{call} wrote {len(call.lines)} lines"
            continue
        if call.result is LockTimeoutError:
            continue  # an answer that promises nothing
        window = timeline.window(call)
        right = IS_RIGHT[call.kind]
        assert any(right(timeline, position, call) for position in window), (
            f"{call} is right at no moment between: {[timeline.rows[position] for position in window]}"
        )
    _check_winners(timeline)
    _check_canonicals(history, timeline)
    return timeline


def check_survivors(history: History, timeline: Timeline, found: dict[str, ManifestRecord]) -> None:
    """After a power cut, with every process syncing what it says: each content is as it was answered last, or as later."""
    floors = dict.fromkeys(CHECKSUMS, 0)
    for call in history.calls:
        if call.ended is not None and call.kind in _WRITES and call.result is not LockTimeoutError:
            floor = _relied_on(timeline, call)
            for checksum in _contents_of(call):
                floors[checksum] = max(floors[checksum], floor)
    assert found.keys() <= floors.keys()
    for checksum, floor in floors.items():
        legal = [rows.get(checksum) for rows in timeline.rows[floor:]]
        assert any(_same(found.get(checksum), row) for row in legal), (
            f"{checksum[:8]} is {found.get(checksum)} after the power cut, and was {legal}"
        )


def _relied_on(timeline: Timeline, call: Call) -> int:
    """The first moment at which the answer is right: behind its own line, or where there was nothing to write."""
    if call.lines:
        return timeline.lines.index(call.lines[0]) + 1
    return next(position for position in timeline.window(call) if IS_RIGHT[call.kind](timeline, position, call))


def _contents_of(call: Call) -> set[str]:
    if call.kind == "add_many":
        return {event.checksum for event in call.args[0]}
    return {call.args[0].checksum if call.kind == "add" else call.args[0]}


def _check_winners(timeline: Timeline) -> None:
    """Nobody else is told "new" or "changed" until the content is forgotten: from the answers, not from the model."""
    won: set[str] = set()
    for line in timeline.lines:
        assert line.call is not None
        if line.op["op"] == "forget":
            won.discard(line.op["checksum"])
        elif line.call.kind == "add" and line.call.result in ("new", "changed"):
            checksum = line.op["record"]["checksum"]
            assert checksum not in won, f"{line.call} is a second winner"
            won.add(checksum)


def _check_canonicals(history: History, timeline: Timeline) -> None:
    """Each is the manifest of a moment; the moments go forward; a compaction keeps what it says."""
    moments: list[tuple[int, int]] = []
    first = 0
    for at, rows in history.published:
        behind = bisect_left(timeline.written, at)
        same = [n for n in range(first, behind + 1) if timeline.rows[n] == rows]
        assert same, f"the canonical of {at} is of no moment since the one before it"
        first = same[0]
        moments.append((at, same[-1]))
    for call in history.calls:
        if call.kind in _MERGES and call.ended is not None and call.result in ("compacted", "nothing_to_do"):
            before = bisect_left(timeline.written, call.began)
            reached = max((moment for at, moment in moments if at < call.ended), default=0)
            # The rows may be those of a later moment than the one they were made at: of equal moments the last counts.
            assert reached >= before, f"after {call} the canonical is of moment {reached}, {before} came before it"
