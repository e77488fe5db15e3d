"""Mirrors a manifest: keeps a read replica of it in files, so that lookups need no server.

::

    (1) apply some events of the source, all or none of them   crash after (1): the note names the cursors before them
    (2) note the source's cursor, and the replica's own        crash after (2): nothing is left to do

The next start counts the events in the replica after the noted cursor, and skips as many events of the source. So each
event is applied once, even after a crash.

Invariants:

- A replica shows one moment of its source, with its events and their times. Only a mirror writes to it.
- If events of the source no longer exist, or the replica has other events, the mirror compares both and writes the
  differences. Meanwhile the replica has records of two moments, and its age shows that it is not current.
- A replica that is not current states its age: `as_of` is the last time at which it had everything of the source.
"""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Self

from manifestlog.copy_errors import ManifestExistsError
from manifestlog.copying import EVENTS_AT_ONCE, IDENTITY, common_end, rerooted, rerooted_event
from manifestlog.engines.protocol import Capability, Replica
from manifestlog.engines.registry import driver_for, open_to_read
from manifestlog.errors import CursorError, HistoryReachError, LockTimeoutError, ManifestError, ManifestNotFoundError
from manifestlog.following import POLL_S, ChangeFeed
from manifestlog.model import roots
from manifestlog.model.before import difference
from manifestlog.model.differences import content_differences
from manifestlog.model.events import Event, EventKind
from manifestlog.model.writes import forget_details
from manifestlog.names import PathOrUrl, location_in
from manifestlog.options import ManifestOptions
from manifestlog.queries import log_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from manifestlog.engines.protocol import Engine, Snapshot
    from manifestlog.model.differences import ContentRows

log = logging.getLogger(__name__)

BUSY_PAUSE_S = 0.2
"""A busy mirror collects events for so long: those that are applied together are a file of their own until a compaction."""
_NOTE_S = 1.0
"""How often a busy mirror notes its position,"""
_IDLE_NOTE_S = 5.0
"""and an idle one that it is current."""
PAUSE_MAX_S = 1.0
"""An idle mirror asks the source so often."""
_COUNTED = frozenset({"total_records", "ts_updated"})
"""Metadata that follow from the events."""


class ReplicaState(NamedTuple):
    """The source of a replica, and how old the replica is."""

    source: str
    """The manifest that it follows."""
    as_of: str | None
    """The last time at which it had everything of the source, as text in UTC; None if it was never complete."""

    @property
    def age_s(self) -> float | None:
        """The time since `as_of`, in seconds; None if it was never complete."""
        if self.as_of is None:
            return None
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(self.as_of)).total_seconds())


@dataclass(slots=True)
class MirrorReport:
    """What a mirror has done since it was opened."""

    source: str
    replica: str
    records: int = 0
    """How many records the replica has."""
    events: int = 0
    """How many events were applied."""
    comparisons: int = 0
    """How often all records were compared, because the source no longer had all events."""
    as_of: str | None = None
    """The last time at which the replica had everything of the source, as text in UTC."""


def replica_state(manifest: PathOrUrl) -> ReplicaState | None:
    """Return the state of the replica at a path; None for a manifest that is not a replica. Reads one small file."""
    driver = driver_for(manifest)
    found = driver.replica(driver.locate(os.fspath(manifest)))
    return None if found is None else ReplicaState(found.source, found.as_of or None)


