"""An event that is not valid, in a line with a right CRC: no record suffers from it, `check` names it, nothing is guessed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager, HistoryReachError, maintenance
from manifestlog.engines.filelog.history import keep
from manifestlog.names import resolve
from manifestlog.options import parse_history

from .builders import META, QUIET, line_at, record, salt_of, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manifestlog import Event

LATER = "2099-01-01T00:00:00.000000Z"
"""When the lines say that they were written: after everything else, whatever the clock says."""
ROW = {
    "source_id": "src",
    "dataset": "set",
    "checksum": sha("b"),
    "file_path": "/raw/b",
    "file_size": 2,
    "etag": None,
    "ts_downloaded": "2023-01-01T12:00:00Z",
    "version": "1.0.0",
}


def put(event: object) -> dict[str, Any]:
    return {"op": "put", "ts": LATER, "record": ROW, "event": event}


EVENTS: dict[str, tuple[object, str]] = {
    "a verdict that there is not": ({"verdict": "merged"}, "verdict"),
    "a verdict that is a list": ({"verdict": []}, "verdict"),
    "a kind that there is not": ({"kind": "merge"}, "kind"),
    "a kind that changes nothing": ({"kind": "begun"}, "kind"),
    "a run that is a number": ({"run": 5}, "run"),
    "a status that is text": ({"status": "500"}, "status"),
    "seconds that are a truth": ({"seconds": True}, "seconds"),
    "inputs that are no checksums": ({"inputs": ["x"]}, "inputs"),
    "recovered sources without a name": ({"recovered": [{}]}, "recovered"),
    "counts that are a list": ({"counts": []}, "counts"),
    "a gap that is none": ({"gap": False}, "gap"),
    "an event that is a list": ([1], "event"),
    "an event that is zero": (0, "event"),
    "an event that is null": (None, "event"),
    "a `was` that is text": ({"was": "x"}, "was"),
    "a `was` that is null": ({"was": None}, "was"),
    "an earlier size that is text": ({"was": {"file_size": "x"}}, "was"),
    "no earlier source": ({"was": {"source_id": None}}, "was"),
    "an earlier time that is none": ({"was": {"ts_downloaded": "yesterday"}}, "was"),
    "an earlier time in another form": ({"was": {"ts_downloaded": "2023-01-01T12:00:00+00:00"}}, "was"),
    "the checksum of another content": ({"was": {"checksum": sha("other")}}, "was"),
    "other sources that are text": ({"was": {"also_seen": "x"}}, "was"),
    "another source that is text": ({"was": {"also_seen": ["x"]}}, "was"),
    "another source without a time": ({"was": {"also_seen": [{"source_id": "s", "dataset": "d"}]}}, "was"),
    "a difference to a list that is not there": ({"was": {"also_seen": {"remove": [0]}}}, "was"),
    "an empty difference": ({"was": {"derived_from": {}}}, "was"),
    "earlier inputs that are no checksums": ({"was": {"derived_from": ["x"]}}, "was"),
}
"""The event of a put, and the member of it that is not valid."""
BATCHES: dict[str, dict[str, Any]] = {
    "events that are text": {"events": "x"},
    "too few events": {"events": []},
    "too many events": {"events": [None, None]},
    "an event that is a number": {"events": [5]},
    "what all share is text": {"event": "x"},
    "what all share is text, with events": {"event": "x", "events": [{}]},
}
OTHERS: dict[str, dict[str, Any]] = {
    "a run that begins without an event": {"op": "begun", "ts": LATER},
    "an end that is a list": {"op": "ended", "ts": LATER, "event": []},
    "a failure of a source that is a number": {"op": "failed", "ts": LATER, "event": {"source_id": 5}},
    "a failure that says what was before": {"op": "failed", "ts": LATER, "event": {"was": {"also_seen": {}}}},
    "a derivation of no content": {"op": "derived", "ts": LATER, "event": {"checksum": "x"}},
    "a forget of another record": {"op": "forget", "ts": LATER, "checksum": sha("b"), "event": {"was": {"etag": None}}},
    "metadata that were a number": {
        "op": "meta",
        "ts": LATER,
        "metadata": {"etl_version": "2.0.0"},
        "event": {"was": {"etl_version": 1}},
    },
}
LINES = (
    {name: put(event) for name, (event, _) in EVENTS.items()}
    | {name: {"op": "batch", "ts": LATER, "records": [ROW], **more} for name, more in BATCHES.items()}
    | OTHERS
)
SAY_NOTHING_OF_BEFORE = [
    name
    for name in LINES
    if name in (*BATCHES, *list(OTHERS)[-2:]) or (name in EVENTS and EVENTS[name][1] in ("was", "event"))
]


def _append(path: Path, members: dict[str, Any]) -> None:
    segment = segments_of(path.parent)[-1]
    data = segment.read_bytes()
    body = json.dumps(members, separators=(",", ":")).encode()[:-1]
    segment.write_bytes(data + line_at(body, salt_of(data), len(data)))


def _live(path: Path) -> None:
    """Leave the line where it was written."""


def _kept(path: Path) -> None:
    """Move the line to the history."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.compact()


def _packed(path: Path) -> None:
    """Move the line into a pack."""
    _kept(path)
    created = json.loads(path.read_bytes())["metadata"]["ts_created"]
    keep.tidy(resolve(path), created, parse_history("forever"), keep.NO_FLOOR, segments_max=1)


