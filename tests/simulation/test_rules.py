"""What writers and readers MUST do (docs/FORMAT.md, sections 5, 7 and 8), watched at every system call of a manifest's life."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from support.records import checksum

from . import world
from .bases import empty
from .disk import Directory, Inode, SimDisk
from .kernel import Crash
from .machine import simulated
from .scenario import DIRECTORY, PATH, make_record, open_manifest
from .world import CLOSING_COMPACTS, ROTATING, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .kernel import Process
    from .machine import Machine

    Rule = Callable[[Machine, Process, str, tuple[Any, ...]], bool]
    """Looks at one call before it is made, and gives whether it was one that the rule is about; asserts."""

SEGMENT = re.compile(r"\.wal-(\d+)\.jsonl$")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _live(machine: Machine, rule: Rule) -> int:
    """Two processes do everything, a third dies inside a write; gives how many calls the rule was about."""
    told = World(machine, empty(machine), ROTATING)
    met = 0
    dying: list[Process] = []

    def before(_number: int, name: str, args: tuple[Any, ...]) -> int | None:
        nonlocal met
        assert machine.current is not None
        met += rule(machine, machine.current, name, args)
        return 100 if dies(name, args) else None

    def after(_number: int, name: str, args: tuple[Any, ...]) -> None:
        if dies(name, args):
            machine.kill(dying[0])

    def dies(name: str, args: tuple[Any, ...]) -> bool:
        return name == "write" and machine.current in dying and bytes(args[1]).startswith(b'{"op":"put"')

    machine.before, machine.after = before, after
    world.create_or_open(told)
    for step in (*world.OPERATIONS.values(), world.add_new, world.add_many):
        step(told)
    with machine.running(machine.spawn()):
        open_manifest(ROTATING, version="2.0.0").close()
    world.compact(told)
    dying.append(machine.spawn())
    with machine.running(dying[0]), pytest.raises(Crash):
        open_manifest(ROTATING).add(make_record(500))
    world.add_elsewhere(told)
    world.add_new(told)
    world.close(told)
    with machine.running(machine.spawn()):
        manifest = open_manifest(CLOSING_COMPACTS)
        manifest.add(make_record(501))
        manifest.close()
    machine.power_off()
    return met


def _path(process: Process, args: tuple[Any, ...]) -> str:
    return process.fds[args[0]].path


def _writes_log(process: Process, name: str, args: tuple[Any, ...]) -> bool:
    return name in ("write", "ftruncate") and ".wal-" in _path(process, args)


def _names_segment(name: str, args: tuple[Any, ...]) -> int:
    """The number of the segment that gets its name by this call; 0 for any other call."""
    found = SEGMENT.search(args[1]) if name in ("link", "rename") and "/history/" not in args[1] else None
    return int(found[1]) if found else 0


def _holds(process: Process, suffix: str) -> bool:
    return any(
        isinstance(d.node, Inode) and d.node.locks.get(d, False)
        for d in process.fds.values()
        if d.path.endswith(suffix)
    )


def _directory(machine: Machine) -> Directory:
    found = machine.disk.node(DIRECTORY)
    assert isinstance(found, Directory)
    return found


def _is_certain(machine: Machine, name: str, node: Inode) -> bool:
    """Whether a file's name is synced; the change may wait for an earlier one, of another directory, that is not."""
    directory = _directory(machine)
    waiting = [change for change in machine.disk.pending if not change.unsynced]
    return directory.durable.get(name) is node or any((directory, name, node) in change.changes for change in waiting)


def _segment(machine: Machine, number: int) -> Inode:
    found = machine.disk.node(PATH.replace(".json", f".wal-{number:06d}.jsonl"))
    assert isinstance(found, Inode)
    return found


def _locked(_machine: Machine, process: Process, name: str, args: tuple[Any, ...]) -> bool:
    about = _writes_log(process, name, args) or _names_segment(name, args) > 0
    assert not about or _holds(process, ".manifest.lock"), f"{name} {args} without the append lock"
    return about


def test_writers_append_rotate_and_fence_under_the_append_lock_only(machine: Machine) -> None:
    assert _live(machine, _locked) > 30


def _one_write(_machine: Machine, process: Process, name: str, args: tuple[Any, ...]) -> bool:
    if not _writes_log(process, name, args):
        return False
    node = process.fds[args[0]].node
    assert isinstance(node, Inode)
    assert node.data[-1:] in (b"", b"\n"), "appended behind a torn end"
    assert bytes(args[1]).endswith(b'"}\n')
    assert bytes(args[1]).count(b"\n") == 1
    return True


