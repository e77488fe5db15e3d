"""What can be asked of an open manifest and what can be done to it, on rows.

The way of a record: `add` → `Session.transact` (three locks, everything read that others wrote) → `_add` → `decide`
(verdict) → `Session.append` (one line) → the locks are released → the line is synced.

Invariants:

- A write is decided and appended in one transaction, so of many that add one unknown content exactly one is first.
- Encoding and its errors come before the locks; only what a merge made is encoded under them.

It knows rows, not models, and neither locks nor syncs by itself (`session`).
"""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.engines.filelog.log.lines import Op
from manifestlog.engines.filelog.overlay import Overlay
from manifestlog.engines.filelog.session import Session, now_text
from manifestlog.engines.filelog.state import State
from manifestlog.engines.filelog.view import View
from manifestlog.errors import RecordNotFoundError
from manifestlog.model import codec, roots
from manifestlog.model.codec import Encoded, encoded_row
from manifestlog.model.relocation import Move, Relocation
from manifestlog.model.retiming import Retimed, horizon, new_times, with_times
from manifestlog.model.rows import (
    Row,
    Sighting,
    find_observation,
    normalise,
    observation,
    observations,
    order_of,
    pair_of,
    view,
)
from manifestlog.model.verdict import Verdict, decide, later_than_current, ranked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.names import ManifestPaths
    from manifestlog.options import ManifestOptions

