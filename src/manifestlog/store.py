"""What can be asked of an open manifest and what can be done to it, on rows.

The way of a record: `add` → `Session.transact` (three locks, everything read that others wrote) → `_add` → `decide`
(verdict) → `Session.append` (one line) → the locks are released → the line is synced.

Invariants:

- A write is decided and appended in one transaction, so of many that add one unknown content exactly one is first.
- Encoding and its errors come before the locks; only what a merge made is encoded under them.

It knows rows, not models, and neither locks nor syncs by itself (`session`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifestlog.errors import RecordNotFoundError
from manifestlog.rows import Row, Sighting, normalise, order_of, pair_of, tidy, view
from manifestlog.session import Session, now_text
from manifestlog.storage import codec, lines
from manifestlog.storage.lines import Op, Put, put_of_row
from manifestlog.storage.overlay import Overlay
from manifestlog.storage.state import State
from manifestlog.storage.view import View
from manifestlog.verdict import Verdict, decide, ranked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.naming import ManifestPaths
    from manifestlog.options import ManifestOptions

Event = tuple[Row, bytes]
"""A row and its JSON, encoded before any lock is taken."""


class Store:
    """The operations on one open manifest; `session` is the way to it."""

    def __init__(self, paths: ManifestPaths, options: ManifestOptions, *, read_only: bool) -> None:
        self.paths = paths
        self.options = options
        self.session = Session(paths, options, read_only=read_only)

    # -- reading -------------------------------------------------------------------------------------------------

    def has(self, checksum: str) -> bool:
        return self.session.read(lambda state: state.view.has(checksum))

    def get(self, checksum: str) -> Row | None:
        """The row with this checksum."""
        return self.session.read(lambda state: state.view.row(checksum))

    def current(self, source_id: str, dataset: str | None) -> Row | None:
        """A source's latest row, as it sees it."""
        return self.session.read(lambda state: state.view.current(source_id, dataset))

    def frozen(self) -> tuple[View, Iterator[str]]:
        """A view that stays as it is now, and its checksums, sorted."""

        def freeze(state: State) -> tuple[View, Iterator[str]]:
            frozen = state.view.frozen()
            return frozen, frozen.checksums()

        return self.session.read(freeze)

    def total(self) -> int:
        return self.session.read(lambda state: state.total)

    def metadata(self) -> Row:
        return self.session.read(lambda state: state.live_metadata())

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, event: Event) -> tuple[Verdict, Row]:
        """Record one event; the answer holds the row as its source sees it: `event[0]` itself when it became the record."""
        return self.session.transact(lambda state: self._add(state, event))

    def _add(self, state: State, event: Event) -> tuple[Verdict, Row]:
        row = event[0]
        verdict, stored, known = _decide(state.view, row)
        if stored is None:
            assert known is not None
            if not state.distrusts(row["checksum"]):
                return verdict, view(known, pair_of(row))
            # Its line is in a segment whose sync failed: "already there" would promise what the disk did not.
            stored = known
        raw = self._encode(stored, event)
        self._append_put(state, raw, stored)
        return verdict, view(stored, pair_of(row))

    def _append_put(self, state: State, raw: bytes, stored: Row) -> None:
        ts = now_text()
        op = Op("put", ts, [put_of_row(raw, stored)], {})
        self.session.append(state, op, lambda synced: lines.put_body(ts, synced, raw))

    def _encode(self, stored: Row, event: Event) -> bytes:
        if stored is event[0]:
            return event[1]
        return codec.encode_row(stored, self.options.record_bytes_max)

    def add_batch(self, events: list[Event]) -> dict[Verdict, int]:
        """Record many events as one line: all of them or none."""
        return self.session.transact(lambda state: self._add_batch(state, events))

    def _add_batch(self, state: State, events: list[Event]) -> dict[Verdict, int]:
        staged = Overlay()
        seen = View(state.base, (staged, state.overlay))
        counts = dict.fromkeys(Verdict, 0)
        puts: list[Put] = []
        for event in events:
            verdict, stored, known = _decide(seen, event[0])
            counts[verdict] += 1
            if stored is None and state.distrusts(event[0]["checksum"]):
                stored = known
            if stored is not None:
                raw = self._encode(stored, event)
                puts.append(put_of_row(raw, stored))
                staged.put_all(puts[-1:], 0)
        if puts:
            ts = now_text()
            records = [put.raw for put in puts]
            self.session.append(state, Op("batch", ts, puts, {}), lambda synced: lines.batch_body(ts, synced, records))
        return counts

    def forget(self, checksum: str) -> bool:
        """Remove a content and all that was observed of it; false when it was not there."""
        return self.session.transact(lambda state: self._forget(state, checksum))

    def _forget(self, state: State, checksum: str) -> bool:
        if not state.view.has(checksum):
            return False
        ts = now_text()
        op = Op("forget", ts, [], {"checksum": checksum})
        self.session.append(state, op, lambda synced: lines.forget_body(ts, synced, checksum))
        return True

    def update(self, checksum: str, changes: Row) -> tuple[Verdict, Row]:
        """Replace members of a record; raises `RecordNotFoundError`."""
        return self.session.transact(lambda state: self._update(state, checksum, changes))

    def _update(self, state: State, checksum: str, changes: Row) -> tuple[Verdict, Row]:
        known = state.view.row(checksum)
        if known is None:
            raise RecordNotFoundError(checksum)
        changed, _ = normalise(known | changes, checksum)
        if changed != known:
            changed = tidy(ranked(changed | {"tie": 0}, _sightings(state.view, changed), known))
        if changed == known:
            return Verdict.DUPLICATE, known
        self._append_put(state, codec.encode_row(changed, self.options.record_bytes_max), changed)
        return Verdict.REFRESHED, changed

    def set_metadata(self, changes: dict[str, str]) -> None:
        """Change members of the manifest's metadata."""
        self.session.transact(lambda state: self._set_metadata(state, changes))

    def _set_metadata(self, state: State, changes: dict[str, str]) -> None:
        if changes.items() <= state.metadata.items():
            return
        ts = now_text()
        op = Op("meta", ts, [], {"metadata": changes})
        self.session.append(state, op, lambda synced: lines.meta_body(ts, synced, changes))


def _decide(seen: View, row: Row) -> tuple[Verdict, Row | None, Row | None]:
    """(verdict, the row to append if any, the row known before)."""
    known = seen.row(row["checksum"])
    verdict, stored = decide(row, known, _sightings(seen, row))
    return verdict, stored, known


def _sightings(seen: View, row: Row) -> list[Sighting]:
    """What the row's source had last in each dataset, and whatever it had at the row's very time or later."""
    return seen.sightings(row["source_id"], None, since=order_of(row)[0])
