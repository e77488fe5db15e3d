"""Safeguards of the work around the log: when a compaction is due, the child process that does it, and how downloads land.

Left out, since no seeded bug reaches it or another safeguard finds the same:

- what a child process does on its own, beyond its first word: it runs the code on the disk;
- that the intent of a small part is recorded: its file without a record is found by its content as well;
- that a group keeps each member's error: a group that fails as a whole lands one by one.
"""

from __future__ import annotations

from .seeding import Edit, Safeguard, one

_TRIGGER = "engines.filelog.compaction.trigger"
_OPTIONS = "options:ManifestOptions"
TRIGGER = [
    one(
        "compactions take a share of the time",
        "a machine that does nothing but compact",
        "a slow compaction, a moment ago",
        f"{_TRIGGER}:seconds_until_due", "if status.compacted_at:", "if False:",
    ),
    one(
        "compactions write so many bytes for each byte in the log",
        "a disk that is worn out",
        "a large canonical and a short log",
        f"{_OPTIONS}.log_bytes_worth", "return min(int(rewrite_bytes / self.compact_write_ratio), 2 * self._usual_limit(canonical_bytes))", "return 0",
    ),
    one(
        "a small canonical is written for any log",
        "a canonical that stays old",
        "a small canonical and a short log",
        f"{_OPTIONS}.log_bytes_worth", "if canonical_bytes <= self.compact_small_bytes:", "if False:",
    ),
    one(
        "a log that is too long is compacted at once",
        "memory that grows with the log",
        "a long log after a slow compaction",
        f"{_TRIGGER}:seconds_until_due", "if status.bytes_to_merge >= options.log_bytes_limit", "if False and options.log_bytes_limit",
    ),
    one(
        "the log's length goes before the disk's bytes",
        "memory that grows with the canonical",
        "a huge canonical and a long log",
        f"{_OPTIONS}.log_bytes_worth", "min(int(rewrite_bytes / self.compact_write_ratio), 2 * self._usual_limit(canonical_bytes))", "int(rewrite_bytes / self.compact_write_ratio)",
    ),
    one(
        "a clock that was set back holds no compaction up",
        "a canonical of yesterday until tomorrow",
        "a change from the future",
        f"{_TRIGGER}:_age", "if age_s >= 0 else 0.0", "",
    ),
    one(
        "the last writer leaves a log that is not worth a compaction",
        "a large canonical that is written for each short script",
        "a short script at a large canonical",
        "engines.filelog.engine:FileEngine._leave", " and is_worth_closing(self.session)", "",
    ),
]  # fmt: skip

_CHILD = "engines.filelog.compaction.child"
CHILD = [
    one(
        "one writer starts a child, while it holds the compaction lock",
        "as many children as writers",
        "a child that is being started",
        f"{_CHILD}:compact_in_child", "child = _start(session)", "session._compact_lock.release()\n        child = _start(session)",
    ),
    one(
        "the lock is free when the child is told to go",
        "a child that leaves the work to its own parent",
        "a compaction in a child",
        f"{_CHILD}:compact_in_child", "        ready = _repeat(child)\n    with child:",
        "        ready = _repeat(child) and not (_send(child, _GO) or _repeat(child))\n    with child:",
    ),
    one(
        "a child compacts only when it is told to",
        "a compaction that nobody waits for, after a kill",
        "a child whose parent is gone",
        f"{_CHILD}:main", "if told == _GO:", "if True:",
    ),
    one(
        "the thread does what a child has failed to do",
        "a log that grows for ever where no child can work",
        "a child that is killed",
        "engines.filelog.compaction.background:Background._compact_if_due",
        "if not (in_child and compact_in_child(session)):", "if in_child:\n        compact_in_child(session)\n    else:",
    ),
    one(
        "nothing of the environment runs in a child",
        "somebody else's code, started by each compaction",
        "a child with a sitecustomize",
        f"{_CHILD}:_start", '"-I", "-S", ', "",
    ),
    one(
        "a child has its parent's options",
        "a history that is kept although nobody wants it",
        "a child of a manifest without history",
        f"{_CHILD}:_start", "json.dumps(asdict(session.options))", '"{}"',
    ),
    one(
        "Ctrl-C is not for the child",
        "a compaction that each Ctrl-C breaks off",
        "a child and its process group",
        f"{_CHILD}:_start", "start_new_session=True", "start_new_session=False",
    ),
]  # fmt: skip

_LANDING = "extract.landing"
LANDING = [
    Safeguard(
        "the bytes of a file are on the disk before it has its name",
        "a record of an empty file, after a power cut",
        "the order of landing",
        (
            Edit(f"{_LANDING}:_land", "one.part.sync()", "pass"),
            Edit(f"{_LANDING}:_rename", "one.part.sync()", "pass"),
        ),
    ),
    one(
        "the name of a file is on the disk before its record is written",
        "a record without a file, after a power cut",
        "the order of landing",
        f"{_LANDING}:_land_together", "_sync_directories(group)\n        _add_records(context, [one for one in group if one.path is not None and one.error is None])",
        "_add_records(context, [one for one in group if one.path is not None and one.error is None])\n        _sync_directories(group)",
    ),
    one(
        "who has failed is not registered",
        "a record without a file, although its disk said so",
        "a directory that cannot be synced",
        f"{_LANDING}:_land_together", " and one.error is None", "",
    ),
    one(
        "a group replaces no file",
        "somebody's file gone",
        "a foreign file in the way of a group",
        f"{_LANDING}:_rename", "if path.exists():", "if False:",
    ),
    one(
        "a part that lands alone replaces no file",
        "somebody's file gone",
        "a foreign file in the way",
        f"{_LANDING}:_publish", "if context.place.may_publish(path, one.event):", "if True:",
    ),
    one(
        "a content is stored under a claim",
        "one content in two files",
        "a content that another worker stores",
        f"{_LANDING}:_with_claim", 'if claimed.take("content", one.event.sha256):', "if True:",
    ),
    one(
        "a stored content counts only if its file is there",
        "a record whose file somebody has deleted",
        "a known content whose file is gone",
        "extract.places.local:LocalPlace.is_intact", " and path.stat().st_size == length", "",
    ),
]  # fmt: skip
