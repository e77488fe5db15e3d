"""The file engine: one open manifest, read and written through its session.

The path of a record: `add` → `Session.transact` (takes three locks, reads what others wrote) → `plan_add` (verdict) →
`Session.append` (one line) → the locks are released → the line is synced.

Invariants:

- A write is planned and appended in one transaction. If many writers add one unknown content, exactly one gets `new`.
- Records are encoded, and encoding errors raised, before the locks; only merged records are encoded under them.
- The last writer to close merges the log into the canonical file, unless its options disable that.

It handles rows, not models, and leaves locking and syncing to `session`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from manifestlog.engines.filelog.claims import FileClaims
from manifestlog.engines.filelog.compaction.background import Background
from manifestlog.engines.filelog.compaction.steps import compact, deregister_writer
from manifestlog.engines.filelog.compaction.trigger import is_compaction_due, log_status
from manifestlog.engines.filelog.kept_index import keep_index
from manifestlog.engines.filelog.log.lines import LogEntry
from manifestlog.engines.filelog.overlay import Overlay
from manifestlog.engines.filelog.session import Session, now_text
from manifestlog.engines.filelog.view import View
from manifestlog.engines.protocol import Capability, Location
from manifestlog.engines.reports import CompactionOutcome, CompactionReport, LogStatus
from manifestlog.errors import DamagedManifestError, ManifestClosedError, ManifestError
from manifestlog.model import codec, roots
from manifestlog.model.verdict import Verdict
from manifestlog.model.writes import Rules, plan_add, plan_update
from manifestlog.options import Durability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from manifestlog.engines.filelog.state import State
    from manifestlog.model.codec import Encoded
    from manifestlog.model.rows import Row, Sighting
    from manifestlog.model.writes import Added, History, Plan
    from manifestlog.names import ManifestPaths
    from manifestlog.options import ManifestOptions

log = logging.getLogger(__name__)

T = TypeVar("T")

CAPABILITIES = frozenset(
    {Capability.SHARED, Capability.DURABLE, Capability.COMPACTION, Capability.CHECK, Capability.REPAIR}
)


def location_of(paths: ManifestPaths) -> Location:
    """Return the location of the manifest with these files."""
    return Location(paths.canonical, paths.canonical, paths.name, paths.directory)


class FileEngine:
    """One open manifest in plain files, shared with every other process that opens it. Threads may share it."""

    capabilities = CAPABILITIES

    def __init__(self, paths: ManifestPaths, options: ManifestOptions, *, read_only: bool) -> None:
        """Open the manifest; raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`."""
        self.paths = paths
        self.options = options
        self.read_only = read_only
        self.location = location_of(paths)
        self.session = Session(paths, options, read_only=read_only)
        self.background = Background(self.session)
        self._rules_of = ("", Rules(paths.directory, options.record_bytes_max))

    @property
    def closed(self) -> bool:
        return self.session.closed

    # -- reading -------------------------------------------------------------------------------------------------

    def has(self, checksum: str) -> bool:
        return self.session.read(lambda state: state.view.has(checksum))

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

    def _freeze(self, state: State) -> FileSnapshot:
        state.base.index.check_all()  # once a snapshot, and here, where the session handles damage by a rescan
        return FileSnapshot(state.view.frozen(), state.live_metadata(), self.paths)

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, record: Encoded, *, live: bool = False) -> Added:
        """Record one content; with `live`, its time is moved past that of its source's current record if needed."""
        return self._transact(lambda state: self._add(state, record, live=live))

    def _add(self, state: State, record: Encoded, *, live: bool) -> Added:
        return self._record(
            state, plan_add(state.view, record, self._rules(state), live=live, must_rewrite=state.must_rewrite)
        )

    def _record(self, state: State, plan: Plan) -> Added:
        if plan.record is not None:
            self.session.append(state, LogEntry("put", now_text(), [plan.record], {}))
        return plan.answer

    def add_batch(self, records: Sequence[Encoded]) -> dict[Verdict, int]:
        """Record many contents as one log line: all or none."""
        return self._transact(lambda state: self._add_batch(state, records))

    def _add_batch(self, state: State, records: Sequence[Encoded]) -> dict[Verdict, int]:
        staged = Overlay()
        seen = View(state.base, (staged, state.overlay))
        rules = self._rules(state)
        counts = dict.fromkeys(Verdict, 0)
        puts: list[Encoded] = []
        for record in records:
            plan = plan_add(seen, record, rules, must_rewrite=state.must_rewrite)
            counts[plan.answer.verdict] += 1
            if plan.record is not None:
                puts.append(plan.record)
                staged.put_all(puts[-1:], 0)
        if puts:
            self.session.append(state, LogEntry("batch", now_text(), puts, {}))
        return counts

    def update(self, checksum: str, changes: Row) -> Added:
        """Change members of a record; raises `RecordNotFoundError`."""
        return self._transact(lambda state: self._update(state, checksum, changes))

    def _update(self, state: State, checksum: str, changes: Row) -> Added:
        return self._record(
            state, plan_update(state.view, checksum, changes, self._rules(state), must_rewrite=state.must_rewrite)
        )

    def forget(self, checksum: str) -> bool:
        """Remove a record and all its observations; return whether it existed."""
        return self._transact(lambda state: self._forget(state, checksum))

    def _forget(self, state: State, checksum: str) -> bool:
        known = state.view.has(checksum)
        if known or state.must_rewrite(checksum):  # "not there" must be as durable as any other answer
            self.session.append(state, LogEntry("forget", now_text(), [], {"checksum": checksum}))
        return known

    def rewrite(self, plan: Callable[[History], Sequence[Encoded]]) -> None:
        """Replace rows with the result of `plan`, as one log line: all or none."""
        self._transact(lambda state: self._rewrite(state, plan))

    def _rewrite(self, state: State, plan: Callable[[History], Sequence[Encoded]]) -> None:
        if puts := list(plan(state.view)):
            self.session.append(state, LogEntry("batch", now_text(), puts, {}))

    def set_metadata(self, changes: Mapping[str, str]) -> None:
        """Change members of the manifest's metadata."""
        self._transact(lambda state: self._set_metadata(state, dict(changes)))

    def _set_metadata(self, state: State, changes: dict[str, str]) -> None:
        if not changes.items() <= state.metadata.items():
            self.session.append(state, LogEntry("meta", now_text(), [], {"metadata": changes}))

    def _transact(self, act: Callable[[State], T]) -> T:
        result = self.session.transact(act)
        self.background.after_write()
        return result

    def _rules(self, state: State) -> Rules:
        root_dir = state.metadata["root_dir"]
        if root_dir != self._rules_of[0]:  # made once a root, not once a record
            root = roots.root_of(str(root_dir), self.paths.directory)
            self._rules_of = (root_dir, Rules(root, self.options.record_bytes_max))
        return self._rules_of[1]

    def claims(self, directory: str) -> FileClaims:
        return FileClaims(directory)

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
        """Close the manifest; idempotent. The last writer to close merges the log into the canonical file."""
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
            if deregister_writer(self.session) and self.options.compact_on_close:
                # Wait for a running compaction: it started before our last records were written.
                compact(self.session, wait=True)
            else:
                keep_index(self.session)
        except (ManifestError, OSError) as error:
            # Nothing is lost: the log holds all acknowledged writes. The next compaction or `check` reports the cause.
            log.error("%s: compaction on close failed: %s", self.paths.canonical, error)

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


class FileSnapshot:
    """The manifest at one moment: a frozen view with the matching metadata."""

    def __init__(self, view: View, metadata: Row, paths: ManifestPaths) -> None:
        self.metadata = metadata
        self._view = view
        self._paths = paths

    def __len__(self) -> int:
        return int(self.metadata["total_records"])

    def checksums(self) -> Iterator[str]:
        return self._view.checksums()

    def encoded(self, checksum: str) -> bytes | None:
        return self._view.raw(checksum)

    def records(self) -> Iterator[tuple[str, bytes]]:
        for checksum in self._view.checksums():
            raw = self._view.raw(checksum)
            if raw is None:
                reason = f"the record {checksum} is in the index but not in the file"
                raise DamagedManifestError(self._paths.canonical, 0, reason)
            yield checksum, raw

    def rows(self) -> Iterator[Row]:
        return (codec.loads(raw) for _, raw in self.records())

    def row(self, checksum: str) -> Row | None:
        return self._view.row(checksum)

    def might_know(self, checksum: str, source_id: str) -> bool:
        return self._view.might_know(checksum, source_id)

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        return self._view.recent(source_id, dataset, moment)

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        return self._view.latest_until(source_id, dataset, moment)

    def later_than(self, moment: str) -> Iterator[Row]:
        return self._view.later_than(moment)
