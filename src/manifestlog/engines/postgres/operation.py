"""One operation of a writer: its transaction, repeated after a failure that may pass, and the answer of its first try.

Invariants:

- Before a later try does anything, it checks whether an earlier one has written.
- An answer that needs nothing to be written is as durable as any other: what it relies on is on disk, or is flushed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from manifestlog.engines.postgres import upkeep
from manifestlog.engines.postgres.limits import OFF, Limits
from manifestlog.engines.postgres.values import lane_of
from manifestlog.engines.postgres.writing import Transaction
from manifestlog.model import codec, roots
from manifestlog.model.rows import EXTRACTOR
from manifestlog.model.writes import Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.model.rows import Row
    from manifestlog.options import ManifestOptions

T = TypeVar("T")


class Writer:
    """What writes to one manifest, with its settings."""

    def __init__(self, pool: Pool, manifest_id: int, lanes: int, options: ManifestOptions) -> None:
        self.pool = pool
        self.id = manifest_id
        self.options = options
        self._lanes = lanes
        self._level = pool.commit_level(options.durability)
        self._times = pool.times
        self._last_seq = -1
        self._alone = False

    @property
    def limits(self) -> Limits:
        """The limits of a transaction of this thread.

        A client that is alone waits for the disk in its commit. One that is not lets others go on, and waits after it.
        """
        fence, alone = self.pool.fence, self._alone
        return Limits(*self._times, self._level, fence, alone or self._level == OFF, alone and fence is None)

    def note(self, seq: int, count: int) -> None:
        """Note that the last `count` of the events up to this number are those of one operation."""
        self._alone, self._last_seq = seq - count == self._last_seq, seq

    def lanes(self, source_ids: Iterable[str]) -> set[int]:
        """Return the lanes of these sources."""
        return {lane_of(source_id, self._lanes) for source_id in source_ids}

    def rules(self, metadata: Row) -> Rules:
        """Return what plans need of the metadata."""
        root = roots.root_of(str(metadata["root_dir"]), self.pool.location.directory)
        return Rules(root, self.options.record_bytes_max, metadata["process"] != EXTRACTOR)

    def confirm(self, checksums: Sequence[str] | None = None) -> None:
        """Wait until these contents are on disk, or without any, all that is visible: for an answer that writes nothing."""
        if self._level != OFF:
            self.pool.call(lambda slot: upkeep.confirm(slot, self.id, checksums, self._level))

    def write(
        self,
        work: Callable[[Transaction], tuple[T, list[Any]]],
        recall: Callable[[Slot, list[Any]], T],
        first: Callable[[Slot], T | None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> T:
        """Do one operation: `first`, if it can do it, or else `work` in a transaction.

        `work` returns its result, and the answers from which `recall` makes it again if the connection is lost.
        `meanwhile` is called while the server commits; it may be called several times.
        """

        def act(slot: Slot, tries: int) -> T:
            if tries == 0:
                slot.op += 1
                if first is not None and (done := first(slot)) is not None:
                    return done
            tx = Transaction(slot, self.id, self.limits)
            if tries and (told := tx.first_try()) is not None:
                return recall(slot, told)
            result, answers = work(tx)
            seq = tx.commit(codec.dumps(answers), meanwhile)
            if seq is not None:
                self.note(seq, len(tx.staged.log))
            return result

        return self.pool.repeat(act)
