"""Safeguards of what lies on the disk: syncs, lines, appending, reading."""

from __future__ import annotations

from .seeding import Edit, Safeguard, one

_TRANSACT = "engines.filelog.session:Session.transact"
_NOT_SYNCED = "pass"
_PUBLISH = "files.publish:_complete"
_A_SEGMENT = "'.wal-' in target.path"
_SYNC = "engines.filelog.log.segment:Segment._sync_alone"
_SYNCED_BEFORE = Edit(
    _SYNC, "if self._broken:\n        raise OSError(errno.EIO, _FAILED_BEFORE, self.path)\n    reached", "reached"
)
_SYNCED_MEANWHILE = Edit(_SYNC, "if self._broken:  # a signal", "if False:  # a signal")

ON_THE_DISK = [
    one(
        "a new segment's name is synced",
        "a record acknowledged in a segment that has no name after a power cut",
        "crash: the first addition",
        _PUBLISH, "if target.directory is not None:", f"if target.directory is not None and not {_A_SEGMENT}:",
    ),
    one(
        "a new segment's first line is synced before it has a name",
        "a segment that is there and empty, which is damage",
        "crash: the first addition",
        _PUBLISH, "disk.sync_data(fd)", f"if not {_A_SEGMENT}:\n        disk.sync_data(fd)",
    ),
    one(
        "a segment is synced before its successor has a name",
        "lines gone in the middle of the log",
        "crash: rotate, killed only",
        "engines.filelog.log.wal:Wal._start_next", "self.current.sync(self.current.tail.length)", _NOT_SYNCED,
    ),
    one(
        "a segment's name is synced by whoever writes to it",
        "the name's maker was killed before he came to it",
        "crash: names of the killed, rotate",
        "engines.filelog.log.wal:Wal.prepare", "disk.sync_directory(self._paths.directory)", _NOT_SYNCED,
    ),
    one(
        "a segment's name is synced by whoever writes to it, also if it has had lines from the beginning",
        "a record acknowledged in a segment that has no name after a power cut",
        "crash: names of the killed, replay",
        "engines.filelog.log.wal:Wal.prepare", "if not (segment.is_named or", "if segment.tail.lines == 1 and not (segment.is_named or",
    ),
    one(
        "the canonical's name is synced before there is a log",
        "a log without its canonical",
        "crash: names of the killed, create",
        "engines.filelog.log.wal:start", "disk.sync_directory(paths.directory)", _NOT_SYNCED,
    ),
    one(
        "a new directory's name is synced",
        "the whole manifest gone with its directory",
        "crash: create, with its folder",
        "files.disk:make_directory", "sync_directory(above)", _NOT_SYNCED,
    ),
    one(
        "the skeleton is synced before it has a name",
        "a canonical that is there and empty",
        "crash: create",
        _PUBLISH, "disk.sync_data(fd)", f"if {_A_SEGMENT}:\n        disk.sync_data(fd)",
    ),
    one(
        "the merged file is synced before the rename",
        "a canonical that has its name and not its bytes",
        "crash: compact",
        "engines.filelog.compaction.steps:_Compaction._write", "disk.sync_data(fd)", _NOT_SYNCED,
    ),
    Safeguard(
        "the rename is synced before covered segments move",
        "the old canonical back, and the log gone",
        "crash: compact",
        (
            Edit("engines.filelog.compaction.steps:_Compaction._publish", "disk.sync_directory(self._paths.directory)", _NOT_SYNCED),
            Edit(_PUBLISH, "if target.directory is not None:", f"if target.directory is not None and {_A_SEGMENT}:"),
        ),
    ),
    one(
        "the announcement is synced before the rename",
        "a canonical that the log does not know",
        "crash: compact, killed only",
        "engines.filelog.compaction.steps:_log_base", "session.sync()", _NOT_SYNCED,
    ),
    one(
        "a line is synced before it is acknowledged",
        "an acknowledged record lost in a power cut",
        "crash: add",
        _TRANSACT, "self._make_durable(*unsynced)", _NOT_SYNCED,
    ),
    Safeguard(
        "what is already there is synced before that is said",
        "a duplicate acknowledged, of a line that its writer has not synced yet",
        "a duplicate before the sync",
        (
            Edit(_TRANSACT, "result = self._on_fresh_state(act)", "self._catch_up()\n            was = self._state.wal and self._state.wal.current.tail.length\n            result = self._on_fresh_state(act)"),
            Edit(_TRANSACT, "unsynced = self._pin_unsynced()", "unsynced = self._pin_unsynced() if self._state.wal and self._state.wal.current.tail.length != was else None"),
        ),
    ),
]  # fmt: skip

