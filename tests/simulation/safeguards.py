"""Every safeguard of the engine that can be switched off alone: what it protects from, how it goes, which scenario must notice.

A safeguard that is missing here is one whose absence no simulation can show; ARCHITECTURE.md or the end of this file says why.
"""

from __future__ import annotations

from typing import NamedTuple

from .seeding import Edit


class Safeguard(NamedTuple):
    """`scenario` names one of `scenarios.SCENARIOS`."""

    name: str
    protects: str
    scenario: str
    edits: tuple[Edit, ...]


def _one(name: str, protects: str, scenario: str, *edit: str) -> Safeguard:
    return Safeguard(name, protects, scenario, (Edit(*edit),))


_TRANSACT = "session:Session.transact"
_RUN = "compactor:_Compaction.run"
_NOT_SYNCED = "pass"

ON_THE_DISK = [
    _one(
        "a new segment's name is synced",
        "a record acknowledged in a segment that has no name after a power cut",
        "crash: the first addition",
        "storage.wal:create_segment", "disk.sync_directory(paths.directory)", _NOT_SYNCED,
    ),
    _one(
        "a new segment's first line is synced before it has a name",
        "a segment that is there and empty, which is damage",
        "crash: the first addition",
        "storage.wal:create_segment", "disk.sync_data(fd)", _NOT_SYNCED,
    ),
    _one(
        "a segment is synced before its successor has a name",
        "lines gone in the middle of the log",
        "crash: rotate, killed only",
        "storage.wal:Wal._start_next", "disk.sync_data(self.current.fd)", _NOT_SYNCED,
    ),
    _one(
        "a segment's name is synced by whoever writes its first line",
        "the name's maker was killed before he came to it",
        "crash: names of the killed, rotate",
        "storage.wal:Wal.prepare", "disk.sync_directory(self._paths.directory)", _NOT_SYNCED,
    ),
    _one(
        "the canonical's name is synced before there is a log",
        "a log without its canonical",
        "crash: names of the killed, create",
        "storage.wal:start", "disk.sync_directory(paths.directory)", _NOT_SYNCED,
    ),
    _one(
        "a new directory's name is synced",
        "the whole manifest gone with its directory",
        "crash: create, with its folder",
        "storage.disk:make_directory", "sync_directory(above)", _NOT_SYNCED,
    ),
    _one(
        "the skeleton is synced before it has a name",
        "a canonical that is there and empty",
        "crash: create",
        "storage.base:_install", "disk.sync_data(fd)", _NOT_SYNCED,
    ),
    _one(
        "the merged file is synced before the rename",
        "a canonical that has its name and not its bytes",
        "crash: compact",
        "compactor:_Compaction._write", "disk.sync_data(fd)", _NOT_SYNCED,
    ),
    Safeguard(
        "the rename is synced before covered segments are deleted",
        "the old canonical back, and the log gone",
        "crash: compact",
        (
            Edit("compactor:_Compaction._publish", "disk.sync_directory(self._paths.directory)", _NOT_SYNCED),
            Edit("storage.base:_install", "disk.sync_directory(paths.directory)", _NOT_SYNCED),
        ),
    ),
    _one(
        "the announcement is synced before the rename",
        "a canonical that the log does not know",
        "crash: compact, killed only",
        "compactor:_tell", "store.session.sync()", _NOT_SYNCED,
    ),
    _one(
        "a line is synced before it is acknowledged",
        "an acknowledged record lost in a power cut",
        "crash: add",
        _TRANSACT, "self._make_durable(*unsynced)", _NOT_SYNCED,
    ),
    Safeguard(
        "what is already there is synced before that is said",
        "a duplicate acknowledged, of a line that its writer has not synced yet",
        "schedules with power cuts",
        (
            Edit(_TRANSACT, "result = self._on_fresh_state(act)", "self._catch_up()\n            was = self._state.wal and self._state.wal.current.tail.length\n            result = self._on_fresh_state(act)"),
            Edit(_TRANSACT, "unsynced = self._pin_unsynced()", "unsynced = self._pin_unsynced() if self._state.wal and self._state.wal.current.tail.length != was else None"),
        ),
    ),
]  # fmt: skip

