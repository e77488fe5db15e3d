"""What has to notice a missing safeguard: the bodies of tests, or their explorers and checkers on fewer cases.

A scenario is made with every safeguard in place, and gives a function that raises when something is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

from contract import copies, test_containing, test_history_damage, test_moved_lines, test_pending
from crash import test_disk_failures
from damage import test_adoption, test_bits, test_files, test_index as damage_of_index, test_lines
from damage.corpus import ACTIVE, CANONICAL, FENCED, INDEX, build
from damage.ground import Ground
from damage.model import Oracle
from extract import test_part_ranges
from golden import test_v1
from manifestlog import Durability, LockTimeoutError
from manifestlog.engines.filelog.canonical import turn
from manifestlog.engines.filelog.history import batch_lines
from processes import test_turns
from property import test_index as test_histories
from stages import (
    test_functions,
    test_landing,
    test_loops,
    test_obsolete_failures,
    test_pending as test_stage_pending,
    test_workers,
)
from support.records import NAME
from unit import test_batch_lines, test_index, test_parsing, test_view

from . import (
    bases,
    scenarios_of_work,
    test_crash_copies,
    test_crash_mirrors,
    test_crash_operations,
    test_crash_stages,
    test_history_schedules,
    test_rules,
    test_schedules_directed,
    test_undo,
    world,
)
from .disk import SimDisk
from .explore import crashes, examine, explore
from .faults import FAULTS
from .history import History
from .scenario import DIRECTORY
from .schedules import play, starts
from .test_call_failures import fail_each, made_disks
from .test_crash_sequences import explore_all
from .test_schedules_directed import Stage, adds, begin_with, client_of, forgets, steps
from .workload import Client

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from damage.corpus import Corpus
    from damage.ground import Case

    from .machine import Machine

Run = Callable[[], object]
SCHEDULES = 300


class Lab:
    """Where scenarios are run: a simulated machine, a directory for those that need real files, and what was made once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, Any] = {}
        self._grounds = 0

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def ground(self) -> tuple[Ground, Oracle]:
        """A manifest with damage to come, written by the engine as it is at this moment."""
        self._grounds += 1
        corpus = build(self._directory / f"{self._grounds}" / "corpus")
        return Ground(self._directory / f"{self._grounds}", corpus), Oracle(corpus)

    def folder(self) -> Path:
        """An empty one."""
        self._grounds += 1
        return self._directory / f"{self._grounds}"

    def twin(self) -> Corpus:
        """A manifest like that of `ground`, which differs in nothing but chance."""
        return build(self._directory / f"{self._grounds}" / "twin", seed=4)


def _count(name: str, number: int = 1) -> None:
    """Nothing: these cases are counted where they are tests."""


Make = Callable[[Lab, "Machine"], Run]
MakeReal = Callable[[Lab], Run]


def _crash(name: str, durability: Durability = Durability.POWER_CUT, full_every: int = 12) -> Make:
    def make(_lab: Lab, machine: Machine) -> Run:
        found = test_crash_operations.scenario(machine, name, durability, 0)
        return partial(explore, machine, replace(found, limit=200, samples=10, full_every=full_every))

    return make


def _then_synced(name: str) -> Make:
    """What the weaker mode has left is gone on with in the stronger one."""

    def make(_lab: Lab, machine: Machine) -> Run:
        found = test_crash_operations.scenario(machine, name, Durability.PROCESS_KILL, 0)

        def run() -> None:
            for state in crashes(machine, found):
                examine(machine, state.disk, state.allowed, fully=True)

        return run

    return make


def _sequence(*names: str) -> Make:
    return lambda _lab, machine: lambda: explore_all(machine, [names], Durability.POWER_CUT)


def _names(name: str) -> Make:
    test = test_crash_operations.test_a_writer_syncs_a_name_that_its_killed_creator_did_not_sync
    return lambda _lab, machine: lambda: test(machine, _count, name)


def _fail(name: str, fault: str) -> Make:
    def make(lab: Lab, machine: Machine) -> Run:
        disks = lab.once("disks", lambda: made_disks(machine))
        return lambda: fail_each(machine, disks, name, FAULTS[fault], sticky=False)

    return make


def _schedules(seeds: range) -> Make:
    def make(lab: Lab, machine: Machine) -> Run:
        begin = lab.once("starts", lambda: starts(machine))

        def run() -> None:
            for seed in seeds:
                play(machine, seed, begin)

        return run

    return make


