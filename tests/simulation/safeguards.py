"""Every safeguard of the engine that can be switched off alone: what it protects from, how it goes, which scenario must notice.

Those of files are in `safeguards_of_files`, of the index in `safeguards_of_index`, of the history in `safeguards_of_history`, of
downloads in `safeguards_of_extract`, of copies in `safeguards_of_copies`, of stages in `safeguards_of_stages`, of the trigger, the child and landing in `safeguards_of_work`; here are those between
processes and of compaction, and the list of all.

Left out, since each only doubles another or has nothing in a simulation to fail it:

- the number of a segment is compared with later ones, a seal with its lines, a new base with what `compacted` says of it:
  overtaking, the lines' places and the next `compacted` find the same;
- covered segments go oldest first: openers skip them in any order, and `check` finds them covered;
- that a merge's records add up: the buckets' CRCs find the same before it;
- a replaced canonical, a merged file that does not read back, an unfinished line that stays: `contract/` and `crash/` try them.
"""

from __future__ import annotations

from .safeguards_of_copies import COPIES
from .safeguards_of_extract import EXTRACT
from .safeguards_of_files import APPENDING, LINES, MOVED, ON_THE_DISK, READING
from .safeguards_of_history import HISTORY
from .safeguards_of_index import ADOPTION, INDEX_AND_MERGE, LOOKS, SEARCHES, TURNS
from .safeguards_of_stages import STAGES
from .safeguards_of_work import CHILD, LANDING, TRIGGER
from .seeding import Edit, Safeguard, one

_TRANSACT = "engines.filelog.session:Session.transact"
_RUN = "engines.filelog.compaction.steps:_Compaction._merge"

TOGETHER = [
    one(
        "a whole line is never taken back",
        "a record gone that somebody has read",
        "a writer interrupted behind its write",
        "engines.filelog.log.segment:Segment._is_written_but_for_its_newline", "if start < size < end - 1:", "if start < size:",
    ),
    one(
        "the append lock is taken",
        "two writers at one offset",
        "schedules",
        "engines.filelog.lock:FileLock.__enter__",
        "if self._fd < 0 or not (lock_descriptor(self._fd, blocking=False) and disk.is_linked(self._fd)):", "if False:",
    ),
    Safeguard(
        "a lock's file must still have its name",
        "two inside at once, each with a lock of his own",
        "a deleted lock file",
        (
            Edit("engines.filelog.lock:FileLock.__enter__", "and disk.is_linked(self._fd)", ""),
            Edit("engines.filelog.lock:FileLock.try_acquire", "if disk.is_linked(self._fd):", "if True:"),
        ),
    ),
    one(
        "the compaction lock is taken",
        "two compactors that delete each other's segments",
        "a compactor stopped while another compacts",
        "engines.filelog.session:Session.compaction_lock", "alone = self._compact_lock.try_acquire()", "alone = True",
    ),
    one(
        "others' lines are read under the lock",
        "a line at an offset that is taken, a verdict of yesterday",
        "schedules",
        _TRANSACT, "self._on_fresh_state(act)", "act(self._state)",
    ),
    one(
        "others' lines are read before an answer",
        "a reader that does not see what was acknowledged",
        "schedules",
        "engines.filelog.session:Session.read", "self._on_fresh_state(ask)", "ask(self._state)",
    ),
    one(
        "the verdict is found under the lock",
        "two winners for one content",
        "schedules",
        "engines.filelog.engine:FileEngine.add", "return self._transact(lambda state: self._add(state, record, live, details))",
        "plan = self.session.read(lambda state: plan_add(state.view, record, self._rules(state), live=live, details=details))\n"
        "    return self._transact(lambda state: self._record(state, plan))",
    ),
    one(
        "new is said only when neither content nor source is known",
        "a source's second content taken for its first",
        "schedules",
        "engines.filelog.view:View.might_know", "checksum in overlay.entries or overlay.has_source(source_id)", "checksum in overlay.entries",
    ),
    one(
        "ties are ranked",
        "the wrong one of two contents with one time, after a compaction",
        "schedules",
        "model.verdict:ranked", "if tie else event", "if tie < 0 else event",
    ),
    one(
        "a process that was overtaken loads again",
        "a segment written where nobody reads",
        "a writer sleeps over a fence and a compaction",
        "engines.filelog.log.wal:Wal._successor", "if self._numbers()[-1:] > [number]:", "if False:",
    ),
    one(
        "an opener begins again when files change under it",
        "damage told where a compaction has deleted segments",
        "opening while segments move to the history",
        "engines.filelog.state:State.load", "if fingerprint(paths) == before:", "if True:",
    ),
    one(
        "a segment is read once more before its successor",
        "lines missed that came just before the seal",
        "a line finished under a reader's hands",
        "engines.filelog.log.wal:Wal.follow", "        self._advance(self.current, take)\n        self.current.check_link", "        self.current.check_link",
    ),
    one(
        "a child of a fork opens its own files",
        "a child that shares its parent's lock",
        "schedules",
        "engines.filelog.session:Session._ensure_open", "if self._pid != os.getpid():", "if False:",
    ),
    one(
        "a child of a fork never unlocks",
        "the parent's lock freed in the middle of its write",
        "schedules",
        "engines.filelog.session:Session.drop_inherited", "self._append_lock.close()", "self._append_lock.file.release()\n    self._append_lock.close()",
    ),
    one(
        "what came after a compaction began stays in the overlay",
        "records gone until the next opening",
        "schedules",
        "engines.filelog.overlay:Overlay.behind", "if entry[1] > covers", "if False",
    ),
    one(
        "the last writer compacts",
        "a canonical that stays old although all have closed",
        "schedules",
        "engines.filelog.log.wal:Wal.release_writer", "return disk.held_by_others(self.current.fd)", "return True",
    ),
]  # fmt: skip

