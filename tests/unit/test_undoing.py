"""The plan of an undo: what goes back, and what stands in its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifestlog.model.before import difference
from manifestlog.model.differences import Change
from manifestlog.model.events import Event, EventKind
from manifestlog.model.undoing import Draft, metadata_to_write, plan_undo, read_on

from .builders import row, sha

if TYPE_CHECKING:
    from manifestlog.model.rows import Row, Sighting

NOTHING = Draft({}, {}, [], "0")


class Known:
    """Rows by checksum."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {one["checksum"]: one for one in rows}

    def row(self, checksum: str) -> Row | None:
        return self.rows.get(checksum)

    def might_know(self, checksum: str, source_id: str) -> bool:
        return bool(checksum or source_id)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        del source_id, dataset, moment
        return []


def put(number: int, after: Row, before: Row | None = None, **details: Any) -> Event:
    was = {} if before is None else {"was": difference(before, after)}
    return Event(str(number), "2023-01-01T12:00:00.000000Z", EventKind.PUT, after["checksum"], after, was | details)


def other(number: int, kind: EventKind, checksum: str | None = None, **details: Any) -> Event:
    return Event(str(number), "2023-01-01T12:00:00.000000Z", kind, checksum, None, details)


def all_of_them(_: Event) -> bool:
    return True


def none_of_them(_: Event) -> bool:
    return False


A, B = row("a"), row("b")
NEWER, NEWEST = row("a", 5, etag='"1"'), row("a", 6, etag='"2"')


def test_a_content_goes_back_before_its_first_change() -> None:
    draft = read_on(NOTHING, [put(1, NEWER, A), put(2, NEWEST, NEWER)], all_of_them)
    assert draft.rows == {sha("a"): A}


def test_reading_on_keeps_what_was_first() -> None:
    draft = read_on(NOTHING, [put(1, NEWER, A)], all_of_them)
    assert read_on(draft, [put(2, NEWEST, NEWER)], all_of_them).rows == {sha("a"): A}


def test_reading_on_changes_no_draft() -> None:
    draft = read_on(NOTHING, [put(1, NEWER, A)], all_of_them)
    read_on(draft, [put(2, B), put(3, NEWEST, NEWER)], none_of_them)
    assert (list(draft.rows), draft.conflicts, draft.cursor) == ([sha("a")], [], "1")


def test_the_cursor_is_that_of_the_last_event() -> None:
    assert read_on(NOTHING, [put(1, A), put(2, B)], none_of_them).cursor == "2"


def test_a_later_change_is_a_conflict() -> None:
    draft = read_on(NOTHING, [put(1, NEWER, A), put(2, NEWEST, NEWER)], lambda event: event.cursor == "1")
    assert [(one.what, one.event.cursor) for one in draft.conflicts] == [(sha("a"), "2")]


def test_a_later_derivation_is_a_conflict() -> None:
    events = [put(1, A), other(2, EventKind.DERIVED, sha("a"))]
    assert len(read_on(NOTHING, events, lambda event: event.cursor == "1").conflicts) == 1


def test_an_earlier_change_is_no_conflict() -> None:
    draft = read_on(NOTHING, [put(1, A), put(2, NEWER, A)], lambda event: event.cursor == "2")
    assert draft.conflicts == []


def test_changes_of_other_contents_and_attempts_are_no_conflict() -> None:
    events = [put(1, A), put(2, B), other(3, EventKind.FAILED), other(4, EventKind.META, was={"root_dir": "/r"})]
    assert read_on(NOTHING, events, lambda event: event.cursor == "1").conflicts == []


def test_a_later_change_of_the_same_metadata_is_a_conflict() -> None:
    events = [
        other(number, EventKind.META, was={"root_dir": f"/{number}"}, metadata={"root_dir": f"/{number + 1}"})
        for number in (1, 2)
    ]
    draft = read_on(NOTHING, events, lambda event: event.cursor == "1")
    assert ([one.what for one in draft.conflicts], draft.metadata) == (["root_dir"], {"root_dir": "/1"})


def test_a_forget_that_an_undo_made_is_undone_as_well() -> None:
    draft = read_on(NOTHING, [other(1, EventKind.UNDO, sha("a"), was=A)], all_of_them)
    assert draft.rows == {sha("a"): A}


def test_the_plan_puts_back_changes_and_removes() -> None:
    draft = NOTHING._replace(rows={sha("a"): A, sha("b"): None, sha("c"): row("c")})
    changes, found = plan_undo(Known(NEWER, B), draft, 1000)
    assert [(checksum, raw[:1]) for raw, checksum, _ in changes.puts] == [
        (one, b"{") for one in sorted([sha("a"), sha("c")])
    ]
    assert (changes.forgets, {one.checksum: one.change for one in found}) == (
        [sha("b")],
        {sha("a"): Change.CHANGED, sha("b"): Change.GONE, sha("c"): Change.ADDED},
    )


def test_the_plan_leaves_alone_what_is_as_it_shall_be() -> None:
    draft = NOTHING._replace(rows={sha("a"): A, sha("b"): None})
    assert plan_undo(Known(A), draft, 1000) == (([], []), [])


def test_only_metadata_that_differ_are_written() -> None:
    draft = NOTHING._replace(metadata={"root_dir": "/then", "etl_version": "1", "note": None})
    assert metadata_to_write({"root_dir": "/now", "etl_version": "1", "note": "x"}, draft) == {"root_dir": "/then"}
