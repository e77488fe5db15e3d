"""Safeguards of stages: an output has its name only when it is complete, its record comes after, and nothing is done twice.

Left out, since each only doubles another or has nothing in a test to fail it:

- an intent is finished under the claim of its item: two runs that finish it record the same, and the second finds a duplicate;
- a name is chosen under a claim on it: two workers that choose one name find that it is taken when they link it, and try again.
"""

from __future__ import annotations

from .seeding import one

_LANDING = "stages.landing"
_LANDS = "crash: a stage lands its outputs"

STAGES = [
    one(
        "an output's bytes are synced before it has its name",
        "a record of other bytes than its file's",
        _LANDS,
        f"{_LANDING}:_sync_outputs", "sync_all(disk.sync_file, paths)", "{}",
    ),
    one(
        "an output's name is durable before its record",
        "a record without its file",
        _LANDS,
        f"{_LANDING}:_publish", "if landing.is_durable:", "if False:",
    ),
    one(
        "an output has its name before its record",
        "a record without its file",
        _LANDS,
        f"{_LANDING}:_land_ready", "linked = _publish(landing, placed)", "record(landing, placed); linked = _publish(landing, placed)",
    ),
    one(
        "an output keeps its name in work until it is recorded",
        "an output of which a power cut leaves neither name",
        _LANDS,
        f"{_LANDING}:_publish", "disk.link_new(output.work, output.path)", "disk.publish_new(output.work, output.path)",
    ),
    one(
        "what is about to be published is written down first",
        "a file without a record, and a second output beside it",
        _LANDS,
        f"{_LANDING}:_land_ready", "intent.written(landing, placed) if chosen.published and placed else nullcontext()", "nullcontext()",
    ),
    one(
        "an intent is synced before the first name",
        "a file without a record, and a second output beside it",
        _LANDS,
        "stages.intent:written", "_write(path, arrivals, sync=landing.is_durable)", "_write(path, arrivals, sync=False)",
    ),
    one(
        "the names of an intent and of the outputs in work are synced before the first name",
        "a file without a record, and a second output beside it",
        _LANDS,
        "stages.intent:written", "disk.sync_directory(directory)", "pass",
    ),
    one(
        "an intent stays until what a killed worker recorded is durable",
        "a file without a record, and a second output beside it",
        "crash: a stage finishes what a killed one left",
        "stages.leftovers:_finish", "landing.manifest.sync()", "pass",
    ),
    one(
        "what is left in work is removed",
        "a directory that fills with it",
        _LANDS,
        "stages.leftovers:tidy", "disk.remove_tree(os.path.join(landing.workspace.path, name))", "pass",
    ),
    one(
        "a name that is taken gets no other content",
        "an item that fails for ever",
        "outputs of one name",
        f"{_LANDING}:_Chosen.holds", "return has_content(path, content)", "return None",
    ),
    one(
        "a link that leads out of the output directory is refused",
        "a file written anywhere",
        "a link that leads out of the output directory",
        f"{_LANDING}:_make_directory", "if os.path.commonpath([os.path.realpath(path), root]) != root:", "if False:",
    ),
    one(
        "an item is claimed",
        "two processes that work on one input",
        "a run beside another one of its stage",
        "stages.worker:_claimed", "return [item for item in items if item.digest in ours]", "return items",
    ),
    one(
        "only what nobody holds is tidied away",
        "an output removed while it is written",
        "a run beside another one of its stage",
        "stages.leftovers:tidy", "if ours:", "if True:",
    ),
    one(
        "after an item was claimed, it is asked whether it is done",
        "two outputs for one input and version",
        "a run that finishes while another one looks",
        "stages.claiming:DoneByOthers.has_done", "return bool(self._done) and all", "return False and all",
    ),
    one(
        "a look asks the history for what a dead worker has recorded",
        "two outputs for one input and version",
        "a worker that dies between records and report",
        "stages.runner:_StageRun.all_of", "knows_all = not self._has_lost and not", "knows_all = not",
    ),
    one(
        "a stage's look begins anew where events leave it open",
        "an input whose output was forgotten, never processed again",
        "a forgotten output of a stage",
        "stages.look:Look._take_output", "raise UncertainError", "pass",
    ),
    one(
        "a stage's look keeps the inputs that are done without being upstream",
        "an input processed twice, because it was forgotten and came again",
        "an input of a stage that comes again",
        "stages.look:Look._recorded", "if checksum not in self.away:", "if True:",
    ),
    one(
        "a kept look has a CRC",
        "an input that is never processed",
        "a flipped bit in a kept look",
        "stages.kept_look:members_of", 'if int(data[:_CRC_DIGITS] or b"0", 16) != crc32(data[_CRC_DIGITS:-1]):', "if False:",
    ),
    one(
        "a kept look is used for what it is about only",
        "records that a new condition admits, never processed",
        "another condition of a stage",
        "stages.kept_look:_read", 'members["format"] != FORMAT or members["about"] != _about(between)', 'members["format"] != FORMAT',
    ),
    one(
        "what a dead worker of another run has published is recorded before its item is taken up",
        "a file without a record, and a second output beside it",
        "a run beside one that dies between a name and its record",
        "stages.leftovers:finish_claimed", "landing_names(landing.workspace.names()) if claimed else ()", "()",
    ),
    one(
        "what a dead worker has published is recorded before its items are done again",
        "a file without a record, and a second output beside it",
        "a worker that dies between a name and its record",
        "stages.leftovers:finish_claimed", "landing_names(landing.workspace.names()) if claimed else ()", "()",
    ),
    one(
        "a loop records what a dead worker has published before it takes up its item",
        "a file without a record, and a second output beside it",
        "a loop beside a run that dies between a name and its record",
        "stages.pipeline:LoopStage._take", "{item.digest} if is_ours else set()", "set()",
    ),
    one(
        "the history is asked whether an item is done of which something was left",
        "two outputs for one input and version",
        "a run beside one that dies between a name and its record",
        "stages.claiming:DoneByOthers.has_done", "if asks_history or item", "if item",
    ),
    one(
        "a look asks the history for what a worker has recorded of a killed run",
        "two outputs for one input and version",
        "a run beside one that dies between a name and its record",
        "stages.runner:_StageRun.found_left", "self._has_lost |= is_any", "pass",
    ),
    one(
        "an intent stays as long as somebody else has one of its items",
        "a file without a record, and a second output beside it",
        "tidying up beside who has claimed an item",
        "stages.leftovers:_finish", "if _Left.OPEN not in became:", "if True:",
    ),
    one(
        "the failure of a pending input is never over",
        "an input that fails in every run, and that `failures` does not show",
        "an input of a stage that fails and stays pending",
        "stages.obsolete:_still_pending", "if raw is not None and not is_superseded", "if False and not is_superseded",
    ),
]  # fmt: skip
