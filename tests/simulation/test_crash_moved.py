"""What a crash leaves is told from what somebody moves: every state of a crash opens, and with a line taken out none does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contract.builders import line_at, salt_of
from manifestlog import DamagedManifestError, Durability

from . import test_crash_operations
from .disk import Inode
from .explore import crashes, no_damage
from .machine import simulated
from .scenario import open_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .disk import SimDisk
    from .machine import Machine

_TAIL = len(',"crc":"00000000"}\n')


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _active(disk: SimDisk) -> Inode | None:
    segments = sorted(path for path in disk.files() if ".wal-" in path and path.endswith(".jsonl"))
    node = disk.node(segments[-1]) if segments else None
    assert node is None or isinstance(node, Inode)
    return node


def _without_its_second_line(data: bytes) -> bytes | None:
    """The segment without that line; None where no intact one would move."""
    first, second, *others = [*data.splitlines(keepends=True), b"", b""][: data.count(b"\n") + 2]
    at = len(first) + len(second)
    salt = salt_of(data)
    for line in others:
        if line.startswith(b'{"op":') and line == line_at(line[:-_TAIL], salt, at):
            return first + data[len(first) + len(second) :]
        at += len(line)
    return None


@pytest.mark.parametrize("durability", [Durability.POWER_CUT, Durability.PROCESS_KILL], ids=["synced", "not synced"])
@pytest.mark.parametrize("name", ["add after additions", "add_many", "rotate", "fence of a torn tail"])
def test_every_crash_state_is_sound_and_with_a_line_taken_out_damaged(
    machine: Machine, count: Count, name: str, durability: Durability
) -> None:
    states = crashes(machine, test_crash_operations.scenario(machine, name, durability, 0))
    moved = 0
    for state in states:
        machine.boot(state.disk.copy())
        no_damage()
        node = _active(state.disk)
        made = _without_its_second_line(node.data) if node is not None else None
        if node is None or made is None:
            continue
        node.data = made
        machine.boot(state.disk)
        with pytest.raises(DamagedManifestError):
            open_manifest()
        moved += 1
    count("crash states", len(states))
    count("moved lines", moved)
    assert moved > 0