_PUBLISH = "        self._publish(found.base)  # (5)"
COMPACTING = [
    one(
        "the rename comes before covered segments are moved",
        "neither the log nor the canonical that holds it",
        "crash: compact",
        _RUN, _PUBLISH, "        self._keep(last, found.base)\n" + _PUBLISH,
    ),
    Safeguard(
        "the merged file is whole before the rename",
        "half a canonical",
        "crash: compact",
        (
            Edit(_RUN, _PUBLISH, "        pass"),
            Edit(_RUN, "        columns, out =", "        self._publish(found.base)\n        columns, out ="),
        ),
    ),
    one(
        "the rename comes before `compacted`",
        "a log that knows no canonical but one to come",
        "crash: compact",
        _RUN, _PUBLISH, '        _log_base(session, "compacted", told, 0.0)\n' + _PUBLISH,
    ),
    one(
        "a canonical is announced",
        "a canonical that the log does not know",
        "crash: compact",
        _RUN, 'pause = _log_base(session, "compacting", told, 0.0)', "pause = 0.0",
    ),
    one(
        "`compacted` is said",
        "a log that is merged again and again",
        "crash: compact, everything in full",
        _RUN, 'pause = max(pause, _log_base(session, "compacted", told, time.perf_counter() - self._began))', "pass",
    ),
    one(
        "tombstones are merged",
        "forgotten records back in the canonical",
        "crash: compact to nothing",
        "engines.filelog.canonical.merge:plan", "if present or raw is not None:", "if raw is not None:",
    ),
    one(
        "unfinished files are removed",
        "a directory that fills with them",
        "crash: sweep of leftovers",
        "engines.filelog.canonical.files:sweep", "disk.remove(path)", "pass",
    ),
    one(
        "the canonical that is merged is checked",
        "rot that gets a fresh CRC",
        "bits of the canonical, written to",
        "engines.filelog.compaction.steps:_Compaction._write", "reading.check_read(found.base.canonical, found.base.index, old_crc)", "pass",
    ),
]  # fmt: skip

SAFEGUARDS = [
    *ON_THE_DISK,
    *LINES,
    *MOVED,
    *APPENDING,
    *TOGETHER,
    *COMPACTING,
    *READING,
    *INDEX_AND_MERGE,
    *SEARCHES,
    *ADOPTION,
    *TURNS,
    *LOOKS,
    *HISTORY,
    *EXTRACT,
    *TRIGGER,
    *CHILD,
    *LANDING,
    *STAGES,
    *COPIES,
]
