"""The file engine: one open manifest, read and written through its session.

The path of a record: `add` → `Session.transact` (takes three locks, reads what others wrote) → `plan_add` (verdict) →
`Session.append` (one line) → the locks are released → the line is synced.

Invariants:

- A write is planned and appended in one transaction. If many writers add one unknown content, exactly one gets `new`.
- Records are encoded, and encoding errors raised, before the locks; only merged records are encoded under them.
- The last writer to close merges a log that is worth it into the canonical file, unless its options disable that.

It handles rows, not models, and leaves locking and syncing to `session`.
"""

from __future__ import annotations

import logging
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

from manifestlog.copy_errors import ManifestExistsError
from manifestlog.engines.filelog.claims import FileClaims, holders
from manifestlog.engines.filelog.compaction.background import Background
from manifestlog.engines.filelog.compaction.steps import compact, deregister_writer
from manifestlog.engines.filelog.compaction.trigger import is_compaction_due, is_worth_closing, log_status
from manifestlog.engines.filelog.history import followers
from manifestlog.engines.filelog.history.access import History, cursor_at
from manifestlog.engines.filelog.history.entries import entry_of
from manifestlog.engines.filelog.history.spans import End
from manifestlog.engines.filelog.kept_index import keep_index
from manifestlog.engines.filelog.log.lines import LogEntry
from manifestlog.engines.filelog.overlay import Overlay
from manifestlog.engines.filelog.session import Session, now_text
from manifestlog.engines.filelog.snapshot import FileSnapshot
from manifestlog.engines.filelog.view import View
from manifestlog.engines.past import PastEngine
from manifestlog.engines.protocol import Capability, Image, Location
from manifestlog.engines.reports import CompactionOutcome, CompactionReport, Holder, LogStatus
from manifestlog.error_texts import explained
from manifestlog.errors import HistoryReachError, ManifestClosedError, ManifestError
from manifestlog.model import roots
from manifestlog.model.rows import EXTRACTOR
from manifestlog.model.writes import Rewritten, Rules, forget_details, plan_add, plan_update, rewrite_events
from manifestlog.names import is_url
from manifestlog.options import Durability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from manifestlog.engines.filelog.canonical.turn import Turn
    from manifestlog.engines.filelog.state import State
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details, Event, EventKind, Query
    from manifestlog.model.followers import Follower
    from manifestlog.model.rows import Row
    from manifestlog.model.writes import Added, Plan, TimeLookup
    from manifestlog.names import ManifestPaths
    from manifestlog.options import ManifestOptions

log = logging.getLogger(__name__)

T = TypeVar("T")

CAPABILITIES = frozenset(
    {
        Capability.SHARED,
        Capability.DURABLE,
        Capability.COMPACTION,
        Capability.CHECK,
        Capability.REPAIR,
        Capability.HISTORY,
        Capability.REPLICA,
    }
)


def location_of(paths: ManifestPaths) -> Location:
    """Return the location of the manifest with these files."""
    return Location(paths.canonical, paths.canonical, paths.name, paths.directory)


