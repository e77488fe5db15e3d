"""Events: what happened to a manifest, as one typed object for each change and each attempt.

Invariants:

- An event never decides what the manifest contains. It says how a change came about, and what was there before.
- An invalid member is not in `details`; `unreadable` names it. So nothing is read from it.
- Empty members are left out, so a plain addition of new content has no details at all.

`docs/FORMAT.md`, section 4a, lists the members of an event's details. This module does no I/O and knows no log lines.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.model.before import difference, expanded
from manifestlog.model.rows import Row, source_key
from manifestlog.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

Details = dict[str, Any]
"""The members of an event as they lie on disk."""

ERROR_CHARACTERS_MAX = 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class EventKind(StrEnum):
    """What an event is.

    - `PUT`: a content was recorded, with this `verdict`.
    - `UPDATE`: `update` changed a record.
    - `RELOCATE`: `relocate` changed a record's paths.
    - `RETIME`: `retime` changed a record's times.
    - `UNDO`: `undo` reverted a change of a record.
    - `FORGET`: a record was removed.
    - `META`: metadata changed.
    - `BEGUN`: a run began.
    - `ENDED`: a run ended.
    - `FAILED`: an attempt failed; it left no record.
    - `DERIVED`: a known output was made again, and its record shows a later derivation; or inputs led to no output.
    - `RESET`: only from `changes`: the history does not reach back to the cursor. The present records follow.
    - `SNAPSHOT`: only after a `RESET`: a record as it is now.
    """

    PUT = "put"
    UPDATE = "update"
    RELOCATE = "relocate"
    RETIME = "retime"
    UNDO = "undo"
    FORGET = "forget"
    META = "meta"
    BEGUN = "begun"
    ENDED = "ended"
    FAILED = "failed"
    DERIVED = "derived"

    RESET = "reset"
    SNAPSHOT = "snapshot"


KIND_WORDS = {
    **{kind.value: kind for kind in EventKind if kind not in (EventKind.RESET, EventKind.SNAPSHOT)},
    **{verdict.value: verdict for verdict in Verdict},
}
"""What a query of a history can ask for by name: each kind of event, and each verdict of a put."""

_NO_CHANGE = frozenset(
    {EventKind.BEGUN, EventKind.ENDED, EventKind.FAILED, EventKind.DERIVED, EventKind.RESET, EventKind.SNAPSHOT}
)
SAY_BEFORE = frozenset({"was", "event"})
"""What must be readable of an event for it to say what was there before it."""


class Query(NamedTuple):
    """Which events to return: those that match every given member."""

    source_id: str | None = None
    dataset: str | None = None
    checksums: frozenset[str] | None = None
    """Contents; an event names one of them as its content or as an input. None: all."""
    run: str | None = None
    kinds: frozenset[EventKind | Verdict] = frozenset()
    """Empty: every kind. A verdict means the puts with that verdict."""
    since: str = ""
    """The earliest time, as text in UTC with six fractional digits and Z."""
    until: str = "~"
    """The latest time, in the same form."""
    reverse: bool = False
    """The latest event first."""
    other_inputs: bool = False
    """Only events with inputs that their record does not show any more, or never did."""
    without_run: str | None = None
    """A run whose events are left out."""

    def matches(self, event: Event) -> bool:
        """Return whether the query asks for this event."""
        if not self.since <= event.ts <= self.until:
            return False
        if self.kinds and event.kind not in self.kinds and event.verdict not in self.kinds:
            return False
        if self.run is not None and event.run != self.run:
            return False
        if self.without_run is not None and event.run == self.without_run:
            return False
        return self._names(event)

    def _names(self, event: Event) -> bool:
        if self.other_inputs and "inputs" not in event.details:
            return False
        asked = self.checksums
        if asked is not None and event.checksum not in asked and asked.isdisjoint(event.inputs):
            return False
        if (self.source_id is None or self.source_id == event.source_id) and (
            self.dataset is None or self.dataset == event.dataset
        ):
            return True
        return event.kind is EventKind.ENDED and any(
            self.source_id in (None, source_id) and self.dataset in (None, dataset)
            for source_id, dataset in event.recovered
        )


class Event(NamedTuple):
    """One event of a manifest's history."""

    cursor: str
    """The position after this event; `changes(since=cursor)` continues here."""
    ts: str
    """When it was written, as ISO-8601 text in UTC."""
    kind: EventKind
    checksum: str | None
    """The content of the event, if any."""
    row: Row | None
    """The whole record after the event, as a plain row; None if there is none."""
    details: Details
    """The event's members as they are on disk, without the invalid ones."""
    unreadable: tuple[str, ...] = ()
    """The names of invalid members, which a newer program may have written; `event` if the whole event is invalid."""

    @property
    def time(self) -> datetime:
        """When it was written, as an aware time in UTC."""
        return datetime.fromisoformat(self.ts)

    @property
    def is_change(self) -> bool:
        """Whether it changed records or metadata."""
        return self.kind not in _NO_CHANGE

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of a put; None for any other kind, or if it cannot be read."""
        found = self.details.get("verdict")
        if self.kind is not EventKind.PUT or (found is None and self.unreadable):
            return None
        return Verdict.NEW if found is None else Verdict(found)

    @property
    def source_id(self) -> str | None:
        return self._own("source_id")

    @property
    def dataset(self) -> str | None:
        return self._own("dataset")

    @property
    def version(self) -> str | None:
        """The version of the code that produced the content."""
        return self._own("version")

    def _own(self, name: str) -> str | None:
        found = self.details.get(name)
        return (self.row or self.was or {}).get(name) if found is None else found

    @property
    def run(self) -> str | None:
        """The run that the event belongs to."""
        return self.details.get("run")

    @property
    def stage(self) -> str | None:
        return self.details.get("stage")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The checksums that the content was made from, or was to be made from. At the end of a run: the obsolete ones."""
        found = self.details.get("inputs")
        return tuple((self.row or {}).get("derived_from", ()) if found is None else found)

    @property
    def url(self) -> str | None:
        """The URL, with credentials and query values masked."""
        return self.details.get("url")

    @property
    def status(self) -> int | None:
        """The HTTP status."""
        return self.details.get("status")

    @property
    def bytes(self) -> int | None:
        """Bytes transferred."""
        found = self.details.get("bytes")
        return (self.row or {}).get("file_size") if found is None else found

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return self.details.get("seconds")

    @property
    def error(self) -> str | None:
        """Why the attempt or the run failed."""
        return self.details.get("error")

    @property
    def judgement(self) -> str | None:
        """What a stage judged its input to be: `valid`, `invalid`, or None."""
        return self.details.get("judgement")

    @property
    def recovered(self) -> tuple[tuple[str, str], ...]:
        """The sources (source_id, dataset) that had failed, and answered "unchanged" in the run that ended."""
        return tuple((one["source_id"], one["dataset"]) for one in self.details.get("recovered", ()))

    @property
    def was(self) -> Row | None:
        """The members that were different before; None if there was no record, or if this cannot be read."""
        found: Row | None = self.details.get("was")
        return None if found is None else expanded(found, self.row)

    @property
    def says_before(self) -> bool:
        """Whether the event says what was there before it. `was` alone is not enough, because None may mean "no record".

        Events are missing before a `gap`, so earlier states cannot be computed from it.
        """
        if "gap" in self.details:
            return False
        return not self.unreadable or not SAY_BEFORE.intersection(self.unreadable)