_PLACE = 'offset.to_bytes(8, "little")'
LINES = [
    Safeguard(
        "a line's CRC is compared",
        "rot in a record that still parses",
        "bits of the active segment",
        (
            Edit("storage.codec:line_is_intact", "line[-CRC_TAIL:] == b',\"crc\":\"%08x\"}' % crc", "line[-CRC_TAIL:-10] == b',\"crc\":\"'"),
            Edit("storage.lines:usual_puts", 'if crc != b"%08x" % crc32(line[: -codec.CRC_TAIL], crc32(place, salt)):', "if place is None:"),
        ),
    ),
    Safeguard(
        "a line's CRC covers its place",
        "lines moved or doubled",
        "moved lines",
        (
            Edit("storage.codec:seal_line", _PLACE, 'b""'),
            Edit("storage.codec:line_is_intact", _PLACE, 'b""'),
            Edit("storage.lines:usual_puts", '(start + position).to_bytes(8, "little")', 'b""'),
        ),
    ),
    Safeguard(
        "a line's CRC covers its segment's salt",
        "lines of another segment or another manifest",
        "lines of others",
        (
            Edit("storage.codec:seal_line", f"crc32({_PLACE}, salt)", f"crc32({_PLACE})"),
            Edit("storage.codec:line_is_intact", f"crc32({_PLACE}, salt)", f"crc32({_PLACE})"),
            Edit("storage.lines:usual_puts", "crc32(place, salt)", "crc32(place)"),
        ),
    ),
    _one(
        "CRCs are compared as bytes",
        "a flipped bit in the CRC itself",
        "bits of the active segment",
        "storage.codec:line_is_intact", "line[-CRC_TAIL:] ==", "line[-CRC_TAIL:].lower() ==",
    ),
    _one(
        "damage before a `synced` mark is no crash's",
        "an acknowledged record skipped as a crash's trace",
        "bits of the active segment",
        "storage.segment:Segment._judge", "if not may_be_a_crashs(piece, self._marked, last):", "if piece is None:",
    ),
    _one(
        "damage behind every `synced` mark is a crash's",
        "a manifest that will not open after a power cut",
        "crash: add after additions, killed only",
        "storage.segment:may_be_a_crashs", "return piece.offset >= synced and", "return False and",
    ),
    _one(
        "a segment is compared with what its successor says",
        "lines gone from the end of a segment that was fenced",
        "moved lines",
        "storage.segment:Segment.check_link", "if told is not None and", "if True or",
    ),
    _one(
        "a batch is one line",
        "half of a batch after a crash",
        "crash: add_many",
        "store:Store._add_batch", 'self.session.append(state, Op("batch", now_text(), puts, {}))',
        'for one in puts:\n            self.session.append(state, Op("put", now_text(), [one], {}))',
    ),
]  # fmt: skip

APPENDING = [
    _one(
        "a torn tail is fenced",
        "a record written into another's unfinished line",
        "crash: fence of a torn tail",
        "storage.segment:Segment.clean", " and not self._unfinished", "",
    ),
    _one(
        "a line without its newline is fenced",
        "two records on one line",
        "crash: add, everything in full",
        "storage.segment:Segment.clean", "self.tail.terminated and ", "",
    ),
    _one(
        "a sealed segment is not appended to",
        "a record behind the seal",
        "crash: rotate, everything in full",
        "storage.segment:Segment.clean", " and not self.sealed", "",
    ),
    _one(
        "a damaged end is not appended to",
        "a crash's damage that a later `synced` mark makes rot",
        "crash: add after additions, killed only, then synced",
        "storage.segment:Segment.clean", " and not self._damage", "",
    ),
    _one(
        "a short write goes on",
        "half a record acknowledged",
        "calls fail: add, short write",
        "storage.disk:append", "while written < len(data):", "while False:",
    ),
    _one(
        "a short read goes on",
        "an end of file where there is none",
        "calls fail: open, short read",
        "storage.disk:read", "while got < count and", "while False and",
    ),
    _one(
        "nothing is appended after a failed sync",
        "records behind pages that the kernel has dropped",
        "calls fail: add, EIO",
        "storage.wal:Wal.prepare", "if segment.clean and not segment.sync_failed:", "if segment.clean:",
    ),
    _one(
        "no sync is repeated after one that failed",
        "a success that says nothing of the lost pages",
        "calls fail: add, EIO",
        "storage.wal:Wal._start_next", "if not self.current.sync_failed:", "if True:",
    ),
    _one(
        "a failed sync is remembered",
        "an addition acknowledged that no disk has",
        "calls fail: add, EIO",
        "session:Session._make_durable", "raise IndeterminateWriteError(segment.path, failure) from failure", "return",
    ),
    _one(
        "a record whose sync failed is written again",
        "already there, said of a record that is not on the disk",
        "calls fail: add, EIO",
        "storage.state:State.distrusts",
        "return entry is not None and self.wal is not None and entry[1] in self.wal.poisoned", "return False",
    ),
]  # fmt: skip