Event = tuple[Encoded, bool]
"""A record, encoded before any lock is taken, and whether its own source is the only one that it names."""


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

    def root(self) -> str:
        """The absolute folder at which relative paths begin."""
        return self.session.read(self._root)

    def stated(self, path: str) -> str:
        """An absolute path as a record should state it: relative when it lies below the root, else as it is."""
        root = self.root()
        folder, name = os.path.split(path)
        found = roots.stated(root, path)
        if os.path.isabs(path) and (found == path or os.pardir in path.split(os.sep)):
            found = roots.stated(root, os.path.join(os.path.realpath(folder), name))  # the root has its links resolved
        return path if os.path.isabs(found) else found

    def _root(self, state: State) -> str:
        return roots.root_of(str(state.metadata["root_dir"]), self.paths.directory)

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, event: Event, *, live: bool = False) -> tuple[Verdict, Row | None]:
        """Record one event; the answer holds the row as its source sees it, None when the event itself became the record.

        A live event gets a time behind its source's current record.
        """
        return self.session.transact(lambda state: self._add(state, event, live=live))

    def _add(self, state: State, event: Event, *, live: bool = False) -> tuple[Verdict, Row | None]:
        put, alone = event
        _, checksum, source_ids = put
        if alone and not state.view.knows(checksum, source_ids[0]):
            # `decide` would say the same; most additions are this, and need not be parsed for it.
            self._append_put(state, put)
            return Verdict.NEW, None
        if live:
            put = self._later_than_current(state.view, put)
        row, verdict, stored, known = _decide(state.view, put, self._root(state))
        if stored is None:
            assert known is not None
            if not state.distrusts(checksum):
                return verdict, view(known, pair_of(row))
            # Its line is in a segment whose sync failed: "already there" would promise what the disk did not.
            stored = known
        self._append_put(state, put if stored is row else self._encoded_bytes(stored))
        return verdict, None if stored is row and put is event[0] else view(stored, pair_of(row))

    def _later_than_current(self, seen: View, put: Encoded) -> Encoded:
        row: Row = codec.loads(put[0])
        moved = later_than_current(row, _sightings(seen, row))
        return put if moved is row else self._encoded_bytes(moved)

    def _append_put(self, state: State, put: Encoded) -> None:
        self.session.append(state, Op("put", now_text(), [put], {}))

    def _encoded_bytes(self, row: Row) -> Encoded:
        return encoded_row(codec.encode_row(row, self.options.record_bytes_max), row)

    def add_batch(self, events: list[Event]) -> dict[Verdict, int]:
        """Record many events as one line: all of them or none."""
        return self.session.transact(lambda state: self._add_batch(state, events))

    def _add_batch(self, state: State, events: list[Event]) -> dict[Verdict, int]:
        staged = Overlay()
        seen = View(state.base, (staged, state.overlay))
        counts = dict.fromkeys(Verdict, 0)
        puts: list[Encoded] = []
        for event in events:
            verdict, put = self._stage(state, seen, event)
            counts[verdict] += 1
            if put is not None:
                puts.append(put)
                staged.put_all(puts[-1:], 0)
        if puts:
            self.session.append(state, Op("batch", now_text(), puts, {}))
        return counts

    def _stage(self, state: State, seen: View, event: Event) -> tuple[Verdict, Encoded | None]:
        """The verdict on one event of a batch, and what is to be written if anything."""
        put, alone = event
        if alone and not seen.knows(put[1], put[2][0]):
            return Verdict.NEW, put
        row, verdict, stored, known = _decide(seen, put, self._root(state))
        if stored is None and state.distrusts(put[1]):
            stored = known
        if stored is None:
            return verdict, None
        return verdict, put if stored is row else self._encoded_bytes(stored)

    def forget(self, checksum: str) -> bool:
        """Remove a content and all that was observed of it; false when it was not there."""
        return self.session.transact(lambda state: self._forget(state, checksum))

    def _forget(self, state: State, checksum: str) -> bool:
        known = state.view.has(checksum)
        if known or state.distrusts(checksum):  # "not there" is a promise as well
            self.session.append(state, Op("forget", now_text(), [], {"checksum": checksum}))
        return known

    def update(self, checksum: str, changes: Row) -> tuple[Verdict, Row]:
        """Replace members of a record; raises `RecordNotFoundError`."""
        return self.session.transact(lambda state: self._update(state, checksum, changes))

    def _update(self, state: State, checksum: str, changes: Row) -> tuple[Verdict, Row]:
        known = state.view.row(checksum)
        if known is None:
            raise RecordNotFoundError(checksum)
        changed, _ = normalise(known | changes, checksum)
        if changed != known:
            changed, _ = normalise(_ranked_anew(state.view, known, known | changes, checksum), checksum)
        if changed == known:
            if state.distrusts(checksum):
                self._append_put(state, self._encoded_bytes(known))
            return Verdict.DUPLICATE, known
        self._append_put(state, self._encoded_bytes(changed))
        return Verdict.REFRESHED, changed

    def set_metadata(self, changes: dict[str, str]) -> None:
        """Change members of the manifest's metadata."""
        self.session.transact(lambda state: self._set_metadata(state, changes))

    def _set_metadata(self, state: State, changes: dict[str, str]) -> None:
        if changes.items() <= state.metadata.items():
            return
        self.session.append(state, Op("meta", now_text(), [], {"metadata": changes}))

    def has_relative_path(self) -> bool:
        """Whether a record names a relative path, which leads elsewhere when the root changes."""
        frozen, checksums = self.frozen()
        rows = (frozen.row(checksum) for checksum in checksums)
        return any(not os.path.isabs(seen["file_path"]) for row in rows if row for seen in observations(row))

    def from_the_future(self) -> list[tuple[str, str, str, str]]:
        """(source_id, dataset, checksum, time) of all that is stamped in the future, by source and in order of time."""
        moment = horizon(datetime.now(UTC))
        return self.session.read(lambda state: _later(state.view.frozen(), moment))

    def retime(self, source_id: str | None, dataset: str | None, *, keep_current: bool, dry_run: bool) -> list[Retimed]:
        """Give what is stamped in the future the time that it must have had; `None` is every source, every dataset."""
        now = datetime.now(UTC)

        def act(state: State) -> list[Retimed]:
            seen = state.view.frozen()
            ahead: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
            for source, name, checksum, when in _later(seen, horizon(now)):
                if source_id in (None, source) and dataset in (None, name):
                    ahead[source, name].append((when, checksum))
            changes: list[Retimed] = []
            for (source, name), found in ahead.items():
                latest = seen.latest_until(source, name, horizon(now))
                before = None if latest is None else latest.order[0]
                after = new_times([when for when, _ in found], before, now, keep_current=keep_current)
                changes += [Retimed(source, name, c, f"{w}Z", t) for (w, c), t in zip(found, after, strict=True)]
            if changes and not dry_run:
                self._retime(state, changes)
            return changes

        return self.session.read(act) if dry_run else self.session.transact(act)

    def _retime(self, state: State, changes: list[Retimed]) -> None:
        times: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
        for one in changes:
            times[one.checksum][one.source_id, one.dataset] = one.after
        rows = ((state.view.row(checksum), by_pair) for checksum, by_pair in times.items())
        puts = [self._encoded_bytes(with_times(row, by_pair)) for row, by_pair in rows if row is not None]
        self.session.append(state, Op("batch", now_text(), puts, {}))

    def relocate(self, old: str, new: str, *, dry_run: bool) -> Relocation:
        """Move every path below the folder `old`, as of now, to `new`; then the root, where it lies there."""
        move = Move(self.paths.directory, str(self.metadata()["root_dir"]), old, new)
        batches, paths = self._to_move(move)
        for checksums in [] if dry_run else batches:
            self.session.transact(lambda state, checksums=checksums: self._move(state, move, checksums))  # type: ignore[misc]
        if move.root_dir is not None and not dry_run:
            self.set_metadata({"root_dir": move.root_dir})
        return Relocation(sum(map(len, batches)), paths, move.root_dir, len(batches))

    def _to_move(self, move: Move) -> tuple[list[list[str]], int]:
        """(the checksums of rows that a move changes, in batches that a segment holds; the number of paths)."""
        frozen, checksums = self.frozen()
        batches: list[list[str]] = []
        waiting, paths = self.options.segment_bytes_max, 0
        for checksum in checksums:
            row = frozen.row(checksum)
            assert row is not None
            moved, changed = move.row(row)
            if not changed:
                continue
            length = len(codec.encode_row(moved, self.options.record_bytes_max))  # raises before anything is written
            if waiting + length > self.options.segment_bytes_max:
                batches.append([])
                waiting = 0
            batches[-1].append(checksum)
            waiting += length
            paths += changed
        return batches, paths

    def _move(self, state: State, move: Move, checksums: list[str]) -> None:
        rows = (state.view.row(checksum) for checksum in checksums)
        moved = (move.row(row) for row in rows if row is not None)
        puts = [self._encoded_bytes(row) for row, changed in moved if changed]
        if puts:
            self.session.append(state, Op("batch", now_text(), puts, {}))


