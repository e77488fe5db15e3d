"""Safeguards of copies and mirrors: what a crash leaves of one, what it never overwrites, and who writes to a replica.

Left out, since another safeguard finds the same: that a canonical and a pack are read back before they get their names.
Those of a database are in `tests/postgres/test_seeded.py`.
"""

from __future__ import annotations

from .seeding import Edit, Safeguard, one

_LOADING = "engines.filelog.loading"
_CRASH = "crash: a copy"
_CRASH_BEFORE_A_LATER_ONE = "crash: a copy whose source goes on"
_CRASH_OF_THE_NEXT_ONE = "crash: a copy that ends an earlier one"
_CRASH_OF_A_MIRROR = "crash: a mirror"
_ANOTHER_HISTORY = "a copy beside the history of another manifest"

COPIES = [
    one(
        "a copy's canonical is on the disk before its name",
        "a canonical that a power cut has emptied",
        _CRASH,
        f"{_LOADING}:_write", "disk.sync_data(fd)", "pass",
    ),
    one(
        "a copy's packs are on the disk before their names",
        "a history that a power cut has emptied",
        _CRASH,
        "engines.filelog.history.writing:_Segment.finish", "disk.sync_data(self._fd)", "pass",
    ),
    one(
        "the names of a copy's packs are on the disk before the canonical's",
        "a copy without its events",
        _CRASH,
        f"{_LOADING}:_publish", "disk.sync_directory(paths.history)", "pass",
    ),
    one(
        "the name of a copy's canonical is on the disk before its log",
        "a log without its canonical",
        _CRASH,
        f"{_LOADING}:_name", "disk.sync_directory(paths.directory)", "pass",
    ),
    one(
        "a copy begins the log behind its history",
        "earlier times that nobody can ask for",
        _CRASH,
        f"{_LOADING}:_publish", "_name_log(paths, *log_names)", "pass",
    ),
    one(
        "a copy's log is on the disk before the canonical's name",
        "a copy that no later one can finish",
        _CRASH_BEFORE_A_LATER_ONE,
        f"{_LOADING}:_write_log", "disk.sync_directory(paths.directory)", "pass",
    ),
    one(
        "a copy finishes an earlier one",
        "a copy that no later one can finish",
        _CRASH_BEFORE_A_LATER_ONE,
        f"{_LOADING}:load", "_finish_earlier(paths)", "pass",
    ),
    one(
        "the name of a copy's canonical is on the disk before another copy names its log",
        "a log without its canonical",
        _CRASH_OF_THE_NEXT_ONE,
        f"{_LOADING}:_finish_earlier", "disk.sync_directory(paths.directory)", "pass",
    ),
    one(
        "the name of a copy's log is on the disk before an index says that it is there",
        "a manifest that calls itself damaged",
        _CRASH_OF_THE_NEXT_ONE,
        "engines.filelog.canonical.files:keep_index", "disk.sync_directory(paths.directory)", "pass",
    ),
    one(
        "unfinished packs go away before a history is set aside",
        "quarantine that fills with them",
        "crash: a copy that is given up",
        "engines.filelog.history.leftovers:set_aside", "keep.sweep(paths, left)", "pass",
    ),
    one(
        "unfinished packs go away before the next copy",
        "quarantine that fills with them",
        _CRASH,
        f"{_LOADING}:load", "keep.sweep(paths, history_folder.names(paths))", "pass",
    ),
    one(
        "a copy goes on over the packs of its earlier try",
        "quarantine that fills with them",
        _CRASH,
        "engines.filelog.history.leftovers:in_the_way", "if not (name in coming and", "if True or not (name in coming and",
    ),
    one(
        "a copy sets aside what lies in the place of its history",
        "a history that is replaced by another one",
        _ANOTHER_HISTORY,
        f"{_LOADING}:_publish", "leftovers.move(paths, written.in_the_way)", "pass",
    ),
    one(
        "a copy reads the packs whose names it wants",
        "a history that is replaced by another one",
        _ANOTHER_HISTORY,
        "engines.filelog.history.leftovers:in_the_way", "and _is_repeated(paths, ts_created, name, coming[name])", "",
    ),
    one(
        "a pack is replaced only by one with all its events",
        "a history that is replaced by another one",
        _ANOTHER_HISTORY,
        "engines.filelog.history.writing:begins_with", "if body != next(bodies, None):", "if False:",
    ),
    one(
        "a copy that comes second takes its history away",
        "a history beside the canonical of another manifest",
        "a manifest that is created beside a copy",
        f"{_LOADING}:_name", "_remove_packs(paths, written.packs)", "pass",
    ),
    Safeguard(
        "a copy replaces no canonical with records",
        "a manifest that is gone",
        "a copy over another manifest",
        (
            Edit(f"{_LOADING}:_refuse_other", "if found.index.count and found.metadata != image.metadata:", "if False:"),
            Edit(f"{_LOADING}:_publish", "if there is not None and not (packs", "if False and not (packs"),
        ),
    ),
    Safeguard(
        "an empty manifest goes before the history of a copy gets its name",
        "a history beside the canonical of another manifest",
        "crash: a copy into an empty manifest",
        (
            Edit(f"{_LOADING}:_publish", "if there is not None and not is_same:", "if False:"),
            Edit(f"{_LOADING}:_publish", "is_new=not is_same", "is_new=there is None"),
        ),
    ),
    one(
        "a canonical without a log answers for no time of a newer history",
        "an answer of two moments",
        "a canonical restored beside its history",
        "engines.filelog.history.access:History._reach_alone", "*(event.ts for event in islice(back, 1))", "",
    ),
    one(
        "nothing comes after a canonical without a log",
        "events of a newer state that was given up",
        "a canonical restored beside its history",
        "engines.filelog.history.access:History.after", "if self._end is None:", "if False:",
    ),
    one(
        "a comparison says that events are missing",
        "an answer for a time of which nothing is known",
        "a replica that was compared",
        "mirroring:changes_between", '"gap": True, ', "",
    ),
    one(
        "a copy catches up only with its own source",
        "records of its own among those of another manifest",
        "a copy with records of its own",
        "copying:common_end", "if same is None or not _is_same(event, same):", "if False:",
    ),
    one(
        "events are replayed only after the expected one",
        "events of two manifests among each other",
        "a copy that is written to meanwhile",
        "engines.filelog.engine:FileEngine._replay", "if expected != self._cursor(state) and", "if False and",
    ),
    one(
        "records older than the first event are compared",
        "records of another manifest that are overwritten",
        "a copy with other records before its first event",
        "copying:_checked", "if one != other:", "if False:",
    ),
    one(
        "a replica is noted before it is there",
        "a program that writes to it",
        _CRASH_OF_A_MIRROR,
        "mirroring:Mirror._opened", "driver.set_replica(place, note)", "pass",
    ),
    one(
        "nobody else opens a replica to write",
        "records that no mirror knows of",
        _CRASH_OF_A_MIRROR,
        "engines.filelog.driver:open", "replicas.refuse_writer(paths)", "pass",
    ),
    one(
        "a mirror leaves out what a replica has",
        "events that come twice",
        _CRASH_OF_A_MIRROR,
        "mirroring:Mirror._continued", "note = note._replace(cursor=given.cursor, own=event.cursor)", "pass",
    ),
    one(
        "several events at once are a segment that is whole",
        "events that a power cut has taken from among others",
        _CRASH_OF_A_MIRROR,
        "engines.filelog.engine:FileEngine._replay",
        "self.session.append_whole(state, [entry_of(event) for event in events])",
        "[self.session.append(state, entry_of(event)) for event in events]",
    ),
]  # fmt: skip
