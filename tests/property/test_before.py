"""Each event says what was there before it: taken back one by one, they give every earlier state, byte for byte."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings, strategies as st

from manifestlog import ProcessedManifestManager
from manifestlog.model import codec
from manifestlog.model.before import check_before, difference, undone
from manifestlog.model.codec import encoded_bytes
from manifestlog.model.earlier import take_back
from manifestlog.model.events import Query
from manifestlog.model.models import record_from_row, row_from_record
from manifestlog.model.rows import in_field_order

from .model import Pair, Seen
from .setting import META, options, record_of
from .test_machine import CHECKSUMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog import AbstractManifest
    from manifestlog.model.rows import Row

OPTIONS = options(segment_bytes_max=4000, batch_records_max=3)
MANY = 40
"""How many sources a content has at the beginning."""

State = dict[str, bytes]

shared = st.sampled_from(CHECKSUMS[:2])
pairs = st.builds(Pair, st.integers(0, MANY + 5).map("s{}".format), st.sampled_from(["d0", "d1"]))
seen = st.builds(Seen, st.integers(0, 2 * MANY), st.sampled_from([None, "e1"]), st.sampled_from(["/p/x", "/q/x"]))
additions = st.tuples(shared, pairs, seen)


def _add(manifest: AbstractManifest, *event: Any) -> None:
    manifest.add(record_of(*event))


def _add_many(manifest: AbstractManifest, events: list[Any]) -> None:
    manifest.add_many(record_of(*event) for event in events)


def _derive(manifest: AbstractManifest, checksum: str, inputs: list[str], minute: int) -> None:
    record = record_of(checksum, Pair("s0", "d0"), Seen(minute, None, "/p/x"))
    manifest.add(record.model_copy(update={"derived_from": tuple(inputs)}))


def _update(manifest: AbstractManifest, checksum: str, size: int) -> None:
    if checksum in manifest:
        manifest.update(checksum, {"checksum": checksum, "etag": None, "file_path": "/u", "file_size": size})


def _forget(manifest: AbstractManifest, checksum: str) -> None:
    manifest.forget(checksum)


def _relocate(manifest: AbstractManifest, old: str, new: str) -> None:
    manifest.relocate(old, new)


def _undo(manifest: AbstractManifest, back: int) -> None:
    events = [event for event in manifest.history(reverse=True) if event.is_change][: back + 1]
    manifest.undo(change=events[-1].cursor, force=True)


def _compact(manifest: AbstractManifest) -> None:
    manifest.compact()


inputs = st.lists(st.integers(0, 60).map("{:064x}".format), min_size=1, max_size=50, unique=True)
writes = st.one_of(
    st.tuples(st.just(_add), additions),
    st.tuples(st.just(_add_many), st.tuples(st.lists(additions, max_size=6))),
    st.tuples(st.just(_derive), st.tuples(shared, inputs, st.integers(0, 99))),
    st.tuples(st.just(_update), st.tuples(shared, st.integers(1, 3))),
    st.tuples(st.just(_forget), st.tuples(shared)),
    st.tuples(st.just(_relocate), st.sampled_from([("/p", "/q"), ("/q", "/p")])),
    st.tuples(st.just(_undo), st.tuples(st.integers(0, 3))),
    st.tuples(st.just(_compact), st.just(())),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(writes, max_size=12))
def test_events_taken_back_one_by_one_give_each_earlier_state(some: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _check_history(Path(directory) / "systems_validation.manifest.json", some)


@settings(max_examples=15, deadline=None)
@given(st.lists(writes, max_size=12))
def test_so_they_do_in_memory(some: list[Any]) -> None:
    _check_history("memory:systems_validation", some)


def _check_history(path: str | Path, some: list[tuple[Callable[..., None], Any]]) -> None:
    with ProcessedManifestManager(path, META, options=OPTIONS) as manifest:
        _fill(manifest)
        states = [(manifest._engine.cursor(), _state(manifest))]
        for write, given in some:
            write(manifest, *given)
            states.append((manifest._engine.cursor(), _state(manifest)))
        known = dict(states)
        now = dict(states[-1][1])
        events = list(manifest._engine.events(Query(reverse=True)))
        for event in events:
            if event.cursor in known:
                assert now == known[event.cursor]
            rows: dict[str, Row | None] = {}
            take_back(rows, {}, event)
            for checksum, row in rows.items():
                now.pop(checksum, None)
                if row is not None:
                    now[checksum] = codec.dumps(row)
        assert now == {}


def _fill(manifest: AbstractManifest) -> None:
    for number in range(MANY):
        manifest.add(record_of(CHECKSUMS[0], Pair(f"s{number}", "d0"), Seen(number, None, "/p/x")))


def _state(manifest: AbstractManifest) -> State:
    return dict(manifest._engine.snapshot().records())


# -- lists -------------------------------------------------------------------------------------------------------------

entries = st.integers(0, 30).map("{:064x}".format)
lists = st.lists(entries, max_size=25)


def _row(**more: Any) -> Row:
    row = row_from_record(record_of(CHECKSUMS[0], Pair("s0", "d0"), Seen(0, None, "/p/x")))
    return in_field_order(row | more)


@given(lists, lists)
def test_any_list_comes_back_from_any_other(before: list[str], after: list[str]) -> None:
    old, new = _row(derived_from=before), _row(derived_from=after)
    assert codec.dumps(undone(new, difference(old, new))) == codec.dumps(old)


@given(lists, lists)
def test_a_difference_is_never_longer_than_the_list(before: list[str], after: list[str]) -> None:
    found = difference(_row(derived_from=before), _row(derived_from=after))
    assert len(codec.dumps(found.get("derived_from"))) <= len(codec.dumps(before or None))


junk = st.recursive(st.none() | st.booleans() | st.integers(-2, 30) | entries, lambda some: st.lists(some, max_size=3))
differences = st.dictionaries(
    st.sampled_from(["remove", "insert", "other"]),
    st.lists(st.integers(-1, 9)) | st.lists(st.tuples(st.integers(-1, 9), entries).map(list)) | junk,
)


@given(lists, differences)
def test_a_difference_is_refused_or_gives_a_record(after: list[str], found: dict[str, Any]) -> None:
    new, was = _row(derived_from=after), {"derived_from": found}
    try:
        check_before(was, new, CHECKSUMS[0])
    except ValueError:
        return
    before = undone(new, was)
    assert before is not None
    record_from_row(before)
    encoded_bytes(codec.dumps(before))