def _decide(seen: View, put: Encoded, root: str) -> tuple[Row, Verdict, Row | None, Row | None]:
    """(the event's row, verdict, the row to append if any, the row known before)."""
    row: Row = codec.loads(put[0])
    known = seen.row(put[1])
    verdict, stored = decide(row, known, _sightings(seen, row), root)
    return row, verdict, stored, known


def _later(frozen: View, moment: str) -> list[tuple[str, str, str, str]]:
    rows = list(frozen.later_than(moment))
    found = [(o, row["checksum"]) for row in rows for o in observations(row) if order_of(o)[0] > moment]
    return [
        (*pair_of(o), checksum, order_of(o)[0])
        for o, checksum in sorted(found, key=lambda one: (pair_of(one[0]), order_of(one[0])))
    ]


def _ranked_anew(seen: View, known: Row, edited: Row, checksum: str) -> Row:
    """The edited row with the rank that its own observation has at its time, which may be another now.

    Not that of the latest one: an observation that was moved back in time leaves the front to one that was not edited.
    """
    edited = edited | {"tie": 0}
    normal, _ = normalise(edited, checksum)
    own = find_observation(normal, pair_of(edited))
    assert own is not None
    event = observation(own) | {"checksum": checksum}
    return edited | {"tie": ranked(event, _sightings(seen, event), known).get("tie", 0)}


def _sightings(seen: View, row: Row) -> list[Sighting]:
    """What the row's source and dataset had last, and what its source had at the row's very time."""
    return seen.around(*pair_of(row), order_of(row)[0])
