"""Undoes changes of a manifest: everything after a time, one change, or all changes of a run.

Invariants:

- All records change in one atomic write of kind `undo`; the metadata follow. Existing lines are never rewritten.
- Outside a run, an undo is a run of its own, so that it can be undone as a whole.
- Records that already are as before stay unchanged, so running an interrupted undo again completes it.
- Writes of others up to that moment are considered: the plan continues to read inside the transaction.
- If the history does not have the answer, that is an error; nothing is guessed.

`model.undoing` plans; this module chooses the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.comparison import ContentDiff, content_diff
from manifestlog.errors import CursorError, HistoryReachError, ManifestError, UndoConflictError
from manifestlog.model.earlier import UnknownBeforeError, earlier
from manifestlog.model.events import Event, EventKind, Query, kept
from manifestlog.model.undoing import Draft, metadata_to_write, plan_undo, read_on
from manifestlog.queries import Moment, past_time
from manifestlog.run import RunContext, begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.engines.protocol import Engine
    from manifestlog.model.differences import ContentRows
    from manifestlog.model.events import Details
    from manifestlog.model.writes import Lookup, Rewritten


class Undone(NamedTuple):
    """What an undo changed, or would change."""

    contents: list[ContentDiff]
    """Each content that it changed, sorted by checksum: restored (added), set to an earlier record, or removed (gone)."""
    metadata: dict[str, tuple[Any, Any]]
    """The metadata members that it changed, before and after."""
    run: str | None
    """The run that its events belong to: undoing this run undoes the undo. None if nothing was written."""


class Choice(NamedTuple):
    """What to undo. Exactly one of the first three is given."""

    to: Moment | None = None
    change: str | None = None
    run: str | None = None
    force: bool = False

    @property
    def text(self) -> str:
        """What is undone, as its events name it."""
        return next(f"{name} {value}" for name, value in self._asdict().items() if value is not None)


def undo(engine: Engine, details: Details | None, version: str, choice: Choice, *, dry_run: bool) -> Undone:
    """Take the chosen changes back, as a part of the run with these details or as a run. Raises as `AbstractManifest.undo` says."""
    if sum(one is not None for one in choice[:3]) != 1:
        raise ValueError("give exactly one of to, change and run")
    try:
        return _undo(engine, details, version, choice, dry_run=dry_run)
    except UnknownBeforeError as error:
        raise HistoryReachError(engine.location.display, f"what was before {choice.text}", error.ts) from None


def _undo(engine: Engine, details: Details | None, version: str, choice: Choice, *, dry_run: bool) -> Undone:
    plan = _Plan(engine, choice)
    plan(engine.snapshot())
    if dry_run or not (plan.found or plan.metadata):
        return plan.undone(None)
    if details is not None:
        return _write(engine, plan, details)
    # Not in the manager's context: what other threads write meanwhile is no part of the undo.
    with begin(engine, RunContext(), "undo", version) as run:
        return _write(engine, plan, {"run": run.id})


class _Plan:
    """Plans an undo inside its transaction, as often as it must, and keeps the latest result."""

    def __init__(self, engine: Engine, choice: Choice) -> None:
        self.found: list[ContentRows] = []
        self.metadata: dict[str, tuple[Any, str]] = {}
        self.named = choice.text
        self._engine = engine
        self._force = choice.force
        self._draft, self._selects = _chosen(engine, choice)

    def __call__(self, known: Lookup) -> Rewritten:
        engine = self._engine
        latest = read_on(self._draft, engine.events_after(self._draft.cursor), self._selects)
        present = engine.metadata()
        self.metadata = {name: (present.get(name), was) for name, was in metadata_to_write(present, latest).items()}
        changes, self.found = plan_undo(known, latest, engine.options.record_bytes_max)
        lost = {one.checksum for one in self.found} | self.metadata.keys()
        conflicts = [] if self._force else [one for one in latest.conflicts if one.what in lost]
        if conflicts:
            (what, event), *others = conflicts
            raise UndoConflictError(engine.location.display, what, event.kind, event.ts, event.cursor, len(others))
        return changes

    def undone(self, run: str | None) -> Undone:
        return Undone(list(map(content_diff, self.found)), dict(self.metadata), run)


def _write(engine: Engine, plan: _Plan, details: Details) -> Undone:
    event = {**details, **kept({"undoes": plan.named})}
    engine.rewrite(plan, EventKind.UNDO, details=event)
    if plan.metadata:
        engine.set_metadata({name: was for name, (_, was) in plan.metadata.items()}, details=event)
    return plan.undone(details.get("run"))


def _chosen(engine: Engine, choice: Choice) -> tuple[Draft, Callable[[Event], bool]]:
    """Return the draft up to now, and which of the events to come it undoes as well."""
    if choice.to is not None:
        return _back_to(engine, past_time(choice.to)), lambda _: True
    if choice.change is not None:
        return _one_change(engine, choice.change), lambda _: False
    run = str(choice.run)
    return _whole_run(engine, run, force=choice.force), lambda event: event.run == run


def _back_to(engine: Engine, moment: str) -> Draft:
    engine.as_of(moment).close()  # raises if the history does not reach back so far
    cursor = engine.cursor()
    found = earlier(engine.events(Query(reverse=True)), moment)
    return Draft(found.rows, found.metadata, [], cursor)


def _one_change(engine: Engine, cursor: str) -> Draft:
    display = engine.location.display
    engine.events_after(cursor)  # raises for a cursor of another manifest, and for one that is out of reach
    found = next((event for event in engine.events(Query(reverse=True)) if event.cursor == cursor), None)
    if found is None:
        raise CursorError(display, cursor, "is not the cursor of an event")
    if not found.is_change:
        raise ManifestError(
            f"{display}: the event at {cursor} is {found.kind}, which changes nothing that can be undone"
        )
    _ensure_reach(engine, found, f"the change at {cursor}")
    return _after(engine, found, lambda event: event.cursor == cursor)


def _whole_run(engine: Engine, run: str, *, force: bool) -> Draft:
    first = next(iter(engine.events(Query(run=run))), None)
    if first is None:
        raise ManifestError(f"{engine.location.display}: the history has no run {run}; `manifestlog runs` lists them")
    _ensure_reach(engine, first, f"the run {run}")
    reach = engine.reach()
    if first.kind is not EventKind.BEGUN and reach != engine.metadata()["ts_created"] and not force:
        raise HistoryReachError(engine.location.display, f"the begin of the run {run}", reach)
    return _after(engine, first, lambda event: event.run == run)


def _ensure_reach(engine: Engine, event: Event, what: str) -> None:
    """Raise `HistoryReachError` for an event that does not say what was there before it, as those of format 1."""
    reach = engine.reach()
    if event.ts < reach and reach != engine.metadata()["ts_created"]:
        raise HistoryReachError(engine.location.display, what, reach)


def _after(engine: Engine, first: Event, selects: Callable[[Event], bool]) -> Draft:
    begin = read_on(Draft({}, {}, [], first.cursor), [first], selects)
    return read_on(begin, engine.events_after(first.cursor), selects)
