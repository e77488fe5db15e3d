"""What a power cut may leave of a simulated disk: every legal state when there are few, a chosen many when not.

Legal is what POSIX allows and some file system does (the strictest reading of the ALICE study):

- every un-synced write of a file is there, not there, or cut: any prefix of it, and behind the prefix nothing, NULs or garbage
  up to its length (the length reached the disk before the bytes);
- in any order: a later write without an earlier one leaves NULs or garbage in the earlier one's place;
- every un-synced change of names is kept or lost, independently; for one name the kept ones apply in order;
- a name may be kept whose file's bytes were not synced: it is empty, or partial.

A kill of every process is not here: `disk.copy()` is what it leaves. A kill inside of a write is a write shortened by the
kernel's hook and a crash behind it.
"""

from __future__ import annotations

import itertools
import random
from math import prod
from typing import TYPE_CHECKING

from .disk import Directory, Inode, NameChange, Node, SimDisk, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FEW = 0
EVERY = 1 << 10
"""Cut writes of up to this many bytes at every byte."""

SECTOR_BYTES = 512
_GARBAGE = random.Random(4).randbytes(1 << 12)

_Option = Write | NameChange | None
_Dimension = tuple[int, Inode | None, list[_Option]]
"""When it was done, of which file it is a write, and what may become of it; option 0 is lost, option 1 is kept."""