TOGETHER = [
    _one(
        "the append lock is taken",
        "two writers at one offset",
        "schedules",
        "storage.lock:FileLock.__enter__",
        "if self._fd < 0 or not (lock_descriptor(self._fd, blocking=False) and disk.is_linked(self._fd)):", "if False:",
    ),
    Safeguard(
        "a lock's file must still have its name",
        "two inside at once, each with a lock of his own",
        "a deleted lock file",
        (
            Edit("storage.lock:FileLock.__enter__", "and disk.is_linked(self._fd)", ""),
            Edit("storage.lock:FileLock.try_acquire", "if disk.is_linked(self._fd):", "if True:"),
        ),
    ),
    _one(
        "the compaction lock is taken",
        "two compactors that delete each other's segments",
        "a compactor stopped while another compacts",
        "session:Session.alone_compacting", "alone = self._compact_lock.try_acquire()", "alone = True",
    ),
    _one(
        "others' lines are read under the lock",
        "a line at an offset that is taken, a verdict of yesterday",
        "schedules",
        _TRANSACT, "self._on_fresh_state(act)", "act(self._state)",
    ),
    _one(
        "others' lines are read before an answer",
        "a reader that does not see what was acknowledged",
        "schedules",
        "session:Session.read", "self._on_fresh_state(ask)", "ask(self._state)",
    ),
    _one(
        "the verdict is found under the lock",
        "two winners for one content",
        "schedules",
        "store:Store.add", "return self.session.transact(lambda state: self._add(state, event))",
        "row, verdict, stored, known = self.session.read(lambda state: _decide(state.view, event[0]))\n"
        "    if stored is None:\n        return verdict, view(known, pair_of(row))\n"
        "    self.session.transact(lambda state: self._append_put(state, self._put_of(stored)))\n"
        "    return verdict, view(stored, pair_of(row))",
    ),
    _one(
        "new is said only when neither content nor source is known",
        "a source's second content taken for its first",
        "schedules",
        "storage.view:View.knows", "checksum in overlay.entries or overlay.has_source(source_id)", "checksum in overlay.entries",
    ),
    _one(
        "ties are ranked",
        "the wrong one of two contents with one time, after a compaction",
        "schedules",
        "verdict:ranked", "if tie else event", "if tie < 0 else event",
    ),
    _one(
        "a process that was overtaken loads again",
        "a segment written where nobody reads",
        "a writer sleeps over a fence and a compaction",
        "storage.wal:Wal._successor", "if self._numbers()[-1:] > [number]:", "if False:",
    ),
    _one(
        "an opener begins again when files change under it",
        "damage told where a compaction has deleted segments",
        "opening while segments are deleted",
        "storage.state:State.load", "if fingerprint(paths) == before:", "if True:",
    ),
    _one(
        "a segment is read once more before its successor",
        "lines missed that came just before the seal",
        "schedules",
        "storage.wal:Wal.follow", "        self._advance(self.current, take)\n        self.current.check_link", "        self.current.check_link",
    ),
    _one(
        "a child of a fork opens its own files",
        "a child that shares its parent's lock",
        "schedules",
        "session:Session._enter", "if self._pid != os.getpid():", "if False:",
    ),
    _one(
        "a child of a fork never unlocks",
        "the parent's lock freed in the middle of its write",
        "schedules",
        "session:Session.drop_inherited", "self._append_lock.close()", "self._append_lock.release()",
    ),
    _one(
        "what came after a compaction began stays in the overlay",
        "records gone until the next opening",
        "schedules",
        "storage.overlay:Overlay.behind", "if segment > covers:", "if False:",
    ),
    _one(
        "the last writer compacts",
        "a canonical that stays old although all have closed",
        "schedules",
        "storage.wal:Wal.has_other_writers", "return disk.held_by_others(self.current.fd)", "return True",
    ),
]  # fmt: skip

