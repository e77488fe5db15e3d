"""Follows a manifest: yields every event after a cursor, once and in order. Owns the names that followers register.

Invariants:

- A follower sees each event once, across restarts, compactions, packing and copies of the manifest's directory.
- A follower never misses an event unnoticed. If some events after a cursor no longer exist, it receives one `RESET`,
  then a `SNAPSHOT` of each present record, and continues from that moment.
- A `RESET` and its `SNAPSHOT`s have the old cursor, except for the last of them. So a follower that stops in the middle
  of them starts them again.

It polls: testing whether the log has grown takes one system call (docs/decisions/history.md).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

from manifestlog.errors import CursorError, DamagedManifestError, HistoryReachError
from manifestlog.model.events import Event, EventKind
from manifestlog.queries import log_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from manifestlog.engines.protocol import Engine

POLL_S = 0.02
"""How often a follower that waits asks whether there is something new."""
_EVENTS_A_TURN = 100
"""After so many events, the asynchronous form lets other tasks run."""


class ChangeFeed:
    """A position in a manifest's history that moves forward: what `changes` and `follow` are made of.

    Created by `manifest.feed`, for loops that watch several manifests.
    """

    def __init__(self, engine: Engine, since: str | None, *, without_run: str | None = None) -> None:
        self._engine = engine
        self._without_run = without_run
        self.cursor = engine.start() if since is None else since
        """The position after the last event that was returned."""
        self._is_ours = since is None
        """Whether this manifest had the cursor once: if not any more, its last events were taken back."""

    def new(self) -> Iterator[Event]:
        """Yield every event since the last call, or none. Raises `CursorError` and `DamagedManifestError`.

        Events may be taken back: by a restore, or by the promotion of a standby that did not have them yet. Then, and if
        events were cut, `reset` comes, and the present records after it.
        """
        end = self._engine.cursor()
        if end == self.cursor:
            self._is_ours = True
            return
        before = self.cursor
        failed = ""
        while True:
            try:
                for event in self._engine.events_after(self.cursor, without_run=self._without_run):
                    self.cursor, self._is_ours = event.cursor, True
                    yield event
                    failed = ""
                self._is_ours = True
                break
            except (CursorError, HistoryReachError) as error:
                if isinstance(error, CursorError) and not self._is_ours:
                    raise
                yield from self._start_again()
                return
            except DamagedManifestError as error:
                # A compaction may have cut what was being read. If it was damaged, the same error comes again.
                if str(error) == failed:
                    raise
                failed = str(error)
        if self.cursor == before:
            self.cursor = end  # only lines without an event, such as a compaction's

    def _start_again(self) -> Iterator[Event]:
        now, present = self._engine.present()
        event = Event(self.cursor, log_time(datetime.now(UTC)), EventKind.RESET, None, None, {})
        for row in present.rows():
            yield event
            event = event._replace(kind=EventKind.SNAPSHOT, checksum=row["checksum"], row=row)
        self.cursor = now
        yield event._replace(cursor=now)


def changes(engine: Engine, since: str | None, wait_s: float | None) -> Iterator[Event]:
    """Yield every event after a cursor; end when none has come for `wait_s` seconds."""
    found = ChangeFeed(engine, since)
    quiet_since = time.monotonic()
    while True:
        for event in found.new():
            yield event
            quiet_since = time.monotonic()
        left_s = _left_s(quiet_since, wait_s)
        if left_s <= 0:
            return
        time.sleep(left_s)


async def achanges(engine: Engine, since: str | None, wait_s: float | None) -> AsyncIterator[Event]:
    """Yield as `changes` does; other tasks run while it waits."""
    asyncio = import_module("asyncio")  # slow to import, and loaded already where this is used
    found = ChangeFeed(engine, since)
    quiet_since = time.monotonic()
    while True:
        for number, event in enumerate(found.new(), 1):
            yield event
            quiet_since = time.monotonic()
            if number % _EVENTS_A_TURN == 0:
                await asyncio.sleep(0)
        left_s = _left_s(quiet_since, wait_s)
        if left_s <= 0:
            return
        await asyncio.sleep(left_s)


def _left_s(quiet_since: float, wait_s: float | None) -> float:
    """Return how long to wait before the next look; 0 if the time is over."""
    if wait_s is None:
        return POLL_S
    return min(POLL_S, quiet_since + wait_s - time.monotonic())