class Mirror:
    """A replica of the manifest at a path or URL, in files in a directory, under the same name. A context manager.

    Opening it creates the replica, if there is none. Raises `ManifestExistsError` if something else is in its place.
    """

    def __init__(self, source: PathOrUrl, directory: PathOrUrl, *, options: ManifestOptions | None = None) -> None:
        used = options or ManifestOptions()
        engine = open_to_read(source, used)
        try:
            self._begin(engine, directory, used)
        except BaseException:
            engine.close()
            raise

    def _begin(self, source: Engine, directory: PathOrUrl, options: ManifestOptions) -> None:
        text = location_in(directory, source.location.name)
        self._source, self._driver = source, driver_for(text)
        self._place = self._driver.locate(text)
        if Capability.REPLICA not in self._driver.capabilities:
            raise ManifestError(f"{self._place.display}: a replica is a manifest in files; name a directory")
        self.report = MirrorReport(source.location.display, self._place.display)
        self._noted_at: float | None = None
        self._feed: ChangeFeed | None = None
        self._replica, self._note = self._opened(options)

    def _opened(self, options: ManifestOptions) -> tuple[Engine, Replica]:
        """Open the replica, or make it."""
        driver, place, display = self._driver, self._place, self._source.location.display
        note = driver.replica(place)
        if note is None:
            self._refuse_manifest(options)
            note = Replica(display, "", "", "")
            driver.set_replica(place, note)
        elif note.source != display:
            raise ManifestExistsError(place.display, f"it is a replica of {note.source}, not of {display}")
        if note.cursor:
            return driver.open_replica(place, options), note
        with suppress(ManifestExistsError):  # it is new, or a mirror was killed before the replica was whole
            return self._made(options)
        replica = driver.open_replica(place, options)
        return replica, self._found_again(replica, note)

    def _made(self, options: ManifestOptions) -> tuple[Engine, Replica]:
        now = _now()
        image = rerooted(self._source.image(), self._absolute)
        replica = self._driver.load(self._place, image, options)
        self.report.events += image.events_total
        note = Replica(self.report.source, image.cursor, replica.cursor(), now)
        self._driver.set_replica(self._place, note)  # else whoever goes on has to compare all records
        return replica, note

    def _found_again(self, replica: Engine, note: Replica) -> Replica:
        """Return the note with the position of a replica whose mirror was killed before it noted one.

        Its events are the first ones of the source. Otherwise the note stays as it is, and all records are compared.
        """
        image = rerooted(self._source.image(), self._absolute)
        before = replica.image()
        if image.reach is None:
            with suppress(ManifestExistsError):
                cursor = common_end(before, image, self._place.display) or self._source.start()
                return note._replace(cursor=cursor, own=before.cursor)
        return note

    def _refuse_manifest(self, options: ManifestOptions) -> None:
        """Raise `ManifestExistsError` for a manifest in the place of the replica."""
        with suppress(ManifestNotFoundError):
            self._driver.open(self._place, None, options, read_only=True).close()
            raise ManifestExistsError(self._place.display, "a manifest is there that is no replica")

    def _absolute(self, root_dir: str) -> str:
        """Return a root that leads to the same directory from anywhere."""
        return roots.root_of(root_dir, self._source.location.directory)

    # -- following -----------------------------------------------------------------------------------------------------

    def update(self) -> int:
        """Apply the new events of the source, and return their number. They are durable on return.

        Raises the errors of reading the source, and `ManifestExistsError` if another mirror writes to the replica. You can
        call it again after each.
        """
        applied = self._step()
        self._save()
        return applied

    def run(self, is_over: Callable[[], bool], *, pause_max_s: float = PAUSE_MAX_S) -> None:
        """Follow the source until `is_over` returns true; ask it at least every `pause_max_s` seconds for changes.

        If the source's server goes away, wait for it; meanwhile the replica answers, and gets older.
        """
        pause_s, is_away = POLL_S, False
        while not is_over():
            try:
                applied, is_away = self._step(), False
            except LockTimeoutError as error:
                if not is_away:
                    log.warning(
                        "%s; the replica answers as of %s meanwhile", error, self._note.as_of or "an earlier time"
                    )
                applied, is_away = 0, True
            if not is_away:
                self._save_if_due(busy=applied > 0)
            pause_s = min(BUSY_PAUSE_S if applied else 2 * pause_s, pause_max_s)
            if not is_over():
                time.sleep(pause_s)
        self._save()

    def _step(self) -> int:
        """Apply what is new, and say in memory as of when."""
        now, before = _now(), self.report.events
        feed, self._feed = self._feed or self._continued(), None  # after an error, the position is found out anew
        try:
            is_current = feed is not None and self._apply(feed)
        except (CursorError, HistoryReachError) as error:
            log.warning("%s", error)
            is_current = False
        self._feed = feed if is_current else self._compared()
        self._note = self._note._replace(as_of=now)
        return self.report.events - before

    def _continued(self) -> ChangeFeed | None:
        """Return the source's events after those that the replica has; None if the two do not fit together."""
        note = self._note
        if not note.cursor:
            return None
        feed = ChangeFeed(self._source, note.cursor)
        try:
            new = feed.new()
            for event in self._replica.events_after(note.own):
                given = next(new, None)
                if given is None or rerooted_event(given, self._absolute)[1:] != event[1:]:
                    return None
                note = note._replace(cursor=given.cursor, own=event.cursor)
        except (CursorError, HistoryReachError):
            return None
        self._note = note
        return ChangeFeed(self._source, note.cursor)

    def _apply(self, feed: ChangeFeed) -> bool:
        """Apply every event of the feed; return false if some are no longer there."""
        some: list[Event] = []
        for event in feed.new():
            if event.kind is EventKind.RESET:
                log.warning("%s: the history no longer reaches back to the replica", self.report.source)
                return False
            some.append(rerooted_event(event, self._absolute))
            if len(some) >= EVENTS_AT_ONCE:
                self._replay(some, event.cursor)
                some = []
        self._replay(some, feed.cursor)
        return True

    def _replay(self, events: list[Event], cursor: str) -> None:
        own = self._replica.replay(events, self._note.own) if events else self._note.own
        self._note = self._note._replace(cursor=cursor, own=own)
        self.report.events += len(events)

    def _compared(self) -> ChangeFeed:
        """Write what differs between the source and the replica."""
        log.warning("%s: comparing all records with %s", self.report.replica, self.report.source)
        cursor, there = self._source.present()
        own, here = self._replica.present()
        if any(there.metadata[name] != here.metadata[name] for name in IDENTITY):
            raise ManifestExistsError(
                self._place.display, f"{self.report.source} was made anew; this is a replica of the old one"
            )
        self.report.comparisons += 1
        differences = changes_between(here, there, self._absolute)
        self._note = self._note._replace(cursor="", own=own)
        while some := list(islice(differences, EVENTS_AT_ONCE)):
            self._replay(some, "")
        self._note = self._note._replace(cursor=cursor)
        return ChangeFeed(self._source, cursor)

    # -- the note ------------------------------------------------------------------------------------------------------

    def _save_if_due(self, *, busy: bool) -> None:
        passed_s = math.inf if self._noted_at is None else time.monotonic() - self._noted_at
        if passed_s >= (_NOTE_S if busy else _IDLE_NOTE_S):
            self._save()

    def _save(self) -> None:
        """Note on disk how far the replica has come, and as of when."""
        self._driver.set_replica(self._place, self._note)
        self._noted_at = time.monotonic()
        self.report.records, self.report.as_of = self._replica.count(), self._note.as_of or None

    def close(self) -> None:
        """Close the source and the replica. Idempotent."""
        self._source.close()
        self._replica.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def mirror_manifest(source: PathOrUrl, directory: PathOrUrl, *, options: ManifestOptions | None = None) -> MirrorReport:
    """Bring the replica of a manifest in a directory up to date, or create it. Raises as `Mirror` and its `update`."""
    with Mirror(source, directory, options=options) as found:
        found.update()
        return found.report