LINES = [
    Safeguard(
        "a line's CRC is compared",
        "rot in a record that still parses",
        "bits of the active segment",
        (
            Edit("engines.filelog.checksums:line_is_intact", "line[-CRC_TAIL:] == b',\"crc\":\"%08x\"}' % crc", "line[-CRC_TAIL:-10] == b',\"crc\":\"'"),
            Edit("engines.filelog.log.lines:usual_puts", 'if crc != b"%08x" % crc32(line[: -checksums.CRC_TAIL], crc32(place, salt)):', "if place is None:"),
        ),
    ),
    one(
        "a line's CRC covers its place",
        "lines moved or doubled",
        "moved lines",
        "engines.filelog.checksums:line_is_intact", "return line[-CRC_TAIL:] == b',\"crc\":\"%08x\"}' % crc",
        "places = (offset, *range(6000))\n"
        "    return line[-CRC_TAIL:] in [b',\"crc\":\"%08x\"}' % crc32(body, crc32(at.to_bytes(8, 'little'), salt)) for at in places]",
    ),
    one(
        "a segment has a salt of its own",
        "lines of another segment or another manifest",
        "lines of a twin",
        "engines.filelog.log.wal:create_segment", "secrets.randbits(32)", "0",
    ),
    one(
        "CRCs are compared as bytes",
        "a flipped bit in the CRC itself",
        "bit 5 of the active segment",
        "engines.filelog.checksums:line_is_intact", "line[-CRC_TAIL:] ==", "line[-CRC_TAIL:].lower() ==",
    ),
    one(
        "damage before a `synced` mark is no crash's",
        "an acknowledged record skipped as a crash's trace",
        "bits of the active segment",
        "engines.filelog.log.segment:Segment._refuse_unexplained", "if not explained_by_crash(piece, self.marked, last):", "if piece is None:",
    ),
    one(
        "damage behind every `synced` mark is a crash's",
        "a manifest that will not open after a power cut",
        "crash: add after additions, killed only",
        "engines.filelog.log.segment:explained_by_crash", "return piece.offset >= synced and", "return False and",
    ),
    one(
        "a segment is compared with what its successor says",
        "lines gone from the end of a segment that was fenced",
        "moved lines",
        "engines.filelog.log.segment:Segment.check_link", "if declared is not None and", "if True or",
    ),
    one(
        "a batch is one line",
        "half of a batch after a crash",
        "crash: add_many",
        "engines.filelog.engine:FileEngine._append_batch", 'self.session.append(state, LogEntry("batch", now_text(), list(changes.puts), data))',
        'for one in changes.puts:\n        self.session.append(state, LogEntry("put", now_text(), [one], {}))',
    ),
]  # fmt: skip

