"""Safeguards of the history, of cursors and of undoing: each event once, in order, for as long as it is kept.

Left out, since each only doubles another or has nothing in a simulation to fail it:

- the history is synced before the directory that the segments leave: here a rename is one change, whichever directory is synced;
- segments move oldest first: what a crash leaves behind is found by number, wherever it lies.
"""

from __future__ import annotations

from .seeding import Edit, Safeguard, one

_KEEP = "engines.filelog.history.keep"
_SPANS = "engines.filelog.history.spans"
_LISTING = "engines.filelog.history.listing"
_ACCESS = "engines.filelog.history.access"

HISTORY = [
    one(
        "a covered segment is moved, not removed",
        "a history that says nothing of what was compacted",
        "crash: compact",
        f"{_KEEP}:move", "disk.replace(paths.segment(number), paths.kept_segment(number))", "disk.remove(paths.segment(number))",
    ),
    one(
        "a pack has its name on the disk before the segments in it go",
        "events lost to a power cut",
        "crash: pack",
        f"{_KEEP}:_pack", "publish.Target(paths.temporary(path), path, paths.history)", "publish.Target(paths.temporary(path), path)",
    ),
    one(
        "a pack whose maker was killed has its name on the disk before the segments in it go",
        "events lost to a power cut",
        "crash: names of the killed, pack",
        f"{_KEEP}:_remove_packed", "disk.sync_directory(paths.history)", "pass",
    ),
    one(
        "what was set aside is synced by whoever creates a manifest",
        "the history of an earlier manifest beside a new one",
        "crash: names of the killed, create beside an old history",
        "engines.filelog.history.leftovers:set_aside", "_sync(paths)", "pass",
    ),
    one(
        "a pack is read back before the segments in it go",
        "events lost to a disk that lies",
        "a pack that does not read back",
        f"{_KEEP}:_pack", "Pack(path).damaged_blocks()", "()",
    ),
    one(
        "a damaged segment is not packed",
        "damage that gets a fresh CRC, and is never reported",
        "a damaged segment beside a packing",
        f"{_KEEP}:_pieces", "segments.confirm(segment.number, tally)", "pass",
    ),
    Safeguard(
        "a segment that a pack holds too is read once",
        "events that come twice",
        "crash: finish of a packing",
        (
            Edit(f"{_LISTING}:Listing.units", "if self.pack_of(number) is None", ""),
            Edit(f"{_LISTING}:Listing.among", "if found.pack_of(n) is None", ""),
        ),
    ),
    one(
        "of a pack that has swallowed several files, each file's part comes at its turn",
        "events that come twice to who reads beside a packing",
        "reading while segments are packed",
        f"{_SPANS}:Segments._piece", "if data and unit[0] <= piece.segment <= unit[1]:", "if data:",
    ),
    one(
        "live segments are listed before the history",
        "events missed by who reads beside a compaction",
        "reading while segments are packed",
        f"{_LISTING}:Listing.of", "    live = {number: paths.segment(number) for number in paths.segment_numbers(_names(paths.directory))}\n    names = history_folder.names(paths)\n",
        "    names = history_folder.names(paths)\n    live = {number: paths.segment(number) for number in paths.segment_numbers(_names(paths.directory))}\n",
    ),
    one(
        "what a crash has left in a live segment is judged by its successor",
        "a history that says that it is damaged, until a compaction",
        "a live segment with what a crash has left",
        "engines.filelog.history.access:History._judge_damage", "if span.packed:", "if span.checked:",
    ),
    one(
        "a segment ends where its successor says",
        "events that nobody acknowledged",
        "a line behind the end of a kept segment",
        f"{_SPANS}:Segments._valid_length", "return min(length, previous.length)", "return length",
    ),
    one(
        "a cut leaves no gap",
        "a history that is damaged after a power cut",
        "crash: cut, everything in full",
        f"{_KEEP}:cut", "disk.sync_directory(paths.history)", "pass",
    ),
    one(
        "a segment of format 1 gets no line of format 2",
        "lines that an older program takes for damage, and not for a newer format",
        "the upgrade of a manifest of format 1",
        "engines.filelog.log.wal:Wal.prepare", "if segment.opening.format < lines.FORMAT:", "if False:",
    ),
    one(
        "a forget says what was there",
        "an earlier time without the records that were forgotten since",
        "crash: pack once more",
        "engines.filelog.engine:FileEngine._forget", '"event": forget_details(known, details)', '"event": details',
    ),
    one(
        "a put says what was there",
        "an earlier time with the rows of today",
        "crash: add what is there",
        "engines.filelog.engine:FileEngine._record",
        'data = {"event": plan.details}', 'data = {"event": {**plan.details, "was": {}}}',
    ),
    one(
        "an update says what was there",
        "an undo that undoes nothing",
        "crash: compact over a pack, everything in full",
        "model.writes:_rewritten", "difference(before, after)", "{}",
    ),
    one(
        "a cursor inside a batch counts what is done",
        "a follower that gets an event of a batch twice",
        "crash: the first compaction, everything in full",
        "engines.filelog.history.reading:_line_events", "begin._replace(done=number)", "begin._replace(done=number - 1)",
    ),
    one(
        "a cursor behind a batch is behind all of it",
        "a follower that gets the last event of a batch twice",
        "crash: the first compaction, everything in full",
        "engines.filelog.history.reading:_line_events", "at = end if number == len(found)", "at = begin if number == len(found)",
    ),
    one(
        "segments with changes are merged before they are covered",
        "records lost with the log",
        "crash: compact",
        "engines.filelog.compaction.steps:_Compaction._complete", "if found.changed", "if False",
    ),
    one(
        "no answer about an earlier time goes back over lost lines",
        "a wrong answer about last Monday",
        "an earlier time before lost lines",
        f"{_ACCESS}:History._walk_back", "if before.lost or", "if",
    ),
    Safeguard(
        "a follower is told what was cut",
        "a hole in what a follower gets",
        "following while the history is cut",
        (
            Edit(f"{_ACCESS}:History._leads_to_end", "if at.segment < self._first_unbroken(1, at.segment):", "if False:"),
            Edit(f"{_ACCESS}:History._leads_to_end", "except SegmentCutError:\n        return False", "except SegmentCutError:\n        return True"),
        ),
    ),
    one(
        "a pack is of this manifest",
        "the events of another manifest",
        "a pack of another manifest",
        f"{_SPANS}:Segments._pack_of", "opened.refuse_foreign(self._paths.name, self._ts_created, found)", "pass",
    ),
    one(
        "a segment of the history is compared with what its successor states",
        "lines that are gone from a kept segment, unnoticed",
        "a kept segment that was cut at a line",
        "engines.filelog.recovery.check_history:HistoryCheck._follow", "if last.fits(declared):", "if True:",
    ),
    one(
        "originals are in quarantine before they are replaced",
        "a damaged original gone for ever",
        "originals of a repaired history",
        "engines.filelog.recovery.repair_history:_HistoryRepair.run",
        "quarantine.copy(path, target)", "pass",
    ),
    Safeguard(
        "the events of a log that is repaired stay in the history",
        "a repair that costs more than what was damaged",
        "events of a repaired ledger",
        (Edit("engines.filelog.recovery.repair:_Repair._finish", "repair_history.keep_events(self._paths, folder)", "pass"),),
    ),
    one(
        "the plan of an undo reads on inside its transaction",
        "a later change that an undo loses",
        "undoing while others change what is undone",
        "undo:_Plan.__call__", "read_on(self._draft, engine.events_after(self._draft.cursor), self._selects)", "self._draft",
    ),
    one(
        "what a run writes until its undo is written is undone as well",
        "half of a run that was undone",
        "undoing while the run goes on",
        "undo:_chosen", "force=choice.force), lambda event: event.run == run", "force=choice.force), lambda _: False",
    ),
    one(
        "all records of an undo change in one write",
        "half an undo after a crash",
        "crash: undo of a run",
        "undo:_write", "engine.rewrite(plan, EventKind.UNDO, details=event)",
        "engine.rewrite(lambda known: plan(known)._replace(forgets=[]), EventKind.UNDO, details=event)\n"
        "    engine.rewrite(plan, EventKind.UNDO, details=event)",
    ),
    one(
        "an undo writes records before metadata",
        "paths that lead nowhere after a crash, below a root that is back too early",
        "crash: undo of a run that moved",
        "undo:_write",
        "    engine.rewrite(plan, EventKind.UNDO, details=event)\n    if plan.metadata:\n        engine.set_metadata({name: was for name, (_, was) in plan.metadata.items()}, details=event)\n",
        "    if plan.metadata:\n        engine.set_metadata({name: was for name, (_, was) in plan.metadata.items()}, details=event)\n    engine.rewrite(plan, EventKind.UNDO, details=event)\n",
    ),
    one(
        "what an undo writes is of its run",
        "an undo that cannot be undone",
        "crash: undo of a run",
        "undo:_write", 'event = {**details, **kept({"undoes": plan.named})}', 'event = kept({"undoes": plan.named})',
    ),
]  # fmt: skip
