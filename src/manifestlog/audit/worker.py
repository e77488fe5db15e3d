"""One worker process of `verify`: looks at its files, and says what became of each.

Invariants:

- Every batch is answered; files that were not begun when the time was over, or a stop was asked for, are left out of it.
- Nothing but a file is ever opened, and nothing is written.

It works the same whether it was forked or spawned.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from manifestlog.audit import journal as verified
from manifestlog.audit.plan import Expected, FileState, Judgement, Level, Seen, judge
from manifestlog.cli.settings import Settings
from manifestlog.ingest.hashing import ChangedError, digest
from manifestlog.ingest.walk import reason
from manifestlog.model.rows import utc_text
from manifestlog.workers.link import Hand, StopAskedError
from manifestlog.workers.pool import Done, next_task

Batch = list[Expected]


class Job(NamedTuple):
    """What every worker is told at its start; no file is begun after `deadline_s` of the monotonic clock."""

    level: Level
    deadline_s: float
    settings: Settings
    log_level: int


class Finding(NamedTuple):
    """A file that is not as the ledger says; without a checksum when no record names it."""

    state: str
    file_path: str
    checksum: str | None
    reason: str


@dataclass(slots=True)
class Tally:
    """What came of a batch, or of a whole run; `lines` are what shall be remembered of it."""

    states: dict[FileState, int] = field(default_factory=lambda: dict.fromkeys(FileState, 0))
    findings: list[Finding] = field(default_factory=list)
    lines: bytes = b""
    bytes: int = 0

    @property
    def files(self) -> int:
        return sum(self.states.values())


class _Looker:
    def __init__(self, hand: Hand, job: Job) -> None:
        self._hand = hand
        self._job = job

    def run(self) -> None:
        """Answer batches until there are no more."""
        while not self._hand.stop and (batch := next_task(self._hand.parent)):
            self._hand.parent.send(Done(self._look_at_all(batch)))

    def _look_at_all(self, batch: Batch) -> Tally:
        tally = Tally()
        looked_at = []
        for expected in batch:
            if self._hand.stop or time.monotonic() >= self._job.deadline_s:
                break
            try:
                found = self._look(expected, tally)
            except StopAskedError:
                break
            tally.states[found.state] += 1
            if found.state is not FileState.OK:
                tally.findings.append(Finding(found.state.value, expected.path, expected.checksum, found.reason))
            looked_at.append((expected, found.state))
        self._hand.say()
        now = utc_text(datetime.now(UTC))
        tally.lines = b"".join(verified.line(one, self._job.level, state, now) for one, state in looked_at)
        return tally

    def _look(self, expected: Expected, tally: Tally) -> Judgement:
        """Look as closely as it takes."""
        found = judge(expected, _stat(expected.path), self._job.level)
        if found is not None:
            self._hand.heard(expected.size)  # so that the bar arrives at its end
            return found
        seen = self._read(expected.path)
        tally.bytes += seen.size
        found = judge(expected, seen, self._job.level)
        assert found is not None
        return found

    def _read(self, path: str) -> Seen:
        try:
            found = digest(path, self._hand.heard)
        except ChangedError:
            return Seen(moved=True)
        except OSError as error:
            return _unseen(error)
        return Seen(size=found.size, checksum=found.checksum)


def _stat(path: str) -> Seen:
    try:
        found = os.stat(path)
    except OSError as error:
        return _unseen(error)
    except ValueError:  # a NUL in it, or no Unicode: no file can have this name
        return Seen(error=errno.EINVAL, why="its name is none that a file can have")
    return Seen(is_file=stat.S_ISREG(found.st_mode), size=found.st_size)


def _unseen(error: OSError) -> Seen:
    return Seen(error=error.errno or errno.EIO, why=reason(error))


def work(parent: Connection[Any, Any], job: Job) -> None:
    """What a worker process runs."""
    hand = Hand(parent)
    hand.begin(job.settings, job.log_level)
    with suppress(BrokenPipeError):
        _Looker(hand, job).run()
    parent.close()