APPENDING = [
    one(
        "a torn tail is fenced",
        "a record written into another's unfinished line",
        "crash: fence of a torn tail",
        "engines.filelog.log.segment:Segment.clean", " and not self._unfinished", "",
    ),
    one(
        "a line without its newline is fenced",
        "two records on one line",
        "crash: add, everything in full",
        "engines.filelog.log.segment:Segment.clean", "self.tail.terminated and ", "",
    ),
    one(
        "a sealed segment is not appended to",
        "a record behind the seal",
        "crash: rotate, everything in full",
        "engines.filelog.log.segment:Segment.clean", " and not self.sealed", "",
    ),
    one(
        "a damaged end is not appended to",
        "a crash's damage that a later `synced` mark makes rot",
        "crash: add after additions, killed only, then synced",
        "engines.filelog.log.segment:Segment.clean", " and not self._damage", "",
    ),
    one(
        "a short write goes on",
        "half a record acknowledged",
        "calls fail: add, short write",
        "files.disk:append", "while written < len(data):", "while False:",
    ),
    one(
        "a short read goes on",
        "an end of file where there is none",
        "calls fail: refresh, short read",
        "files.disk:read", "while got < count and", "while False and",
    ),
    one(
        "nothing is appended after a failed sync",
        "records behind pages that the kernel has dropped",
        "calls fail: add, EIO",
        "engines.filelog.log.wal:Wal.prepare", "if segment.clean and not segment.sync_failed:", "if segment.clean:",
    ),
    Safeguard(
        "no sync is repeated after one that failed",
        "a success that says nothing of the lost pages",
        "calls fail: add, EIO",
        (
            Edit("engines.filelog.log.wal:Wal._start_next", "if not self.current.sync_failed:", "if True:"),
            _SYNCED_BEFORE,
        ),
    ),
    Safeguard(
        "a failed sync is told to every thread",
        "a success that another thread's failure has bought",
        "threads at a failing sync",
        (_SYNCED_BEFORE, _SYNCED_MEANWHILE),
    ),
    Safeguard(
        "a failed sync that a signal handler was told of is told to whom it has interrupted",
        "a success that its own handler's failure has bought",
        "a sync that is interrupted by one that fails",
        (_SYNCED_MEANWHILE,),
    ),
    one(
        "a line without its newline is never taken back",
        "another line's newline taken for its own",
        "a line that fits but for its newline",
        "engines.filelog.log.segment:Segment._is_written_but_for_its_newline", "start < size < end - 1", "start < size < end",
    ),
    one(
        "a failed sync is remembered",
        "an addition acknowledged that no disk has",
        "calls fail: add, EIO",
        "engines.filelog.session:Session._make_durable", "raise IndeterminateWriteError(segment.path, failure) from failure", "return",
    ),
    one(
        "a record whose sync failed is written again",
        "already there, said of a record that is not on the disk",
        "calls fail: add, EIO",
        "engines.filelog.state:State.must_rewrite",
        "return entry is not None and self.wal is not None and entry[1] in self.wal.sync_failed_segments", "return False",
    ),
]  # fmt: skip

READING = [
    one(
        "an index is used with its own canonical only",
        "records read at the places of yesterday",
        "crash: compact, forget, compact",
        "engines.filelog.canonical.files:open_base", "if found is not None and found.head.stamp == stamp:", "if found is not None:",
    ),
    Safeguard(
        "an index's buckets have CRCs",
        "a record that is there and not found",
        "bits of the index",
        (
            Edit("engines.filelog.canonical.index:Index._bucket", "if not self._checked[bucket >> 3] & bit:", "if False:"),
            Edit("engines.filelog.canonical.index:Index._source_bucket", "if not self._sources_checked[bucket >> 3] & bit:", "if False:"),
            Edit("engines.filelog.canonical.index:Index.check_all", "if self._checks != record_checks", "if False and"),
            Edit("engines.filelog.canonical.index:Index.check_all", "if self._source_checks != source_checks", "if False and"),
        ),
    ),
    one(
        "every record of a bulk read has a CRC",
        "rot handed out by an iteration",
        "bits of the canonical",
        "engines.filelog.canonical.reading:_records", "if found != some.crcs:", "if False:",
    ),
    one(
        "a record from the canonical has a CRC",
        "rot handed out as a record",
        "bits of the canonical",
        "engines.filelog.canonical.scan:Canonical.record", "if crc32(raw) != crc:", "if False:",
    ),
    one(
        "the log knows its canonical",
        "a canonical that was edited, swapped, or brought back",
        "bits of the canonical, without an index",
        "engines.filelog.log.fold:covered_by", "for base in reversed(bases):",
        "for base in bases[-1:]:\n        return base.covers\n    for base in reversed(bases):",
    ),
    one(
        "a log without its canonical is damage",
        "an empty manifest begun over a log",
        "missing files",
        "engines.filelog.state:State._load_once", "if paths.segment_numbers(_names(paths)):", "if False:",
    ),
    one(
        "a missing segment is damage",
        "records silently gone",
        "missing files",
        "engines.filelog.log.wal:Wal.replay", "segment = self._open_needed(number)",
        "if not disk.exists(self._paths.segment(number)):\n                continue\n            segment = self._open_needed(number)",
    ),
    one(
        "a missing log is damage",
        "the index remembers that there was one",
        "missing files",
        "engines.filelog.state:State._load_once", "if log_ is None and base.index.head.covers:", "if False:",
    ),
    one(
        "a newline that comes after its line is taken over",
        "a line read while its writer was one byte short, and then called damaged",
        "a newline that comes late",
        "engines.filelog.log.segment:Segment.advance", "if end > self.tail.length and not self.tail.terminated and", "if False and",
    ),
    one(
        "a successor is looked for at a torn end that stands still",
        "a reader that stays for ever in front of a fence",
        "a torn end is left",
        "engines.filelog.log.wal:Wal.stands_still", "not disk.exists(self._paths.segment(self.current.number + 1))", "True",
    ),
    one(
        "a segment is asked for by name at a torn end that stands still",
        "a reader that stays in a segment that was compacted away",
        "a torn end is compacted away",
        "engines.filelog.log.segment:Segment.stands_still", "disk.path_stamp(self.path) == stamp", "disk.stamp(self.fd) == stamp",
    ),
    one(
        "the last bytes of a torn end are compared",
        "a line of just the length of what was taken back, never read",
        "a line of just the length of a torn one",
        "engines.filelog.log.segment:Segment.stands_still", "disk.read(self.fd, len(last), stamp.size - len(last)) == last", "True",
    ),
]  # fmt: skip