_PUBLISH = "        self._publish(found.base)  # (5)"
COMPACTING = [
    _one(
        "the rename comes before covered segments are deleted",
        "neither the log nor the canonical that holds it",
        "crash: compact",
        _RUN, _PUBLISH, "        self._delete_covered(cut.last)\n" + _PUBLISH,
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
    _one(
        "the rename comes before `compacted`",
        "a log that knows no canonical but one to come",
        "crash: compact",
        _RUN, _PUBLISH, '        _tell(store, "compacted", told, 0.0)\n' + _PUBLISH,
    ),
    _one(
        "a canonical is announced",
        "a canonical that the log does not know",
        "crash: compact",
        _RUN, 'pause = _tell(store, "compacting", told, 0.0)', "pause = 0.0",
    ),
    _one(
        "tombstones are merged",
        "forgotten records back in the canonical",
        "crash: compact to nothing",
        "storage.merge:plan", "if present or raw is not None:", "if raw is not None:",
    ),
    _one(
        "unfinished files are removed",
        "a directory that fills with them",
        "crash: sweep of leftovers",
        "compactor:_sweep", "disk.remove(path)", "pass",
    ),
    _one(
        "the canonical is checked before a merge",
        "rot that gets a fresh CRC",
        "bits of the canonical, written to",
        "compactor:_Compaction._read_with", "self._check_base(found)", "pass",
    ),
]  # fmt: skip

READING = [
    _one(
        "an index is used with its own canonical only",
        "records read at the places of yesterday",
        "crash: compact, add_many, compact",
        "storage.base:open_base", "if found is not None and found.head.stamp == stamp:", "if found is not None:",
    ),
    Safeguard(
        "an index's buckets have CRCs",
        "a record that is there and not found",
        "bits of the index",
        (
            Edit("storage.index:Index._bucket", "if not self._checked[bucket]:", "if False:"),
            Edit("storage.index:Index._source_bucket", "if not self._sources_checked[bucket]:", "if False:"),
        ),
    ),
    _one(
        "a record from the canonical has a CRC",
        "rot handed out as a record",
        "bits of the canonical",
        "storage.canonical:Canonical.record", "if crc32(raw) != crc:", "if False:",
    ),
    _one(
        "the log knows its canonical",
        "a canonical that was edited, swapped, or brought back",
        "bits of the canonical, without an index",
        "storage.wal:Wal.covered_by", "for base in reversed(self.bases):",
        "for base in self.bases[-1:]:\n        return base.covers\n    for base in reversed(self.bases):",
    ),
    _one(
        "a log without its canonical is damage",
        "an empty manifest begun over a log",
        "missing files",
        "storage.state:State._load_once", "if paths.segment_numbers(_names(paths)):", "if False:",
    ),
    _one(
        "a missing segment is damage",
        "records silently gone",
        "missing files",
        "storage.wal:Wal.replay", "segment = self._open_needed(number)",
        "if not disk.exists(self._paths.segment(number)):\n                continue\n            segment = self._open_needed(number)",
    ),
]  # fmt: skip

SAFEGUARDS = [*ON_THE_DISK, *LINES, *APPENDING, *TOGETHER, *COMPACTING, *READING]