def test_writers_append_a_line_by_one_write_at_a_clean_end_only(machine: Machine) -> None:
    """The killed one's unfinished line is not taken back by anybody else, and not gone on with."""
    assert _live(machine, _one_write) > 20


def _end_of(data: bytes) -> str:
    return "torn" if not data.endswith(b"\n") else str(json.loads(data.splitlines()[-1])["op"])


def test_a_segment_has_a_successor_only_when_it_is_sealed_or_cannot_be_appended_to(machine: Machine) -> None:
    ends = []

    def rule(machine: Machine, _process: Process, name: str, args: tuple[Any, ...]) -> bool:
        number = _names_segment(name, args)
        if number > 1:
            ends.append(_end_of(_segment(machine, number - 1).data))
        return number > 1

    assert _live(machine, rule) > 3
    assert set(ends) == {"seal", "torn"}


def _synced_before(machine: Machine, _process: Process, name: str, args: tuple[Any, ...]) -> bool:
    number = _names_segment(name, args)
    if number == 1:
        assert os.path.basename(PATH) in _directory(machine).durable, "a log without a canonical is damage"
    elif number:
        assert _segment(machine, number - 1).pending == [], (
            f"segment {number} gets its name before its predecessor is synced"
        )
    return number > 0


def test_a_segment_is_synced_before_its_successor_has_a_name(machine: Machine) -> None:
    """And the directory, with the canonical in it, before the first segment has one."""
    assert _live(machine, _synced_before) > 4


def _certain(machine: Machine, process: Process, name: str, args: tuple[Any, ...]) -> bool:
    if name != "write" or ".wal-" not in _path(process, args):
        return False
    node = process.fds[args[0]].node
    assert isinstance(node, Inode)
    names = [at for at, found in _directory(machine).entries.items() if found is node and SEGMENT.search(at)]
    if not names:
        return False  # its first line, before it has a name
    assert b"\n" in node.durable, f"a line goes into {names[0]} before the first one is synced"
    assert _is_certain(machine, names[0], node), f"a line goes into {names[0]} before its name is synced"
    return True


def test_a_segment_and_its_name_are_synced_before_a_line_goes_into_it(machine: Machine) -> None:
    assert _live(machine, _certain) > 15


def _alone(_machine: Machine, process: Process, name: str, args: tuple[Any, ...]) -> bool:
    about = name == "rename" and args[1].endswith((".json", ".idx"))
    assert not about or _holds(process, ".compact.lock"), f"{args[1]} is replaced without the compaction lock"
    return about


def test_canonical_and_index_are_replaced_under_the_compaction_lock_only(machine: Machine) -> None:
    assert _live(machine, _alone) > 6


# -- readers -----------------------------------------------------------------------------------------------------------


def _lived(machine: Machine) -> SimDisk:
    """Twenty records in the canonical, ten in the log."""
    told = World(machine, empty(machine))
    manifest = told.open()
    manifest.add_many([make_record(n) for n in range(20)])
    manifest.compact()
    manifest.add_many([make_record(n) for n in range(20, 30)])
    machine.power_off()
    return machine.disk.copy()


def _noted(machine: Machine, ask: Callable[[], object]) -> list[tuple[str, str, int]]:
    """The calls that `ask` makes: name, path, and flags of opening or bytes asked for."""
    found = []

    def before(_number: int, name: str, args: tuple[Any, ...]) -> None:
        process = machine.current
        assert process is not None
        path = args[0] if isinstance(args[0], str) else process.fds[args[0]].path
        found.append((name, path, args[1] if name in ("open", "pread") else 0))

    machine.before = before
    ask()
    machine.before = None
    return found


def _read_everything() -> None:
    with open_manifest(read_only=True) as manifest:
        assert len(dict(manifest.records.items())) == 30
        assert manifest.get_record_by_source("source-1") is not None


READING = {"open", "close", "stat", "fstat", "lseek", "pread", "listdir", "mmap"}


def test_a_reader_changes_nothing_and_takes_no_lock(machine: Machine) -> None:
    machine.boot(_lived(machine))
    calls = _noted(machine, _read_everything)
    assert {name for name, _, _ in calls} <= READING
    assert [path for name, path, flags in calls if name == "open" and flags & (os.O_ACCMODE | os.O_CREAT)] == []