PLACES = [_live, _packed]


@pytest.fixture(params=LINES)
def line(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place that nobody checks afterwards, because what lies there is not valid on purpose."""
    path = tmp_path / "systems_download.manifest.json"
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add(record("a"))
    return path


def _written(path: Path, line: str, place: Callable[[Path], None] = _live) -> DownloadManifestManager:
    _append(path, LINES[line])
    place(path)
    return DownloadManifestManager(path, META, options=QUIET)


def test_the_records_are_there(path: Path, line: str) -> None:
    with _written(path, line) as manager:
        expected = {sha("a"), sha("b")} if LINES[line]["op"] in ("put", "batch") else {sha("a")}
        assert set(manager) == expected


def test_a_compaction_covers_it(path: Path, line: str) -> None:
    with _written(path, line) as manager:
        manager.compact()
    assert maintenance.check(path).history_segments == 1


@pytest.mark.parametrize("place", [_live, _kept, _packed])
def test_check_names_it_and_calls_it_no_damage(path: Path, line: str, place: Callable[[Path], None]) -> None:
    _written(path, line, place).close()
    report = maintenance.check(path)
    assert [(one.level, "an event has no valid" in one.meaning) for one in report.findings] == [("note", True)]


@pytest.mark.parametrize("place", PLACES)
def test_the_event_is_told_without_what_is_not_valid(path: Path, line: str, place: Callable[[Path], None]) -> None:
    with _written(path, line, place) as manager:
        assert [bool(event.unreadable) for event in _told(manager)] == [False, True]


def test_what_is_left_out_is_named(path: Path) -> None:
    with _written(path, "a run that is a number") as manager:
        assert _told(manager)[-1].unreadable == ("run",)


def test_the_valid_members_are_told(path: Path) -> None:
    _append(path, put({"status": "500", "run": "r1"}))
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        assert _told(manager)[-1].run == "r1"


def test_a_verdict_that_cannot_be_read_is_not_taken_for_new(path: Path) -> None:
    with _written(path, "a verdict that there is not") as manager:
        assert _told(manager)[-1].verdict is None


@pytest.mark.parametrize("name", SAY_NOTHING_OF_BEFORE)
def test_an_earlier_time_is_out_of_reach_if_it_does_not_say_what_was_before(path: Path, name: str) -> None:
    with _written(path, name) as manager, pytest.raises(HistoryReachError, match="out of reach"):
        manager.as_of(_first_time(manager))


@pytest.mark.parametrize("name", [name for name in LINES if name not in SAY_NOTHING_OF_BEFORE])
def test_an_earlier_time_is_seen_if_it_does(path: Path, name: str) -> None:
    with _written(path, name) as manager:
        assert set(manager.as_of(_first_time(manager))) == {sha("a")}


@pytest.mark.parametrize("name", SAY_NOTHING_OF_BEFORE)
def test_it_is_not_undone_if_it_does_not_say_what_was_before(path: Path, name: str) -> None:
    with _written(path, name) as manager, pytest.raises(HistoryReachError, match="out of reach"):
        manager.undo(change=_told(manager)[-1].cursor)


def test_an_undo_of_earlier_metadata_sees_a_later_change_that_does_not_say_what_was_before(path: Path) -> None:
    with DownloadManifestManager(path, META.model_copy(update={"etl_version": "1.5.0"}), options=QUIET) as manager:
        cursor = _told(manager)[-1].cursor
    _append(path, LINES["metadata that were a number"])
    with (
        DownloadManifestManager(path, META.model_copy(update={"etl_version": "2.0.0"}), options=QUIET) as manager,
        pytest.raises(Exception, match="was changed again"),
    ):
        manager.undo(change=cursor)


@pytest.mark.parametrize("place", PLACES)
def test_repair_finds_nothing_to_do(path: Path, place: Callable[[Path], None]) -> None:
    _written(path, "a `was` that is text", place).close()
    assert maintenance.repair(path).outcome == "nothing_to_do"


FORGED: dict[str, tuple[bytes, bytes]] = {
    "an operation that there is not": (b'"op":"put"', b'"op":"pot"'),
    "a record that is missing": (b'"record":', b'"recard":'),
    "a record without a checksum": (b'"checksum":', b'"checkzum":'),
    "not JSON": (b'{"op":"put",', b'{"op":"put";'),
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("asked", [{}, {"checksum": sha("a")}])
def test_a_kept_line_that_no_session_accepts_is_damage(path: Path, name: str, asked: dict[str, Any]) -> None:
    """Somebody has changed it and computed its CRC anew."""
    _kept(path)
    (segment,) = segments_of(path.parent / "history")
    data = segment.read_bytes()
    start = data.index(b'{"op":"put"')
    line = data[start : data.index(b"\n", start)]
    forged = line_at(line[: line.rindex(b',"crc"')].replace(*FORGED[name]), salt_of(data), start)
    segment.write_bytes(data[:start] + forged + data[start + len(forged) :])
    with (
        DownloadManifestManager(path, options=QUIET, read_only=True) as manager,
        pytest.raises(DamagedManifestError) as caught,
    ):
        list(manager.history(**asked))
    assert (caught.value.offset, "segment 1" in caught.value.reason) == (start, True)


def _told(manager: DownloadManifestManager) -> list[Event]:
    return list(manager.history(reverse=False))


def _first_time(manager: DownloadManifestManager) -> Any:
    return _told(manager)[0].time