def garbage(count: int) -> bytes:
    """Bytes that nobody wrote: the same every time, newlines among them."""
    return (_GARBAGE * (count // len(_GARBAGE) + 1))[:count]


def cuts(count: int, every_bytes: int, offset: int = 0) -> list[int]:
    """After how many of `count` bytes, written at `offset`, a write is cut."""
    if count <= every_bytes:
        return list(range(1, count))
    sectors = range(SECTOR_BYTES - offset % SECTOR_BYTES, count, SECTOR_BYTES)
    return sorted({1, count // 2, count - 1, *sectors[:4]} & set(range(1, count)))


def _options(write: Write, every_bytes: int, *, fills: bool) -> list[_Option]:
    """Not there, there, and every way between."""
    found: list[_Option] = [None, write]
    if write.data is None:
        return found
    data = write.data
    places = cuts(len(data), every_bytes, write.offset)
    found += [write._replace(data=data[:cut]) for cut in places]
    if fills:
        for cut in [0, *places]:
            found.append(write._replace(data=data[:cut] + bytes(len(data) - cut)))
            found.append(write._replace(data=data[:cut] + garbage(len(data) - cut)))
    return found


def _dimensions(disk: SimDisk, every_bytes: int, *, fills: bool, unread: str | None) -> list[_Dimension]:
    """Everything that the power cut decides, in the order in which it was done."""
    found: list[_Dimension] = [(c.sequence, None, [None, c]) for c in disk.pending if c.unsynced]
    for inode in _inodes(disk, unread):
        found += [(w.sequence, inode, _options(w, every_bytes, fills=fills)) for w in inode.pending]
    return sorted(found, key=lambda dimension: dimension[0])


def _inodes(disk: SimDisk, unread: str | None) -> Iterable[Inode]:
    """Every file that may have a name after the cut, those left out that could only have one with `unread` in it."""
    named: list[tuple[str, Node]] = [("", disk.root)]
    named += [(name, n) for c in disk.pending for _, name, n in c.changes if n is not None]
    found: dict[int, Inode] = {}
    seen: set[int] = set()
    while named:
        name, node = named.pop()
        if isinstance(node, Inode):
            if unread is None or unread not in name:
                found[node.number] = node
        elif id(node) not in seen:
            seen.add(id(node))
            named += [*node.durable.items(), *node.entries.items()]
    return found.values()


def crash_states(
    disk: SimDisk,
    *,
    every_bytes: int = FEW,
    fills: bool = True,
    limit: int = 512,
    samples: int = 32,
    seed: int = 0,
    unread: str | None = None,
) -> Iterator[SimDisk]:
    """Yield the disks that a power cut at this moment may leave, each once (by `digest`), and `disk` untouched.

    Writes of up to `every_bytes` bytes are cut at every byte, longer ones at a few and at sectors. `fills` adds NULs and
    garbage behind each cut. All combinations up to `limit`; beyond: everything, nothing, each prefix (its last one in every
    variant), each single one lost or in each variant with all others kept, and with all others lost; plus `samples` random
    ones from `seed`. The bytes of a file that can only have a name with `unread` in it are of no account: they are lost.
    """
    dimensions = _dimensions(disk, every_bytes, fills=fills, unread=unread)
    sizes = [len(options) for *_, options in dimensions]
    picks: Iterable[tuple[int, ...]]
    if prod(sizes) <= limit:
        picks = itertools.product(*map(range, sizes))
    else:
        picks = _chosen(sizes, samples, random.Random(seed))
    seen: set[bytes] = set()
    for pick in picks:
        state = _state(disk, dimensions, pick)
        digest = state.digest(unread)
        if digest not in seen:
            seen.add(digest)
            yield state


def _chosen(sizes: list[int], samples: int, rng: random.Random) -> Iterator[tuple[int, ...]]:
    count = len(sizes)
    kept, lost = (1,) * count, (0,) * count
    yield kept
    yield lost
    for at, size in enumerate(sizes):
        for option in range(size):
            yield (*kept[:at], option, *lost[at + 1 :])
            yield (*kept[:at], option, *kept[at + 1 :])
            yield (*lost[:at], option, *lost[at + 1 :])
    for _ in range(samples):
        yield _thrown(sizes, rng)


def random_state(disk: SimDisk, dice: random.Random) -> SimDisk:
    """One of the disks that a power cut at this moment may leave, by these dice."""
    dimensions = _dimensions(disk, FEW, fills=True, unread=None)
    sizes = [len(options) for *_, options in dimensions]
    return _state(disk, dimensions, _thrown(sizes, dice))


def least_state(disk: SimDisk) -> SimDisk:
    """What a power cut leaves at the least: what was synced, and nothing else."""
    dimensions = _dimensions(disk, FEW, fills=False, unread=None)
    return _state(disk, dimensions, (0,) * len(dimensions))


def _thrown(sizes: list[int], dice: random.Random) -> tuple[int, ...]:
    """Mostly lost or kept, now and then in between."""
    return tuple(dice.randrange(size) if dice.random() < 0.3 else dice.randrange(2) for size in sizes)


def _state(disk: SimDisk, dimensions: list[_Dimension], pick: tuple[int, ...]) -> SimDisk:
    kept: list[NameChange] = []
    contents: dict[int, bytes] = {}
    for (_, inode, options), number in zip(dimensions, pick, strict=True):
        option = options[number]
        if isinstance(option, NameChange):
            kept.append(option)
        elif option is not None:
            assert inode is not None
            contents[inode.number] = option.on(contents.get(inode.number, inode.durable))
    return _build(disk, kept, contents)


def _build(disk: SimDisk, kept: list[NameChange], contents: dict[int, bytes]) -> SimDisk:
    """The disk with the certain changes of names and these, and the files with their certain bytes or these."""
    names: dict[int, dict[str, Node]] = {}
    for change in disk.pending:
        if not change.unsynced or change in kept:
            for directory, name, node in change.changes:
                entries = names.setdefault(id(directory), directory.durable.copy())
                entries.pop(name, None)
                if node is not None:
                    entries[name] = node
    made: dict[int, Node] = {}

    def twin(node: Node) -> Node:
        found = made.get(node.number)
        if found is None:
            if isinstance(node, Inode):
                data = contents.get(node.number, node.durable)
                made[node.number] = found = node.same(data, data, [])
            else:
                made[node.number] = found = Directory(node.number, node.mtime_ns)
                found.entries = {name: twin(child) for name, child in names.get(id(node), node.durable).items()}
                found.durable = found.entries.copy()
        if isinstance(found, Inode):
            found.nlink += 1
        return found

    state = disk.bare()
    root = twin(disk.root)
    assert isinstance(root, Directory)
    state.root = root
    return state