def change_details(given: Details, verdict: Verdict, before: Row | None, after: Row, source: Row) -> Details:
    """Return the details of a put: what the caller gave, the verdict, what was there before, and whose observation it was."""
    found = dict(given)
    if verdict is not Verdict.NEW:
        found["verdict"] = verdict.value
    if before is not None:
        found["was"] = difference(before, after)
        if (inputs := _other_inputs(before, after, source)) is not None:
            found["inputs"], found["version"] = inputs, source["version"]
    if source_key(source) != source_key(after):
        found["source_id"], found["dataset"] = source_key(source)
    if found.get("bytes") == after["file_size"]:
        del found["bytes"]
    return found


def event_members(event: Event, manifest: str) -> dict[str, Any]:
    """Return an event of the manifest with this name as the command line prints it in JSON.

    The same members in every event, null if they say nothing, and then the details that only some events have.
    """
    verdict = event.verdict
    shown = {
        "cursor": event.cursor,
        "ts": event.ts,
        "kind": event.kind.value,
        "verdict": None if verdict is None else verdict.value,
        "manifest": manifest,
        "checksum": event.checksum,
        "source_id": event.source_id,
        "dataset": event.dataset,
        "run": event.run,
        "stage": event.stage,
        "version": event.version,
        "url": event.url,
        "status": event.status,
        "bytes": event.bytes,
        "seconds": event.seconds,
        "inputs": list(event.inputs),
        "error": event.error,
        "record": event.row,
        "was": event.was,
    }
    more = {name: value for name, value in event.details.items() if name not in shown}
    return shown | more | ({"unreadable": list(event.unreadable)} if event.unreadable else {})


def _other_inputs(before: Row, after: Row, source: Row) -> list[str] | None:
    """Return the inputs of an event if the record shows others, or showed others before; so a search for them finds it.

    Also if the record shows another version, as it does when another source's observation is in front.
    """
    inputs: list[str] = source.get("derived_from", [])
    if not inputs:
        return None
    shown = {tuple(row.get("derived_from", ())) for row in (before, after)}
    is_shown = shown == {tuple(sorted(inputs))} and after["version"] == source["version"]
    return None if is_shown else list(inputs)


def kept(members: Mapping[str, Any]) -> Details:
    """Return the members that say something, in this order; texts of errors are made one bounded line."""
    found = {name: value for name, value in members.items() if value is not None}
    if "error" in found:
        found["error"] = one_line(str(found["error"]))
    return found


def one_line(text: str) -> str:
    """Return a text without control characters and of at most `ERROR_CHARACTERS_MAX` characters."""
    plain = utf8(_CONTROL.sub(" ", text).strip())
    return plain if len(plain) <= ERROR_CHARACTERS_MAX else plain[: ERROR_CHARACTERS_MAX - 1] + "…"


def last_lines(text: str) -> str:
    """Return the end of a text of several lines: at most `ERROR_CHARACTERS_MAX` characters, no other control characters."""
    plain = utf8("\n".join(_CONTROL.sub(" ", line).rstrip() for line in text.splitlines()).strip())
    return plain if len(plain) <= ERROR_CHARACTERS_MAX else "…" + plain[1 - ERROR_CHARACTERS_MAX :]


def utf8(text: str) -> str:
    """Return a text that can be written as UTF-8."""
    return text.encode("utf-8", "replace").decode()
