"""Safeguards of what is derived: the index, and the merge that carries it on. A wrong index has wrong answers and right CRCs."""

from __future__ import annotations

from .seeding import Edit, Safeguard, one

INDEX_AND_MERGE = [
    one(
        "an index is checked before it is merged",
        "damage that gets a fresh CRC",
        "an index that is damaged beside a merge",
        "engines.filelog.compaction.steps:_Compaction._read", "found.index.check_all()", "pass",
    ),
    one(
        "an index's header has a CRC",
        "another total, other metadata",
        "bits of the index",
        "engines.filelog.canonical.index:_read_header", 'crc32(header) != int.from_bytes(view[_FIXED - 4 : _FIXED], "little")', "False",
    ),
    Safeguard(
        "a built index has its source rows sorted",
        "a source that is there and not found",
        "histories with any index",
        (
            Edit("engines.filelog.canonical.columns:_sorted", "sorted(rows_of(bytes(part)))", "rows_of(bytes(part))"),
        ),
    ),
    one(
        "a line counts only with its record's own key",
        "a content under the key of another, in an index with right CRCs",
        "a record under the key of another",
        "engines.filelog.canonical.parsing:parse", "heads == _heads(checksums) and ", "",
    ),
    one(
        "source rows are merged in order",
        "a source that is there and not found, from the next compaction on",
        "histories with any index",
        "engines.filelog.canonical.merge:_splice", "changes.sort()", "changes.sort(key=lambda change: (change[1], change[0]))",
    ),
    one(
        "a replaced record's source rows go",
        "a source that still has what it had",
        "histories with any index",
        "engines.filelog.canonical.merge:_splice", "drop=not is_new", "drop=False",
    ),
    one(
        "a record put between two pushes neither out",
        "the record behind each new one gone",
        "histories with any index",
        "engines.filelog.canonical.merge:write", "done = change.position + change.present", "done = change.position + 1",
    ),
    one(
        "a replaced record is not copied as well",
        "two lines for one content",
        "histories with any index",
        "engines.filelog.canonical.merge:write", "done = change.position + change.present", "done = change.position",
    ),
    one(
        "what is behind the last change is copied",
        "the end of the canonical gone",
        "histories with any index",
        "engines.filelog.canonical.merge:write", "run.copy(done, base.index.count)", "pass",
    ),
    one(
        "copied records have their new places",
        "records read at the places of yesterday, in an index of today",
        "histories with any index",
        "engines.filelog.canonical.merge:_Merge.copy", "shift = self._out.size - first", "shift = 0",
    ),
    one(
        "a copied range ends before the comma of its last record",
        "two commas in a row",
        "histories with any index",
        "engines.filelog.canonical.merge:_Merge.copy", "last - len(document.BETWEEN)", "last",
    ),
    one(
        "a source row is of one time",
        "an older content of the source, because its checksum begins alike",
        "contents that begin alike",
        "engines.filelog.view:View._in_base", "and index.is_of_time(row, order := sort_key(o))", "and (order := sort_key(o))",
    ),
    one(
        "what the log names is not asked of the index",
        "forgotten records back, changed ones as they were",
        "histories with any index",
        "engines.filelog.view:View._in_base", "if not self._named(checksum, len(self.overlays)):", "if True:",
    ),
    one(
        "a digest is found at its own place only",
        "a content that is not there, found across two that are",
        "digests across two others",
        "engines.filelog.canonical.index:Index.find", "while found >= 0 and (found - first) % DIGEST:", "while False:",
    ),
]  # fmt: skip

SEARCHES = [
    one(
        "a search compares the whole file",
        "a record that is not found, because its damage hides it",
        "damage where a search finds nothing",
        "engines.filelog.canonical.reading:containing", "    check_read(source, index, crc)", "    pass",
    ),
    one(
        "a search finds what only an event of a batch names",
        "an output that is never traced to its input",
        "an input that only an event of a batch names",
        "engines.filelog.history.batch_lines:_parse_some", "    if others:", "    if False:",
    ),
    one(
        "records with objects in them are parsed whole",
        "events of one content under the cursor of another",
        "a batch with other sources",
        "engines.filelog.history.batch_lines:_parse_some", "or line.count(_CHECKSUM, begin, end) != count", "",
    ),
]  # fmt: skip

_COPY = "return stamp.size == head.stamp.size and scanning.checksum(source, stamp.size) == head.crc"
ADOPTION = [
    one(
        "an index is not adopted on size alone",
        "records of another manifest, whose canonical is as long",
        "an index of a canonical of the same size",
        "engines.filelog.canonical.files:_is_copy", _COPY, "return stamp.size == head.stamp.size",
    ),
    one(
        "an index is not adopted on time alone",
        "records of another manifest, written in the same moment",
        "an index of a canonical of the same time",
        "engines.filelog.canonical.files:_is_copy", _COPY, "return stamp.mtime_ns == head.stamp.mtime_ns",
    ),
    Safeguard(
        "an index is not kept over a canonical that has changed",
        "a damaged canonical with an index that vouches for it",
        "a canonical that changes while its index is adopted",
        (
            Edit("engines.filelog.canonical.files:keep_index", "if disk.path_stamp(paths.canonical) != stamp:", "if False:"),
            Edit("engines.filelog.canonical.files:keep_index", "stamp = found.index.head.stamp", "stamp = disk.path_stamp(paths.canonical)\n    found.index.head = found.index.head._replace(stamp=stamp)"),
        ),
    ),
    one(
        "an index is kept under the compaction lock only",
        "the index of yesterday over that of a compaction",
        "a copy that is opened beside a compaction",
        "engines.filelog.kept_index:keep_index", "if alone and (found", "if (found",
    ),
    one(
        "what an index holds of another tool's file has a CRC",
        "damage of the index, taken for the canonical's",
        "bits behind another tool's file",
        "engines.filelog.canonical.index:Index.__init__", "crc32(self.imported) != imported[1]", "False",
    ),
]  # fmt: skip

_TURN = "engines.filelog.canonical.turn:Turn"
TURNS = [
    one(
        "who finds no index waits for the one that another process is making",
        "as many scans as processes",
        "opening while another process reads",
        "engines.filelog.canonical.files:open_base", "if turn is not None and turn.take(stamp.size):", "if False:",
    ),
    one(
        "who has waited looks for the index again",
        "one scan after the other",
        "opening while another process reads",
        f"{_TURN}.take", "return waited or self._ours", "return False",
    ),
    one(
        "the wait for another's index is bounded",
        "a stopped process that lets nobody open the manifest",
        "opening beside a process that is stopped",
        f"{_TURN}.take", "if time.monotonic() >= self._deadline:", "if False:",
    ),
    one(
        "a turn ends with the opening",
        "a process that works on, and lets nobody open the manifest quickly",
        "a turn after the opening",
        f"{_TURN}.end", "disk.unlock_byte(fd, _BYTE)", "return",
    ),
]  # fmt: skip

LOOKS = [
    one(
        "a look begins anew where events leave it open",
        "an input whose output was forgotten, never processed again",
        "a look after an output was forgotten",
        "pending:Look._take_output", "raise _UncertainError", "pass",
    ),
    one(
        "a look keeps the inputs that are done without being upstream",
        "an input processed twice, because it came upstream after its output",
        "a look at an input that came late",
        "pending:Look._take_upstream", "and checksum not in self._done", "",
    ),
]  # fmt: skip
