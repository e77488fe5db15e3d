"""Schedules by hand: a process is stopped at one of its calls, at each in turn, while others do something whole, and goes on.

No scheduler is needed for that: the others run inside the kernel's hook before the call. Each is judged by `checker`.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import LockTimeoutError, Verdict
from support.records import MANUAL

from .checker import check, same_records
from .crash import least_state
from .history import History
from .kernel import Crash, Killed
from .machine import simulated
from .scenario import check_files, contents, make_record, new_disk, open_manifest
from .workload import CHECKSUMS, Client, Event, Step, event_of, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog import ManifestRecord
    from support.counts import Count

    from .disk import SimDisk
    from .kernel import Process
    from .machine import Machine

    Body = Callable[["Stage"], None]

FULL = replace(MANUAL, segment_bytes_max=1, lock_timeout_s=0.002)
"""Every line fills a segment; whoever waits for one that is stopped gives up soon."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


class Stage:
    """A machine, its history, and processes that are stopped at a call of theirs."""

    def __init__(self, machine: Machine, begin: tuple[SimDisk, History]) -> None:
        disk, earlier = begin
        self.machine = machine
        self.first = machine.boot(disk.copy())
        self.history = History(machine, earlier)
        self._stops: dict[Process, tuple[int, Callable[[], None]]] = {}
        self._calls: dict[Process, int] = {}
        self.reached = 0
        machine.before = self._before

    def _before(self, _number: int, _name: str, _args: tuple[Any, ...]) -> None:
        process = self.machine.current
        assert process is not None
        self._calls[process] = self._calls.get(process, 0) + 1
        if process in self._stops and self._calls[process] == self._stops[process][0]:
            self.reached += 1
            self._stops.pop(process)[1]()

    def run(self, body: Body, stop: tuple[int, Callable[[], None]] | None = None) -> None:
        """Run a process from its first call to its last; `stop`: before which of its calls what happens elsewhere."""
        process = self.machine.spawn()
        if stop is not None:
            self._stops[process] = stop
        with self.machine.running(process), suppress(LockTimeoutError, Crash):
            body(self)
        self.machine.end(process)

    def judge(self) -> None:
        """The history has an explanation, and the disk holds what it says."""
        timeline = check(self.history)
        check_files(self.machine.disk)
        assert same_records(contents(self.machine, self.machine.disk), timeline.rows[-1])


def client_of(stage: Stage) -> Client:
    """A client in the running process."""
    return opened(stage.history, FULL, random.Random(0))


def steps(*todo: Step) -> Body:
    """A process that opens, does this and closes."""

    def body(stage: Stage) -> None:
        client = client_of(stage)
        for step in todo:
            step(client)
        client.close()

    return body


def adds(number: int) -> Step:
    """Add the content of this number."""
    event = Event(CHECKSUMS[number], f"s{number % 3}", "d0", number % 4, "e0", "/p0")
    return lambda client: client.history.call(
        "add", (event,), lambda: str(client.manifest.add(event_of(event)).verdict)
    )


def forgets(number: int) -> Step:
    """Forget the content of this number."""
    return lambda client: client.history.call(
        "forget", (CHECKSUMS[number],), lambda: client.manifest.forget(CHECKSUMS[number])
    )


def reads(client: Client) -> None:
    """Ask everything that can be asked."""
    for key in CHECKSUMS:
        client.history.call("has", (key,), partial(client.manifest.has_checksum, key))
        client.history.call("get", (key,), partial(client.manifest.get, key))
    client.length()
    client.items()


@pytest.fixture(scope="module")
def begin(machine: Machine) -> tuple[SimDisk, History]:
    return begin_with(machine)


def begin_with(machine: Machine) -> tuple[SimDisk, History]:
    """A manifest that was compacted, and has changes in four segments since."""
    machine.boot(new_disk())
    stage = Stage(machine, (machine.disk, History(machine)))
    stage.run(steps(adds(0), adds(1), Client.compact, adds(2), forgets(0), adds(3), adds(0)))
    return machine.disk.copy(), stage.history


def at_each_call(
    machine: Machine,
    begin: tuple[SimDisk, History],
    body: Body,
    *others: Body,
    step: int = 1,
    behind: Body | None = None,
) -> int:
    """Stop `body` before its first call, its second, …, and let the others run there, one by one; gives how often."""
    number = 1
    while True:
        stage = Stage(machine, begin)

        def meanwhile(stage: Stage = stage) -> None:
            for other in others:
                stage.run(other)

        stage.run(body, (number, meanwhile))
        if not stage.reached:
            return (number - 1) // step
        if behind is not None:
            stage.run(behind)
        stage.judge()
        number += step