MOVED = [
    one(
        "a moved line is no crash's",
        "acknowledged records skipped as a crash's trace",
        "moved lines: refused",
        "engines.filelog.log.segment:Segment._refuse_moved", "for piece in damage:", "for piece in ():",
    ),
    one(
        "moved lines are damage whatever is said to be synced",
        "lines lost that only a kill was to spare",
        "moved lines: refused in the weaker modes",
        "engines.filelog.log.segment:Segment._refuse_moved", "for piece in damage:",
        "for piece in damage if self.marked > damage[0].offset else ():",
    ),
    one(
        "an unfinished end is searched for moved lines",
        "the last line moved, taken for one that is being written",
        "moved lines: refused",
        "engines.filelog.log.segment:Segment._refuse_moved", "if rest < end else []", "if False else []",
    ),
    one(
        "a line may have been moved farther than the file reaches",
        "most of a segment taken out, and the rest skipped",
        "moved lines: refused in the weaker modes",
        "engines.filelog.log.moved:Search.within", "max(_REACH_MIN, 2 * reach, 2 * synced)", "reach",
    ),
    one(
        "an offset counts only where a line can have been",
        "a crash's trace called damage",
        "moved lines: bits of one that was not",
        "engines.filelog.log.moved:Search.within", "if synced <= origin <= max(_REACH_MIN, 2 * reach, 2 * synced):", "if True:",
    ),
    one(
        "a copy of a line in its place is no damage",
        "a manifest that does not open for a line too many at its end",
        "moved lines: copies at the end",
        "engines.filelog.log.moved:Search.lost_within", "if not self._is_copy(moved)", "if moved",
    ),
    one(
        "moved lines are counted among the good records beyond",
        "a loss told that a repair does not bring",
        "moved lines: counted",
        "engines.filelog.log.moved:Search.records_beyond", "self.lost_within(piece.offset, piece.end)", "()",
    ),
    one(
        "`check` finds moved lines",
        "damage that a reader is told of, and `check` and `repair` are not",
        "moved lines: found by `check`",
        "engines.filelog.recovery.check:_classify_damage", "if moved is not None:", "if False:",
    ),
    one(
        "a repair takes moved lines back",
        "acknowledged records in quarantine only",
        "moved lines: repaired",
        "engines.filelog.recovery.salvage_log:_take_moved", "if decoded(moved.line) is not None:", "if False:",
    ),
    one(
        "a repair takes moved lines in the order in which they were written",
        "a forgotten record back",
        "moved lines: one that was forgotten, repaired",
        "engines.filelog.recovery.salvage_log:_in_order", "return merge(placed, moved, key=itemgetter(0))", "return iter([*placed, *moved])",
    ),
    one(
        "lines that were all moved alike tell their salt",
        "a segment lost with its first line",
        "moved lines: the first line gone, repaired",
        "engines.filelog.recovery.salvage_log:_recovered_salt", "if agreeing >", "if 0 >",
    ),
]  # fmt: skip