def test_a_reader_lists_the_segments_after_it_has_opened_the_canonical(machine: Machine) -> None:
    machine.boot(_lived(machine))
    calls = [(name, path) for name, path, _ in _noted(machine, _read_everything)]
    opened = calls.index(("open", PATH))
    first_segment = next(n for n, (name, path) in enumerate(calls) if name == "open" and ".wal-" in path)
    assert ("listdir", DIRECTORY) in calls[opened:first_segment]


def test_a_look_that_finds_nothing_new_is_one_lseek(machine: Machine) -> None:
    machine.boot(_lived(machine))
    with open_manifest(read_only=True) as manifest:
        assert manifest.has_checksum(checksum(1))
        calls = _noted(machine, lambda: [manifest.has_checksum(checksum(n)) for n in (1, 25, 99)])
    assert [name for name, _, _ in calls] == ["lseek"] * 3


def _torn(machine: Machine, tail: bytes) -> None:
    """The disk of `_lived` with this end of its active segment, which no writer has seen yet."""
    machine.boot(_lived(machine))
    _segment(machine, 2).data += tail


@pytest.mark.parametrize(
    "tail",
    [b'{"op":"put","ts":"' + b"x" * (1 << 20), bytes(1 << 20), b"junk\n" * (1 << 18), b"\n", b"junk\n{"],
    ids=["a line that was begun", "NULs", "lines of junk", "an empty line", "junk and a line that was begun"],
)
def test_a_look_at_a_torn_end_that_stands_still_reads_none_of_it_again(machine: Machine, tail: bytes) -> None:
    """Whatever its length: the file's stamp, its last bytes, and whether there is a successor."""
    _torn(machine, tail)
    with open_manifest(read_only=True) as manifest:
        assert manifest.has_checksum(checksum(1))
        calls = _noted(machine, lambda: [manifest.has_checksum(checksum(n)) for n in (1, 25, 99)])
    assert [name for name, _, _ in calls] == ["stat", "pread", "stat"] * 3
    assert max(count for name, _, count in calls if name == "pread") <= 64


def test_a_reader_at_a_torn_end_sees_what_comes_behind_the_fence(machine: Machine) -> None:
    _torn(machine, b'{"op":"put","ts":"' + b"x" * 1000)
    reader = machine.spawn()
    with machine.running(reader):
        manifest = open_manifest(read_only=True)
        assert not manifest.has_checksum(checksum(99))
        assert not manifest.has_checksum(checksum(99))
    with machine.running(machine.spawn()):
        open_manifest().add(make_record(99))
    with machine.running(reader):
        assert manifest.has_checksum(checksum(99))


def test_a_reader_at_a_torn_end_sees_what_was_compacted_behind_the_fence(machine: Machine) -> None:
    """Its segment and the next have no name any more, so there is no successor to be seen."""
    _torn(machine, b'{"op":"put","ts":"' + b"x" * 1000)
    reader = machine.spawn()
    with machine.running(reader):
        manifest = open_manifest(read_only=True)
        assert not manifest.has_checksum(checksum(99))
        assert not manifest.has_checksum(checksum(99))
    with machine.running(machine.spawn()):
        writer = open_manifest()
        writer.add(make_record(99))
        writer.compact()
        writer.add(make_record(98))
        writer.compact()
    with machine.running(reader):
        assert manifest.has_checksum(checksum(98))


def test_a_reader_at_a_torn_end_sees_a_line_of_just_that_length_in_its_place(machine: Machine) -> None:
    """A writer whose disk was full has taken back what he had of a line; the next one's line has the very length of that."""
    machine.boot(_lived(machine))
    sound = _segment(machine, 2).data
    writer = machine.spawn()
    with machine.running(writer):
        open_manifest().add(make_record(99))
    line = _segment(machine, 2).data[len(sound) :]
    assert line, "the line is not where the test wants it"
    node, when = _segment(machine, 2), _segment(machine, 2).mtime_ns
    node.data = sound + line[:60] + b"x" * (len(line) - 60)
    reader = machine.spawn()
    with machine.running(reader):
        manifest = open_manifest(read_only=True)
        assert not manifest.has_checksum(checksum(99))
        node.data, node.mtime_ns = sound + line, when
        assert manifest.has_checksum(checksum(99))


def test_opening_reads_no_record_of_the_canonical(machine: Machine) -> None:
    """It reads the index's header and the log: so it costs the same with ten records and with ten million."""
    machine.boot(_lived(machine))
    calls = _noted(machine, lambda: open_manifest(read_only=True))
    assert [call for call in calls if call[0] == "pread" and call[1] == PATH] == []