def in_each_other(
    machine: Machine, begin: tuple[SimDisk, History], outer: Body, inner: Body, *others: Body, strides: tuple[int, int]
) -> int:
    """Stop `outer` before each call; there, stop `inner` before each of its calls; there, let the others run."""
    tried, first = 0, 1
    while True:
        second, reached = 1, False
        while True:
            stage = Stage(machine, begin)

            def innermost(stage: Stage = stage) -> None:
                for other in others:
                    stage.run(other)

            def between(stage: Stage = stage, second: int = second) -> None:
                stage.run(inner, (second, innermost))

            stage.run(outer, (first, between))
            reached |= stage.reached > 0
            if stage.reached < 2:
                break
            stage.judge()
            tried += 1
            second += strides[1]
        if not reached:
            return tried
        first += strides[0]


COMPACTS = steps(Client.compact)
WRITES_AND_COMPACTS = steps(adds(4), forgets(2), adds(1), Client.compact)


def test_a_compactor_stopped_at_each_call_while_another_compacts(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """Between any two calls the other one either finds it running, or does all of it."""
    count("schedules", at_each_call(machine, begin, COMPACTS, COMPACTS))


def test_a_compactor_stopped_at_each_call_while_others_write_rotate_and_compact(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """The segment that it is about to seal may be sealed, covered and deleted when it goes on."""
    count("schedules", at_each_call(machine, begin, COMPACTS, WRITES_AND_COMPACTS, COMPACTS, behind=COMPACTS))


def test_a_reader_stopped_at_each_call_while_others_write_rotate_and_compact(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """It opens and asks everything; every answer is of a moment within its question."""
    count("schedules", at_each_call(machine, begin, steps(reads), WRITES_AND_COMPACTS))


def test_a_reader_stopped_at_each_call_while_all_that_it_knows_is_compacted_away_twice(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """The segments that it was about to open are gone, and so are those after them."""
    count("schedules", at_each_call(machine, begin, steps(reads), WRITES_AND_COMPACTS, steps(adds(3), Client.save)))


def test_a_process_stopped_at_each_call_of_opening_while_covered_segments_move(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """What it finds missing is no damage: it begins again, and adds."""
    count("schedules", at_each_call(machine, begin, steps(adds(4), reads), COMPACTS))


def test_a_writer_that_sleeps_over_a_fence_and_a_compaction(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """Another writer dies inside a write; the next one fences, goes on and compacts; then the sleeper goes on adding."""

    def dies_inside_a_write(stage: Stage) -> None:
        client = client_of(stage)
        written = False

        def cut(_number: int, name: str, _args: tuple[Any, ...]) -> int | None:
            nonlocal written
            if name != "write":
                return None
            if written:
                raise Killed
            written = True
            return 40

        before, stage.machine.before = stage.machine.before, cut
        try:
            adds(4)(client)
        finally:
            stage.machine.before = before

    sleeper = steps(adds(1), reads, adds(4), forgets(1), reads)
    count("schedules", at_each_call(machine, begin, sleeper, dies_inside_a_write, WRITES_AND_COMPACTS))


def test_the_lock_holder_is_killed_inside_a_write_while_others_wait(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """At each call of an addition: a second one that waits gives up if the lock is held; then the first is killed there."""

    def run(stage: Stage, number: int) -> None:
        def waits_and_kills() -> None:
            stage.run(steps(adds(4)))
            raise Killed

        stage.run(steps(adds(1), forgets(3), adds(3)), (number, waits_and_kills))

    number = 1
    while True:
        stage = Stage(machine, begin)
        run(stage, number)
        if not stage.reached:
            break
        stage.run(WRITES_AND_COMPACTS)
        stage.judge()
        number += 1
    count("schedules", number - 1)


def test_a_line_that_another_has_read_stays_when_its_writer_is_interrupted(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """Ctrl-C behind the write, before the writer knows of it; meanwhile a reader has given the record away."""
    machine.boot(begin[0].copy())
    writer, record = open_manifest(), make_record(77)
    seen: list[ManifestRecord | None] = []

    def interrupt(_number: int, name: str, _args: tuple[Any, ...]) -> None:
        if name == "write" and not seen:
            with machine.running(machine.spawn()), open_manifest(read_only=True) as reader:
                seen.append(reader.get(record.checksum))
            raise KeyboardInterrupt

    machine.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        writer.add(record)
    with machine.running(machine.spawn()), open_manifest(read_only=True) as reader:
        assert [reader.get(record.checksum)] == seen == [record]
    count("schedules")


def test_a_newline_that_comes_after_a_reader_has_taken_over_its_line(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """The write is one byte short; the reader looks, again when the rest has come, and when the segment has a successor."""
    machine.boot(begin[0].copy())
    writer, record, process = open_manifest(FULL), make_record(77), machine.spawn()
    with machine.running(process):
        reader = open_manifest(read_only=True)
    seen: list[ManifestRecord | None] = []

    def one_short(_number: int, name: str, args: tuple[Any, ...]) -> int | None:
        if name == "write" and bytes(args[1]).startswith(b'{"op":"put"'):
            return len(args[1]) - 1
        if name == "write" and len(args[1]) == 1:
            with machine.running(process):
                seen.append(reader.get(record.checksum))
        return None

    machine.before = one_short
    writer.add(record)
    machine.before = None
    with machine.running(process):
        assert [reader.get(record.checksum)] == seen == [record]
    writer.add(make_record(78))
    with machine.running(process):
        assert reader.has_checksum(make_record(78).checksum)
    count("schedules")


def test_a_line_that_is_finished_and_sealed_at_each_call_of_a_reader_who_has_seen_its_beginning(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """The reader finds an unfinished end, and then a successor: in between, lines may have come."""
    number, reached = 1, True
    while reached:
        stage = Stage(machine, begin)
        stage.run(partial(_writes_in_pieces, reader_stop=number))
        reached = stage.reached > 0
        stage.judge()
        number += 1
    count("schedules", number - 2)


def _writes_in_pieces(stage: Stage, reader_stop: int) -> None:
    """Add in several writes. Between them a reader opens and, when some more of the line is there, asks.

    Before this call of its the line is finished, and left by another: while it opens, or while it asks.
    """
    machine, client = stage.machine, client_of(stage)
    me, hook = machine.current, machine.before
    assert me is not None
    assert hook is not None
    writes: list[tuple[Any, ...]] = []
    left = b""

    def go_on(count: int) -> None:
        nonlocal left
        if left:
            with machine.running(me):
                machine.write(writes[1][0], left[:count])
            left = left[count:]

    def grows_and_reads(reader: Client) -> None:
        go_on(40)
        reads(reader)

    def finish() -> None:
        go_on(len(left))
        machine.end(me)  # killed just then: the rest could not be written otherwise, as this is called by its write
        stage.run(steps(forgets(2)))

    def cut(number: int, name: str, args: tuple[Any, ...]) -> int | None:
        nonlocal left
        if machine.current is not me or name != "write" or not (writes or bytes(args[1]).startswith(b'{"op":"put"')):
            return hook(number, name, args)
        writes.append(args)
        if len(writes) == 1:
            return 40
        if len(writes) == 2:
            left = bytes(args[1])
            stage.run(steps(grows_and_reads), (reader_stop, finish))
            raise Killed
        return None

    machine.before = cut
    adds(4)(client)


def test_a_duplicate_survives_a_power_cut_before_the_writer_of_the_record_has_synced(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    """The writer stands before its sync; another adds the same, is told so, and then the power goes."""
    machine.boot(begin[0].copy())
    writer, record = open_manifest(), make_record(77)
    left: list[SimDisk] = []

    def told_and_cut(_number: int, name: str, _args: tuple[Any, ...]) -> None:
        if name == "fdatasync":
            machine.before = None
            with machine.running(machine.spawn()):
                assert open_manifest().add(record).verdict is Verdict.DUPLICATE
            left.append(least_state(machine.disk))
            raise Crash

    machine.before = told_and_cut
    with pytest.raises(Crash):
        writer.add(record)
    assert contents(machine, left[0]).get(record.checksum) == record
    count("schedules")


def _wal_reset(machine: Machine, begin: tuple[SimDisk, History], strides: tuple[int, int]) -> int:
    return in_each_other(machine, begin, COMPACTS, COMPACTS, WRITES_AND_COMPACTS, strides=strides)


def test_the_wal_reset_race_of_sqlite_2026(machine: Machine, begin: tuple[SimDisk, History], count: Count) -> None:
    """Two checkpointers and a writer that restarts the log lost pages in SQLite 3.7.0 to 3.51.2.

    One compactor is stopped, in it a second one, in that a writer fills segments and compacts; then they go on, inner first.
    Here no segment number comes back, and the base is named by size and CRC, so what was stopped finds out.
    """
    count("schedules", _wal_reset(machine, begin, (7, 9)))


@pytest.mark.slow
def test_the_wal_reset_race_of_sqlite_2026_at_every_pair_of_calls(
    machine: Machine, begin: tuple[SimDisk, History], count: Count
) -> None:
    count("schedules", _wal_reset(machine, begin, (2, 1)))
