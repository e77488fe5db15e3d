"""One seed, one run of many processes, judged: how many there are, what they do, who stops or kills them, where it begins.

Invariants:

- `play(machine, seed)` is the same run every time, call by call; the seed is in whatever it raises.
- Each run ends with every process ended, no lock held, a canonical that is valid, and a disk that holds what the history says.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

from .checker import check, check_survivors, same_records
from .crash import random_state
from .disk import SimDisk
from .history import History, canonical_rows
from .kernel import Crash, Killed
from .scenario import PATH, check_files, contents, new_disk
from .scheduler import Scheduler
from .workload import MERGES, MIXED, READS, WRITES, Client, Step, client, gremlin, opened, options, reader

if TYPE_CHECKING:
    from .checker import Timeline
    from .machine import Machine

STAYS = (0.0, 0.0, 0.5, 0.8, 0.95)
STEPS_MAX = 60_000

Start = tuple[SimDisk, History]


def starts(machine: Machine) -> list[Start]:
    """Disks to begin with, each with its history: nothing, a compacted manifest with a log, compactions that died midway."""
    machine.boot(new_disk())
    found = [(machine.disk.copy(), History(machine)), _lived(machine, None)]
    last = machine.calls
    first = last - 130
    return found + [_lived(machine, call) for call in range(first, last, 6)]


def _lived(machine: Machine, dies_at: int | None) -> Start:
    """A manifest that was written, compacted and written again, and whose last compaction dies at this call."""
    machine.boot(new_disk(), seed=3)
    history = History(machine)
    dice = random.Random(7)

    def die(number: int, _name: str, _args: tuple[Any, ...]) -> None:
        if number == dies_at:
            raise Killed

    def live() -> None:
        me = opened(history, options(random.Random(2), durable=True), dice)
        for step in [*[Client.add] * 5, Client.save, *[Client.add] * 3, Client.forget, Client.add]:
            step(me)
        machine.before = die
        me.save()
        me.close()

    machine.attempt(live)
    machine.power_off()
    return machine.disk.copy(), history


def play(machine: Machine, seed: int, begin: list[Start], *, cut: bool = False) -> None:
    """Run and judge one schedule; with `cut`, of processes that sync all they say, until a power cut at some call."""
    try:
        if cut:
            _play_until_cut(machine, seed, begin)
        else:
            _play(machine, seed, begin)
    except BaseException as error:
        error.add_note(f"schedule {seed}, cut={cut}")
        raise


def _play(machine: Machine, seed: int, begin: list[Start]) -> None:
    dice = random.Random(seed)
    history = _boot(machine, seed, begin, dice)
    earlier = len(history.lines)
    with Scheduler(machine, seed, stay=dice.choice(STAYS), steps_max=STEPS_MAX) as scheduler:
        _start(scheduler, history, dice, durable=False)
        machine.before = partial(_before, dice, dice.choice((0.0, 0.0, 0.1, 0.4)))
        scheduler.run()
    timeline = check(history)
    merged = len(history.lines) > earlier and all(process.result is True for process in machine.processes)
    _check_end(machine, timeline, write=seed % 4 == 0, merged=merged)


def _play_until_cut(machine: Machine, seed: int, begin: list[Start]) -> None:
    dice = random.Random(f"{seed} cut")
    history = _boot(machine, seed, begin, dice)
    last = dice.randrange(20, 700)
    short = partial(_before, dice, dice.choice((0.0, 0.0, 0.2)))

    def before(number: int, name: str, args: tuple[Any, ...]) -> int | None:
        if number >= last:
            raise Crash
        return short(number, name, args)

    with Scheduler(machine, seed, stay=dice.choice(STAYS), steps_max=STEPS_MAX) as scheduler:
        _start(scheduler, history, dice, durable=True)
        machine.before = before
        scheduler.run()
    timeline = check(history)
    disk = machine.disk
    for _ in range(3):
        state = random_state(disk, dice)
        check_files(state)
        check_survivors(history, timeline, contents(machine, state))


def _boot(machine: Machine, seed: int, begin: list[Start], dice: random.Random) -> History:
    disk, earlier = dice.choice(begin) if dice.random() < 0.8 else begin[0]
    machine.boot(disk.copy(), seed)
    return History(machine, earlier)


def _start(scheduler: Scheduler, history: History, dice: random.Random, *, durable: bool) -> None:
    for number in range(dice.randrange(2, 5)):
        seed = f"{scheduler.seed} {number}"
        role = dice.random()
        if role < 0.2:
            scheduler.start(reader, history, seed, dice.choices(READS, k=3))
        else:
            kinds = WRITES if role < 0.5 else MIXED if role < 0.75 else [*MIXED, *MERGES * 4]
            steps: list[Step] = dice.choices(kinds, k=dice.randrange(1, 5))
            body = partial(client, forks=dice.random() < 0.15, durable=durable)
            scheduler.start(body, history, scheduler, seed, steps)
    if dice.random() < 0.4:
        scheduler.start(gremlin, history, scheduler, f"{scheduler.seed} g")


def _before(dice: random.Random, short: float, _number: int, name: str, args: tuple[Any, ...]) -> int | None:
    """Some writes are short, some reads too."""
    if short and name in ("write", "pread") and dice.random() < short:
        length = len(args[1]) if name == "write" else args[1]
        return dice.randrange(1, length) if length > 1 else None
    return None


def _check_end(machine: Machine, timeline: Timeline, *, write: bool, merged: bool) -> None:
    """`merged`: the last writer closed, and said that it would leave nothing in the log."""
    assert not any(inode.locks for inode in machine.disk.all_inodes()), "a lock outlives its process"
    rows = timeline.rows[-1]
    if machine.disk.find(PATH) is None:
        assert rows == {}
        return
    if merged:
        assert canonical_rows(machine.disk) == rows, "the last writer has left something in the log"
    check_files(machine.disk)
    assert same_records(contents(machine, machine.disk, write=write), rows)
