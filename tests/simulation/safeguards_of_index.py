"""Safeguards of what is derived: the index, and the merge that carries it on. A wrong index has wrong answers and right CRCs."""

from __future__ import annotations

from .seeding import one

INDEX_AND_MERGE = [
    one(
        "an index is checked before it is merged",
        "damage that gets a fresh CRC",
        "an index that is damaged beside a merge",
        "compactor:_Compaction._read", "found.index.check_all()", "pass",
    ),
    one(
        "an index's header has a CRC",
        "another total, other metadata",
        "bits of the index",
        "storage.index:_read_header", 'crc32(header) != int.from_bytes(view[_FIXED - 4 : _FIXED], "little")', "False",
    ),
    one(
        "a built index has its source rows sorted",
        "a source that is there and not found",
        "histories with any index",
        "storage.index:_sorted", "sorted(part[at : at + ROW] for at in range(0, len(part), ROW))",
        "part[at : at + ROW] for at in range(0, len(part), ROW)",
    ),
    one(
        "source rows are merged in order",
        "a source that is there and not found, from the next compaction on",
        "histories with any index",
        "storage.merge:_splice", "changes.sort()", "changes.sort(key=lambda change: (change[1], change[0]))",
    ),
    one(
        "a replaced record's source rows go",
        "a source that still has what it had",
        "histories with any index",
        "storage.merge:_splice", "drop=not is_new", "drop=False",
    ),
    one(
        "a record put between two pushes neither out",
        "the record behind each new one gone",
        "histories with any index",
        "storage.merge:write", "done = change.position + change.present", "done = change.position + 1",
    ),
    one(
        "a replaced record is not copied as well",
        "two lines for one content",
        "histories with any index",
        "storage.merge:write", "done = change.position + change.present", "done = change.position",
    ),
    one(
        "what is behind the last change is copied",
        "the end of the canonical gone",
        "histories with any index",
        "storage.merge:write", "run.copy(done, base.index.count)", "pass",
    ),
    one(
        "copied records have their new places",
        "records read at the places of yesterday, in an index of today",
        "histories with any index",
        "storage.merge:_Merge.copy", "shift = self._out.size - first", "shift = 0",
    ),
    one(
        "a copied range ends before the comma of its last record",
        "two commas in a row",
        "histories with any index",
        "storage.merge:_Merge.copy", "last - len(canonical.BETWEEN)", "last",
    ),
    one(
        "a source row is of one time",
        "an older content of the source, because its checksum begins alike",
        "contents that begin alike",
        "storage.view:View._in_base", "and index.is_of_time(row, order := order_of(o))", "and (order := order_of(o))",
    ),
    one(
        "what the log names is not asked of the index",
        "forgotten records back, changed ones as they were",
        "histories with any index",
        "storage.view:View._in_base", "if not self._named(checksum, len(self.overlays)):", "if True:",
    ),
    one(
        "a digest is found at its own place only",
        "a content that is not there, found across two that are",
        "digests across two others",
        "storage.index:Index.find", "while found >= 0 and (found - first) % DIGEST:", "while False:",
    ),
]  # fmt: skip