def changes_between(here: Snapshot, there: Snapshot, change_root: Callable[[str], str]) -> Iterator[Event]:
    """Yield the events that make a snapshot the same as another one, with the time of its last change.

    The first one says that events are missing before it: of the time between the two, nobody knows anything.
    """
    ts = log_time(there.metadata["ts_updated"])
    roots_there = there.metadata | {"root_dir": change_root(str(there.metadata["root_dir"]))}
    names_changed = [
        name for name in roots_there if name not in _COUNTED and here.metadata.get(name) != roots_there[name]
    ]
    was = {name: here.metadata.get(name) for name in names_changed}
    details = {"was": was, "gap": True, "metadata": {name: roots_there[name] for name in names_changed}}
    yield Event("", ts, EventKind.META, None, None, details)
    for found in content_differences(here, there):
        yield _change(found, ts)


def _change(found: ContentRows, ts: str) -> Event:
    _, checksum, before, after = found
    if after is None:
        return Event("", ts, EventKind.FORGET, checksum, None, forget_details(before))
    if before is None:
        return Event("", ts, EventKind.PUT, checksum, after, {})
    details = {"kind": EventKind.UPDATE.value, "was": difference(before, after)}
    return Event("", ts, EventKind.UPDATE, checksum, after, details)


def _now() -> str:
    return log_time(datetime.now(UTC))
