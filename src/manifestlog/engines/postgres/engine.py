"""The PostgreSQL engine: one open manifest, shared by clients on many hosts. Threads may share it.

The path of a record: `add` → `fresh` (plans) → `single.add` (one round trip), or else `Transaction.begin` (locks,
lookups) → `plan_add` (verdict) → `Transaction.commit`. For a batch, `together.add` takes the place of `single.add`.

Invariants:

- A write is planned after it has taken its locks and before it writes. If many writers add one unknown content, one of
  them gets `new`.
- A repeated operation gives the answer that its first try decided.

It handles rows, not models. `connections` owns the connections, and the modules of the transactions own the statements.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.errors import SerializationFailure

from manifestlog.copy_errors import ManifestExistsError
from manifestlog.engines.past import PastEngine
from manifestlog.engines.postgres import checking, loading, lookup, reading, upkeep
from manifestlog.engines.postgres.additions import Addition, Additions
from manifestlog.engines.postgres.claims import PostgresClaims, key_of, place_of
from manifestlog.engines.postgres.history import History
from manifestlog.engines.postgres.keeper import Keeper
from manifestlog.engines.postgres.operation import Writer
from manifestlog.engines.postgres.past import PastSnapshot
from manifestlog.engines.postgres.snapshot import PostgresSnapshot
from manifestlog.engines.postgres.staged import logged
from manifestlog.engines.postgres.writing import Transaction
from manifestlog.engines.protocol import Capability, Image
from manifestlog.engines.reports import CompactionOutcome, CompactionReport, LogStatus
from manifestlog.errors import ReadOnlyError
from manifestlog.model.events import EventKind
from manifestlog.model.rows import observations
from manifestlog.model.verdict import Verdict
from manifestlog.model.writes import Added, forget_details, plan_update, rewrite_events

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from manifestlog.engines.postgres.catalog import Stored
    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.protocol import Location
    from manifestlog.engines.reports import Holder
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details, Event, Query
    from manifestlog.model.followers import Follower
    from manifestlog.model.rows import Row
    from manifestlog.model.writes import Rewritten, TimeLookup
    from manifestlog.options import ManifestOptions

T = TypeVar("T")

CAPABILITIES = frozenset({Capability.SHARED, Capability.DURABLE, Capability.CHECK, Capability.HISTORY})


class PostgresEngine:
    """One open manifest in a PostgreSQL database."""

    capabilities = CAPABILITIES

    def __init__(self, pool: Pool, stored: Stored, options: ManifestOptions, *, read_only: bool) -> None:
        self.location: Location = pool.location
        self.options = options
        self.read_only = read_only
        self.pool = pool
        self.id = stored.manifest_id
        self.writer = Writer(pool, self.id, stored.lanes, options)
        self.additions = Additions(self.writer, stored.metadata)
        self.keeper = Keeper(pool, self.id)
        self.history = History(pool, self.id, str(stored.metadata["ts_created"]), options)

    @property
    def closed(self) -> bool:
        return self.pool.closed

    # -- reading -------------------------------------------------------------------------------------------------------

    def has(self, checksum: str) -> bool:
        return self.pool.call(lambda slot: lookup.has(slot, self.id, checksum))

    def has_many(self, checksums: Sequence[str]) -> set[str]:
        return self.pool.call(lambda slot: lookup.has_many(slot, self.id, checksums))

    def get(self, checksum: str) -> Row | None:
        return self.pool.call(lambda slot: lookup.Known(slot, self.id).row(checksum))

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        return self.pool.call(lambda slot: lookup.latest(slot, self.id, source_id, dataset))

    def count(self) -> int:
        return self.pool.call(lambda slot: reading.count(slot, self.id))

    def metadata(self) -> Row:
        return self.pool.call(lambda slot: reading.metadata(slot, self.location, self.id))

    def snapshot(self) -> PostgresSnapshot:
        return PostgresSnapshot(self.pool, self.id)

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(self, record: Encoded, *, live: bool = False, details: Details | None = None) -> Added:
        self._ensure_writable()
        return self.additions.add(Addition(record, live, details))

    def add_batch(
        self,
        records: Sequence[Encoded],
        *,
        live: bool = False,
        details: Details | None = None,
        each: Sequence[Details | None] = (),
    ) -> list[Added]:
        self._ensure_writable()
        merged = [{**(details or {}), **(own or {})} or None for _, own in zip_longest(records, each)]
        some = [Addition(record, live, found) for record, found in zip(records, merged, strict=True)]
        return self.additions.add_batch(some) if some else []

    def add_batches(self, batches: Iterable[tuple[Sequence[Encoded], Details | None]]) -> Iterator[list[Added]]:
        self._ensure_writable()
        return self.additions.add_batches([Addition(one, False, details) for one in some] for some, details in batches)

    def update(self, checksum: str, changes: Row, *, details: Details | None = None) -> Added:
        def work(tx: Transaction) -> tuple[Added, list[Any]]:
            sources = {
                str(source_id)
                for row in (changes, *(changes.get("also_seen") or ()))
                if (source_id := row.get("source_id"))
            }
            self._begin_with(tx, checksum, sources)
            plan = plan_update(tx.staged, checksum, changes, self.writer.rules(tx.metadata), details=details)
            tx.staged.take(plan)
            return plan.answer, [plan.answer.verdict]

        def recall(slot: Slot, told: list[str]) -> Added:
            return Added(Verdict(told[0]), lookup.Known(slot, self.id).row(checksum))

        self._ensure_writable()
        answer = self.writer.write(work, recall)
        if answer.verdict is Verdict.DUPLICATE:
            self.writer.confirm([checksum])
        return answer

    def forget(self, checksum: str, *, details: Details | None = None) -> bool:
        def work(tx: Transaction) -> tuple[bool, list[Any]]:
            self._begin_with(tx, checksum, ())
            known = tx.staged.row(checksum)
            if known is not None:
                tx.staged.remove(checksum, forget_details(known, details))
            return known is not None, [known is not None]

        self._ensure_writable()
        existed = self.writer.write(work, lambda _, told: bool(told[0]))
        if not existed:
            self.writer.confirm([checksum])
        return existed

    def _begin_with(self, tx: Transaction, checksum: str, more: Collection[str]) -> None:
        """Lock the lanes of all sources of a content, and the content itself."""
        before = lookup.Known(tx.slot, self.id).row(checksum)
        sources = {*more, *(one["source_id"] for one in observations(before))} if before else set(more)
        tx.begin(self.writer.lanes(sources) or {0})
        tx.lock_contents([checksum])
        now = tx.staged.row(checksum)
        if now is not None and not {one["source_id"] for one in observations(now)} <= sources:
            raise SerializationFailure("another writer has added a source meanwhile")  # so it is tried again

    def rewrite(
        self, plan: Callable[[TimeLookup], Rewritten], kind: EventKind, *, details: Details | None = None
    ) -> None:
        def work(tx: Transaction) -> tuple[bool, list[Any]]:
            tx.begin(None)
            changes = plan(tx.known)
            events = [{**(details or {}), **found} for found in rewrite_events(tx.known, changes, kind)]
            for record, found in zip(changes.puts, events, strict=False):
                tx.staged.put(record, found)
            for checksum, found in zip(changes.forgets, events[len(changes.puts) :], strict=True):
                tx.staged.remove(checksum, found)
            return bool(events), []

        self._ensure_writable()
        if not self.writer.write(work, _something):
            self.writer.confirm()

    def set_metadata(self, changes: Mapping[str, str], *, details: Details | None = None) -> None:
        def work(tx: Transaction) -> tuple[bool, list[Any]]:
            tx.begin(None)
            before = tx.metadata
            if not changes.items() <= before.items():
                tx.new_metadata = before | dict(changes)
                was = {name: before.get(name) for name in changes}
                event = {**(details or {}), "was": was, "metadata": dict(changes)}
                tx.staged.log.append(logged(EventKind.META, None, None, None, event))
            return tx.new_metadata is not None, []

        self._ensure_writable()
        if not self.writer.write(work, _something):
            self.writer.confirm()

    def record_event(self, kind: EventKind, details: Details) -> None:
        self.record_events(kind, [details])

    def record_events(self, kind: EventKind, each: Sequence[Details]) -> None:
        def work(tx: Transaction) -> tuple[None, list[Any]]:
            tx.begin(self.writer.lanes({str(details.get("source_id", "")) for details in each}))
            tx.staged.log += [logged(kind, details.get("checksum"), None, None, details) for details in each]
            return None, []

        self._ensure_writable()
        self.writer.write(work, _nothing)

    def replay(self, events: Sequence[Event], expected: str) -> str:
        def work(tx: Transaction) -> tuple[str, list[Any]]:
            tx.begin(None)
            end = reading.feed(tx.slot, self.location, self.id)
            if self.history.cursor_of(end) != expected:
                raise ManifestExistsError(self.location.display, "another program has written to it meanwhile")
            ts = loading.replay(tx, events, end.ts)
            cursor = self.history.cursor_of(end._replace(seq=end.seq + len(events), ts=ts))
            return cursor, [cursor]

        self._ensure_writable()
        return self.writer.write(work, lambda _, told: str(told[0]))

    def sync(self) -> None:
        self._ensure_writable()
        self.writer.confirm()

    def _ensure_writable(self) -> None:
        if self.read_only and not self.closed:
            raise ReadOnlyError(self.location.display)

    # -- history ---------------------------------------------------------------------------------------------------------

    def events(self, query: Query) -> Iterator[Event]:
        return self.history.events(query)

    def events_after(self, cursor: str, *, without_run: str | None = None) -> Iterator[Event]:
        found = self.history.after(cursor)
        return found if without_run is None else (event for event in found if event.run != without_run)

    def start(self) -> str:
        return self.history.start()

    def cursor(self) -> str:
        return self.history.cursor()

    def present(self) -> tuple[str, PostgresSnapshot]:
        found = self.snapshot()
        return self.history.cursor_of(found.end), found

    def image(self) -> Image:
        found = self.snapshot()
        return Image(found.metadata, found, *self.history.up_to(found.end))

    def followers(self) -> list[Follower]:
        return self.history.followers()

    def set_follower(self, follower: Follower) -> None:
        self.history.position(follower.cursor)
        self._ensure_writable()
        self.history.set_follower(follower)

    def remove_follower(self, name: str) -> bool:
        self._ensure_writable()
        return self.history.remove_follower(name)

    def reach(self) -> str:
        return self.history.reach()

    def as_of(self, moment: str) -> PastEngine:
        now = self.snapshot()
        return PastEngine(self.location, self.options, PastSnapshot(now, self.history.earlier(moment, now.end)), moment)

    # -- claims ----------------------------------------------------------------------------------------------------------

    def claims(self, directory: str) -> PostgresClaims:
        return PostgresClaims(self.keeper, directory)

    def holders(self, directory: str, kind: str, names: Sequence[str] | None = None) -> list[Holder]:
        place = place_of(directory)
        return self.keeper.holders(kind, None if names is None else [key_of(place, kind, name) for name in names])

    # -- maintenance -----------------------------------------------------------------------------------------------------

    def compact(self, *, wait: bool = False, if_needed: bool = False) -> CompactionReport:
        """Cut the history as the options say; there is no log to merge."""
        del wait, if_needed
        self._ensure_writable()
        self.history.cut()
        return CompactionReport(CompactionOutcome.NOTHING_TO_DO, records_total=self.count())

    def log_status(self) -> LogStatus:
        sizes = self.pool.call(checking.footprint)
        return LogStatus(sizes.canonical_bytes, 0, 0, 0, None, "", 0.0)

    def close(self) -> None:
        if not self.pool.closed:
            upkeep.leave(self.pool)
            self.pool.close()

    def before_fork(self) -> None:
        """Do nothing: a fork copies no state that matters, only sockets."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: the connections are as they were."""

    def after_fork_in_child(self) -> None:
        self.pool.drop_inherited()
        self.additions.begin_anew()
        self.keeper.begin_anew()


def _nothing(_: Slot, __: list[Any]) -> None:
    """Return nothing, as the first try of an operation without an answer did."""


def _something(_: Slot, __: list[Any]) -> bool:
    """Return that something was written: else nothing is recalled."""
    return True