class FileEngine:
    """One open manifest in plain files, shared with every other process that opens it. Threads may share it."""

    capabilities = CAPABILITIES

    def __init__(
        self, paths: ManifestPaths, options: ManifestOptions, *, read_only: bool, turn: Turn | None = None
    ) -> None:
        """Open the manifest; with a `turn`, read the whole canonical file only once that has come.

        Raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`.
        """
        self.paths = paths
        self.options = options
        self.read_only = read_only
        self.location = location_of(paths)
        self.session = Session(paths, options, read_only=read_only, turn=turn)
        self.background = Background(self.session)
        self._rules_of = ("", Rules(paths.directory, options.record_bytes_max))

    @property
    def closed(self) -> bool:
        return self.session.closed

    # -- reading -------------------------------------------------------------------------------------------------

    def has(self, checksum: str) -> bool:
        return self.session.read(lambda state: state.view.has(checksum))

    def has_many(self, checksums: Sequence[str]) -> set[str]:
        return self.session.read(lambda state: set(filter(state.view.has, checksums)))

    def get(self, checksum: str) -> Row | None:
        """Return the row with this checksum, or None."""
        return self.session.read(lambda state: state.view.row(checksum))

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        """Return a source's latest row as seen by that source; with `dataset=None`, over all its datasets."""
        return self.session.read(lambda state: state.view.latest(source_id, dataset))

    def count(self) -> int:
        return self.session.read(lambda state: state.total)

    def metadata(self) -> Row:
        return self.session.read(lambda state: state.live_metadata())

    def snapshot(self) -> FileSnapshot:
        return self.session.read(self._freeze)

    # -- history -------------------------------------------------------------------------------------------------

    def events(self, query: Query) -> Iterator[Event]:
        return self.session.read(self._history).events(query)

    def events_after(self, cursor: str, *, without_run: str | None = None) -> Iterator[Event]:
        return self.session.read(self._history).after(cursor, without_run)

    def start(self) -> str:
        return self.session.read(lambda state: cursor_at(self.paths.name, state.metadata["ts_created"], None))

    def cursor(self) -> str:
        return self.session.read(self._cursor)

    def _cursor(self, state: State) -> str:
        return cursor_at(self.paths.name, state.metadata["ts_created"], state.wal.current if state.wal else None)

    def present(self) -> tuple[str, FileSnapshot]:
        return self.session.read(lambda state: (self._cursor(state), self._freeze(state)))

    def image(self) -> Image:
        at = self.session.read(lambda state: (self._freeze(state), self._history(state), self._cursor(state)))
        snapshot, history, cursor = at
        return Image(snapshot.metadata, snapshot, cursor, *history.unbroken(len(snapshot)))

    def followers(self) -> list[Follower]:
        return followers.read_all(self.paths)

    def set_follower(self, follower: Follower) -> None:
        self.session.read(self._history).position(follower.cursor)
        followers.write(self.paths, follower, read_only=self.read_only)

    def remove_follower(self, name: str) -> bool:
        return followers.remove(self.paths, name, read_only=self.read_only)

    def reach(self) -> str:
        return self.session.read(self._history).reach

    def as_of(self, moment: str) -> PastEngine:
        """Return the manifest as it was at this time; raises `HistoryReachError`."""
        now, history = self.session.read(lambda state: (self._freeze(state), self._history(state)))
        found = history.earlier(moment)
        then = now.before(found)
        if found.ran_out and len(then):  # it began with records, as a copy without its log does
            raise HistoryReachError(self.paths.canonical, moment, found.begins_at)
        return PastEngine(self.location, self.options, then, moment)

    def _history(self, state: State) -> History:
        current = state.wal and state.wal.current
        end = End(current.number, current.tail.length) if current else None
        return History(self.paths, state.metadata, end)

    def _freeze(self, state: State) -> FileSnapshot:
        state.base.index.check_all()  # once a snapshot, and here, where the session handles damage by a rescan
        return FileSnapshot(state.view.frozen(), state.live_metadata(), self.paths)

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, record: Encoded, *, live: bool = False, details: Details | None = None) -> Added:
        """Record one content; with `live`, its time is moved past that of its source's current record if needed."""
        return self._transact(lambda state: self._add(state, record, live, details))

    def _add(self, state: State, record: Encoded, live: bool, details: Details | None) -> Added:  # noqa: FBT001 -- as `add`
        rules, rewrite = self._rules(state), state.must_rewrite
        return self._record(
            state, plan_add(state.view, record, rules, live=live, must_rewrite=rewrite, details=details)
        )

    def _record(self, state: State, plan: Plan) -> Added:
        if plan.record is not None:
            data = {"event": plan.details} if plan.details else {}
            self.session.append(state, LogEntry("put", now_text(), [plan.record], data))
        elif plan.details is not None:
            self.session.append(state, LogEntry("derived", now_text(), [], {"event": plan.details}))
        return plan.answer

    def add_batch(
        self,
        records: Sequence[Encoded],
        *,
        live: bool = False,
        details: Details | None = None,
        each: Sequence[Details | None] = (),
    ) -> list[Added]:
        """Record many contents as one log line: all or none."""
        return self._transact(lambda state: self._add_batch(state, zip_longest(records, each), live, details))

    def add_batches(self, batches: Iterable[tuple[Sequence[Encoded], Details | None]]) -> Iterator[list[Added]]:
        return (self.add_batch(some, details=details) for some, details in batches)

    def _add_batch(
        self,
        state: State,
        additions: Iterable[tuple[Encoded, Details | None]],
        live: bool,  # noqa: FBT001 -- as `add`
        details: Details | None,
    ) -> list[Added]:
        staged = Overlay()
        seen = View(state.base, (staged, state.overlay))
        rules = self._rules(state)
        answers: list[Added] = []
        puts: list[Encoded] = []
        events: list[Details | None] = []
        repeated: list[Details] = []
        for record, own in additions:
            plan = plan_add(seen, record, rules, live=live, must_rewrite=state.must_rewrite, details=own)
            answers.append(plan.answer)
            if plan.record is not None:
                puts.append(plan.record)
                events.append(plan.details)
                staged.put_all(puts[-1:], 0)
            elif plan.details is not None:
                repeated.append({**(details or {}), **plan.details})
        if puts:
            self._append_batch(state, Rewritten(puts), events, details)
        for found in repeated:
            self.session.append(state, LogEntry("derived", now_text(), [], {"event": found}))
        return answers

    def _append_batch(
        self, state: State, changes: Rewritten, events: Sequence[Details | None], details: Details | None
    ) -> None:
        data = {"event": details, "forgets": list(changes.forgets), "events": events if any(events) else None}
        self.session.append(state, LogEntry("batch", now_text(), list(changes.puts), data))

    def update(self, checksum: str, changes: Row, *, details: Details | None = None) -> Added:
        """Change members of a record; raises `RecordNotFoundError`."""
        return self._transact(lambda state: self._update(state, checksum, changes, details))

    def _update(self, state: State, checksum: str, changes: Row, details: Details | None) -> Added:
        rules, rewrite = self._rules(state), state.must_rewrite
        return self._record(
            state, plan_update(state.view, checksum, changes, rules, must_rewrite=rewrite, details=details)
        )

    def forget(self, checksum: str, *, details: Details | None = None) -> bool:
        """Remove a record and all its observations; return whether it existed."""
        return self._transact(lambda state: self._forget(state, checksum, details))

    def _forget(self, state: State, checksum: str, details: Details | None) -> bool:
        known = state.view.row(checksum)
        if known is not None or state.must_rewrite(checksum):  # "not there" must be as durable as any other answer
            data = {"checksum": checksum, "event": forget_details(known, details)}
            self.session.append(state, LogEntry("forget", now_text(), [], data))
        return known is not None

    def rewrite(
        self, plan: Callable[[TimeLookup], Rewritten], kind: EventKind, *, details: Details | None = None
    ) -> None:
        """Replace and remove rows as `plan` says, as one log line: all or none."""
        self._transact(lambda state: self._rewrite(state, plan, kind, details))

    def _rewrite(
        self, state: State, plan: Callable[[TimeLookup], Rewritten], kind: EventKind, details: Details | None
    ) -> None:
        changes = plan(state.view)
        if changes.puts or changes.forgets:
            self._append_batch(state, changes, rewrite_events(state.view, changes, kind), details)

    def set_metadata(self, changes: Mapping[str, str], *, details: Details | None = None) -> None:
        self._transact(lambda state: self._set_metadata(state, dict(changes), details))

    def _set_metadata(self, state: State, changes: dict[str, str], details: Details | None) -> None:
        if not changes.items() <= state.metadata.items():
            event = {**(details or {}), "was": {name: state.metadata.get(name) for name in changes}}
            self.session.append(state, LogEntry("meta", now_text(), [], {"metadata": changes, "event": event}))

    def record_event(self, kind: EventKind, details: Details) -> None:
        self.record_events(kind, [details])

    def record_events(self, kind: EventKind, each: Sequence[Details]) -> None:
        self._transact(lambda state: self._record_events(state, kind.value, each))

    def _record_events(self, state: State, kind: str, each: Sequence[Details]) -> None:
        for details in each:
            self.session.append(state, LogEntry(kind, now_text(), [], {"event": details}))

    def replay(self, events: Sequence[Event], expected: str) -> str:
        return self._transact(lambda state: self._replay(state, events, expected))

    def _replay(self, state: State, events: Sequence[Event], expected: str) -> str:
        if expected != self._cursor(state) and any(True for _ in self._history(state).after(expected)):
            raise ManifestExistsError(self.paths.canonical, "another program has written to it meanwhile")
        if len(events) == 1:
            self.session.append(state, entry_of(events[0]))
        elif events:
            self.session.append_whole(state, [entry_of(event) for event in events])
        return self._cursor(state)

    def sync(self) -> None:
        self._transact(lambda _: None)

    def _transact(self, act: Callable[[State], T]) -> T:
        result = self.session.transact(act)
        self.background.after_write()
        return result

    def _rules(self, state: State) -> Rules:
        root_dir = state.metadata["root_dir"]
        if root_dir != self._rules_of[0]:  # made once a root, not once a record
            root = roots.root_of(str(root_dir), self.paths.directory)
            rules = Rules(root, self.options.record_bytes_max, state.metadata["process"] != EXTRACTOR)
            self._rules_of = (root_dir, rules)
        return self._rules_of[1]

    def claims(self, directory: str) -> FileClaims:
        return FileClaims(self.paths.directory if is_url(directory) else directory)

    def holders(self, directory: str, kind: str, names: Sequence[str] | None = None) -> list[Holder]:
        return holders(directory, kind, names or ())

    # -- maintenance ---------------------------------------------------------------------------------------------

    def compact(self, *, wait: bool = False, if_needed: bool = False) -> CompactionReport:
        """Merge the log into the canonical file.

        If another compaction is running, wait for it, or with `wait=False` return `ALREADY_RUNNING`. Raises
        `DamagedManifestError` or `DiskFullError` with nothing changed, and `LockTimeoutError` only with `wait`.
        """
        if if_needed and not is_compaction_due(self.session):
            return CompactionReport(CompactionOutcome.NOTHING_TO_DO, records_total=self.count())
        return compact(self.session, wait=wait)

    def log_status(self) -> LogStatus:
        return log_status(self.session)

    def close(self) -> None:
        """Close the manifest; idempotent. The last writer to close merges a log that is worth it into the canonical file."""
        if self.session.closed:
            return
        try:
            self.background.stop()
            if not (self.read_only or self.session.unused):
                self._leave()
        except ManifestClosedError:
            pass
        finally:
            self.session.close()

    def _leave(self) -> None:
        try:
            if self.options.durability is Durability.INTERVAL:
                self.session.sync()
            if deregister_writer(self.session) and self.options.compact_on_close and is_worth_closing(self.session):
                # Wait for a running compaction: it started before our last records were written.
                compact(self.session, wait=True)
            else:
                keep_index(self.session)
        except (ManifestError, OSError) as error:
            # Nothing is lost: the log holds all acknowledged writes. The next compaction or `check` reports the cause.
            log.error("%s: compaction on close failed: %s", self.paths.canonical, explained(error))

    # -- forks ---------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Block all threads between operations. Only an interrupt is raised, after everything has been resumed."""
        try:
            self.background.pause()
            self.session.before_fork()
        except BaseException:  # Ctrl-C: the fork still happens, so resume the background thread here
            self.background.resume()
            raise

    def after_fork_in_parent(self) -> None:
        self.session.after_fork_in_parent()
        self.background.resume()

    def after_fork_in_child(self) -> None:
        self.session.drop_inherited()
        self.background = Background(self.session)