def _directed(test: Callable[..., None]) -> Make:
    def make(lab: Lab, machine: Machine) -> Run:
        begin = lab.once("begin", lambda: begin_with(machine))
        return lambda: test(machine, begin, _count)

    return make


def _of_history(test: Callable[[Machine, Callable[..., None]], None]) -> Make:
    return lambda _lab, machine: lambda: test(machine, _count)


def _reading(machine: Machine, _count: Callable[..., None]) -> None:
    for make in (bases.worked_on, bases.packed):
        test_history_schedules.read_at_each_call(machine, make(machine))


def _ruled(test: Callable[[Machine], object]) -> Make:
    return lambda _lab, machine: lambda: test(machine)


def _deleted_lock(lab: Lab, machine: Machine) -> Run:
    """Somebody has deleted the lock file of a process that goes on adding, while another one is inside with a new one."""
    begin: tuple[SimDisk, History] = lab.once("begin", lambda: begin_with(machine))

    def run() -> None:
        number, reached = 1, True
        while reached:
            stage = Stage(machine, begin)
            old = machine.spawn()
            clients: list[Client] = []
            with machine.running(old):
                clients.append(client_of(stage))
                adds(1)(clients[0])
                machine.unlink(f"{DIRECTORY}/systems_download.manifest.lock")

            def goes_on(old: Any = old, clients: list[Client] = clients) -> None:
                with machine.running(old), suppress(LockTimeoutError):
                    forgets(3)(clients[0])

            stage.run(steps(adds(4)), (number, goes_on))
            reached = stage.reached > 0
            stage.judge()
            number += 1

    return run


# -- damage, on real files ---------------------------------------------------------------------------------------------


def _judged(
    make_cases: Callable[[Lab, Ground, Oracle], Iterable[Case]], *, write: bool = False, never_answered: bool = False
) -> MakeReal:
    def make(lab: Lab) -> Run:
        def run() -> None:
            ground, oracle = lab.ground()
            for case in make_cases(lab, ground, oracle):
                outcome = ground.judge(case, write=write)
                if never_answered:
                    test_bits._check_outcomes(CANONICAL, {outcome: 1})

        return run

    return make


def _bits(kind: str, step: int, *, bit: str = "bit", **more: Any) -> MakeReal:
    def cases(_lab: Lab, ground: Ground, oracle: Oracle) -> Iterable[Case]:
        found = [case for part in range(4) for case in test_bits._cases(ground, oracle, kind, part, every=True)]
        found = [case for case in found if bit in case.name]
        return random.Random(1).sample(found, len(found) // step)

    return _judged(cases, **more)


def _unindexed(_lab: Lab, ground: Ground, _oracle: Oracle) -> Iterable[Case]:
    found = [case for part in range(4) for case in test_bits._unindexed(ground, part, every=False, touched=True)]
    return random.Random(1).sample(found, len(found) // 20)


def _moved(_lab: Lab, ground: Ground, oracle: Oracle) -> Iterable[Case]:
    for kind in (FENCED, ACTIVE):
        yield from test_lines._within(ground, oracle, kind)


def _of_a_twin(lab: Lab, ground: Ground, oracle: Oracle) -> Iterable[Case]:
    twin = {"twin": lab.twin()}
    return (case for case in test_lines._foreign(ground, oracle, ACTIVE, twin) if "active of twin for" in case.name)


def _through(test: Callable[..., None], *args: Any) -> MakeReal:
    """A test of files, whose cases are its own."""

    def make(lab: Lab) -> Run:
        def run() -> None:
            ground, oracle = lab.ground()

            def judge_all(cases: Iterable[Case], **_how: object) -> None:
                for case in cases:
                    ground.judge(case, write=False)

            test(ground, oracle, judge_all, *args)

        return run

    return make


def _histories(seeds: range) -> MakeReal:
    def run() -> None:
        for seed in seeds:
            test_histories.play(*test_histories.history(seed))

    return lambda _lab: run


def _beside(test: Callable[[Path], None]) -> MakeReal:
    """A test that makes its own manifest."""
    return lambda lab: lambda: test(lab.folder())


def _at_a_path(test: Callable[[Path], None]) -> MakeReal:
    """The same, told where."""
    return lambda lab: lambda: test(lab.folder() / NAME)


def _searched_in_a_batch(name: str) -> None:
    with mock.patch.object(batch_lines, "BYTES_MIN", 1):
        for asked in test_batch_lines.ASKED:
            test_batch_lines.test_a_search_for_one_content_says_what_the_whole_line_says(name, asked)


def _taking_turns(test: Callable[[Path], None]) -> MakeReal:
    """The same, where the smallest file is worth a turn."""

    def make(lab: Lab) -> Run:
        def run() -> None:
            with mock.patch.object(turn, "BYTES_MIN", 1):
                test(lab.folder() / NAME)

        return run

    return make


_KILLED = Durability.PROCESS_KILL
SCENARIOS: dict[str, Make] = {
    **{
        f"crash: {name}": _crash(name)
        for name in (
            "the first addition", "create, with its folder", "create", "compact", "add", "add_many", "rotate",
            "fence of a torn tail", "compact to nothing", "sweep of leftovers",
        )
    },
    "crash: cut, everything in full": _crash("cut", full_every=1),
    "crash: pack": _crash("pack"),
    "crash: add what is there": _crash("add what is there"),
    "crash: pack once more": _crash("pack once more"),
    "crash: finish of a packing": _crash("finish of a packing"),
    "crash: compact over a pack, everything in full": _crash("compact over a pack", full_every=1),
    "crash: the first compaction, everything in full": _crash("the first compaction", full_every=1),
    "reading while segments are packed": _of_history(_reading),
    "following while the history is cut": _of_history(
        test_history_schedules.test_a_follower_is_told_when_events_that_it_has_not_seen_are_cut
    ),
    "crash: a stage lands its outputs": _ruled(test_crash_stages.crash_at_each_call),
    "crash: a stage finishes what a killed one left": _ruled(test_crash_stages.crash_after_a_kill),
    "crash: a copy": _ruled(test_crash_copies.crash_at_each_call),
    "crash: a copy into an empty manifest": _ruled(test_crash_copies.crash_into_an_empty_one),
    "crash: a copy whose source goes on": _ruled(test_crash_copies.crash_before_a_later_one),
    "crash: a copy that is given up": _ruled(test_crash_copies.crash_and_give_up),
    "a manifest that is created beside a copy": _ruled(test_crash_copies.create_meanwhile),
    "crash: a copy that ends an earlier one": _ruled(test_crash_copies.crash_in_the_next_one),
    "crash: a mirror": _ruled(test_crash_mirrors.crash_at_each_call),
    "crash: undo of a run": _ruled(partial(test_undo.crash_at_each_call, run=world.bad_run)),
    "crash: undo of a run that moved": _ruled(partial(test_undo.crash_at_each_call, run=world.moving_run)),
    "undoing while others change what is undone": _ruled(
        partial(test_undo.undo_at_each_call, elsewhere=test_undo.refreshes)
    ),
    "undoing while the run goes on": _ruled(partial(test_undo.undo_at_each_call, elsewhere=test_undo.goes_on)),
    "crash: rotate, killed only": _crash("rotate", _KILLED),
    "crash: compact, killed only": _crash("compact", _KILLED),
    "crash: add after additions, killed only": _crash("add after additions", _KILLED, full_every=1),
    "crash: add, everything in full": _crash("add", full_every=1),
    "crash: compact, everything in full": _crash("compact", full_every=1),
    "crash: rotate, everything in full": _crash("rotate", full_every=1),
    "crash: add after additions, killed only, then synced": _then_synced("add after additions"),
    "crash: compact, forget, compact": _sequence("compact", "forget", "compact"),
    "crash: names of the killed, rotate": _names("rotate"),
    "crash: names of the killed, create": _names("create"),
    "crash: names of the killed, create beside an old history": _names("create beside an old history"),
    "crash: names of the killed, replay": _names("replay"),
    "crash: names of the killed, pack": _names("pack"),
    "schedules": _schedules(range(SCHEDULES)),
    "calls fail: add, short write": _fail("add", "short write"),
    "calls fail: refresh, short read": _fail("refresh", "short read"),
    "calls fail: add, EIO": _fail("add", "EIO"),
    "a compactor stopped while another compacts": _directed(
        test_schedules_directed.test_a_compactor_stopped_at_each_call_while_another_compacts
    ),
    "a reader stopped while others write, rotate and compact": _directed(
        test_schedules_directed.test_a_reader_stopped_at_each_call_while_others_write_rotate_and_compact
    ),
    "opening while segments move to the history": _directed(
        test_schedules_directed.test_a_process_stopped_at_each_call_of_opening_while_covered_segments_move
    ),
    "a writer sleeps over a fence and a compaction": _directed(
        test_schedules_directed.test_a_writer_that_sleeps_over_a_fence_and_a_compaction
    ),
    "a writer interrupted behind its write": _directed(
        test_schedules_directed.test_a_line_that_another_has_read_stays_when_its_writer_is_interrupted
    ),
    "a line finished under a reader's hands": _directed(
        test_schedules_directed.test_a_line_that_is_finished_and_sealed_at_each_call_of_a_reader_who_has_seen_its_beginning
    ),
    "a newline that comes late": _directed(
        test_schedules_directed.test_a_newline_that_comes_after_a_reader_has_taken_over_its_line
    ),
    "a duplicate before the sync": _directed(
        test_schedules_directed.test_a_duplicate_survives_a_power_cut_before_the_writer_of_the_record_has_synced
    ),
    "a deleted lock file": _deleted_lock,
    "a torn end is left": _ruled(test_rules.test_a_reader_at_a_torn_end_sees_what_comes_behind_the_fence),
    "a torn end is compacted away": _ruled(
        test_rules.test_a_reader_at_a_torn_end_sees_what_was_compacted_behind_the_fence
    ),
    "a line of just the length of a torn one": _ruled(
        test_rules.test_a_reader_at_a_torn_end_sees_a_line_of_just_that_length_in_its_place
    ),
}  # fmt: skip
ON_REAL_FILES: dict[str, MakeReal] = {
    "bits of the active segment": _bits(ACTIVE, 100),
    "bit 5 of the active segment": _bits(ACTIVE, 8, bit="bit 5"),
    "bits of the index": _bits(INDEX, 60),
    "bits of the canonical": _bits(CANONICAL, 60),
    "bits of the canonical, written to": _bits(CANONICAL, 250, write=True, never_answered=True),
    "bits of the canonical, without an index": _judged(_unindexed),
    "moved lines": _judged(_moved),
    "moved lines: refused": _beside(test_moved_lines.test_every_move_is_damage),
    "moved lines: refused in the weaker modes": _beside(test_moved_lines.test_every_move_is_damage_in_the_weaker_modes),
    "moved lines: bits of one that was not": _beside(
        test_moved_lines.test_a_damaged_line_is_not_taken_for_a_moved_one
    ),
    "moved lines: copies at the end": _beside(test_moved_lines.test_a_copy_after_all_other_lines_is_not_damage),
    "moved lines: counted": _beside(
        test_moved_lines.test_the_error_counts_good_records_in_their_places_and_elsewhere
    ),
    "moved lines: found by `check`": _beside(test_moved_lines.test_check_finds_every_move),
    "moved lines: repaired": _beside(
        test_moved_lines.test_a_repair_keeps_every_line_of_those_that_were_moved_and_loses_nothing
    ),
    "moved lines: one that was forgotten, repaired": _beside(
        test_moved_lines.test_a_repair_takes_lines_in_the_order_in_which_they_were_written
    ),
    "moved lines: the first line gone, repaired": _beside(
        test_moved_lines.test_a_repair_without_the_first_line_keeps_all_behind_it
    ),
    "lines of a twin": _judged(_of_a_twin),
    "missing files": _through(test_files.test_every_set_of_files_missing),
    "exchanged files": _through(test_files.test_two_files_exchanged, True),
    "histories with any index": _histories(range(1, 4)),
    "a record under the key of another": lambda _lab: test_parsing.a_record_under_the_key_of_another,
    "digests across two others": lambda _lab: lambda: test_index.test_no_other_key_is_found(test_index._repeated, 200),
    "an index that is damaged beside a merge": _at_a_path(damage_of_index.damaged_beside_a_merge),
    "an index of a canonical of the same size": _at_a_path(test_adoption.another_of_the_same_size),
    "an index of a canonical of the same time": _at_a_path(test_adoption.another_of_the_same_time),
    "a canonical that changes while its index is adopted": _at_a_path(test_adoption.changed_while_it_is_adopted),
    "a copy that is opened beside a compaction": _at_a_path(test_adoption.kept_beside_a_compaction),
    "damage where a search finds nothing": _at_a_path(test_containing.searched_beside_damage),
    "an input that only an event of a batch names": lambda _lab: partial(_searched_in_a_batch, "inputs in an event"),
    "a batch with other sources": lambda _lab: partial(_searched_in_a_batch, "an unknown list"),
    "opening while another process reads": _taking_turns(test_turns.opened_while_another_reads),
    "opening beside a process that is stopped": _taking_turns(test_turns.opened_beside_a_stopped_reader),
    "a turn after the opening": _taking_turns(test_turns.closed_behind_a_reader),
    "a look after an output was forgotten": _at_a_path(test_pending.looked_at_after_a_forget),
    "a look at an input that came late": _at_a_path(test_pending.looked_at_while_an_input_comes_late),
    "a part in ranges": _at_a_path(test_part_ranges.claims_at_every_moment),
    "a part in order that goes on in ranges": _at_a_path(test_part_ranges.linear_at_every_moment),
    "outputs of one name": _beside(test_landing.taken_names),
    "a link that leads out of the output directory": _beside(test_functions.linked_elsewhere),
    "a run beside another one of its stage": _beside(test_landing.run_beside_another),
    "a run that finishes while another one looks": _beside(test_loops.finished_meanwhile),
    "a worker that dies between records and report": _beside(test_workers.recorded_and_dead),
    "a canonical restored beside its history": _at_a_path(copies.not_of_two_moments),
    "a replica that was compared": _at_a_path(copies.not_over_a_gap),
    "a copy over another manifest": _at_a_path(copies.not_over_another),
    "a copy beside the history of another manifest": _at_a_path(copies.not_over_another_history),
    "a copy with records of its own": _at_a_path(copies.not_over_its_own),
    "a copy that is written to meanwhile": _at_a_path(copies.not_after_others),
    "a copy with other records before its first event": _at_a_path(copies.not_over_other_beginnings),
    "a forgotten output of a stage": _beside(test_stage_pending.output_forgotten),
    "an input of a stage that comes again": _beside(test_stage_pending.comes_again),
    "a flipped bit in a kept look": _beside(test_stage_pending.flipped_look),
    "another condition of a stage": _beside(test_stage_pending.other_condition),
    "a worker that dies between a name and its record": _beside(test_workers.published_and_dead),
    "a run beside one that dies between a name and its record": _beside(test_workers.published_by_another),
    "a loop beside a run that dies between a name and its record": _beside(test_loops.published_meanwhile),
    "tidying up beside who has claimed an item": _beside(test_workers.tidied_beside_a_claim),
    "an input of a stage that fails and stays pending": _beside(test_obsolete_failures.still_pending),
    "bits behind another tool's file": _at_a_path(test_adoption.flips_behind_another_tools_file),
    "threads at a failing sync": _at_a_path(test_disk_failures.threads_at_a_failing_sync),
    "a sync that is interrupted by one that fails": _at_a_path(test_disk_failures.interrupted_by_a_failing_sync),
    "a line that fits but for its newline": _at_a_path(test_disk_failures.but_for_its_newline),
    "a pack that does not read back": _at_a_path(test_history_damage.packed_onto_a_disk_that_lies),
    "a damaged segment beside a packing": _at_a_path(test_history_damage.packed_beside_damage),
    "an earlier time before lost lines": _at_a_path(test_history_damage.asked_beyond_lost_lines),
    "a live segment with what a crash has left": _at_a_path(test_history_damage.told_beside_crash_damage),
    "a pack of another manifest": _at_a_path(test_history_damage.read_with_a_foreign_pack),
    "a line behind the end of a kept segment": _at_a_path(test_history_damage.written_behind_the_end),
    "a kept segment that was cut at a line": _at_a_path(test_history_damage.cut_at_a_line),
    "originals of a repaired history": _at_a_path(test_history_damage.repaired_with_originals),
    "events of a repaired ledger": _at_a_path(test_history_damage.repaired_ledger_keeps_events),
    "the upgrade of a manifest of format 1": _beside(test_v1.upgraded),
    "contents that begin alike": _beside(test_view.test_a_change_in_the_log_does_not_hide_what_begins_alike),
    **{name: _beside(test) for name, test in scenarios_of_work.IN_A_FOLDER.items()},
}  # fmt: skip
