"""A crash at every call while a stage publishes and records its outputs, and while the next run finishes that."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from manifestlog import Durability, ETLProcess, EventKind, ManifestMetadata, ProcessedManifestManager
from manifestlog.model import codec
from manifestlog.stages import Made, Output, Stage, leftovers
from manifestlog.stages.arrival import Arrival, Landing
from manifestlog.stages.claiming import is_done
from manifestlog.stages.items import Item, ItemTask, Naming
from manifestlog.stages.landing import land
from manifestlog.stages.rule import Rule
from manifestlog.stages.workspace import Workspace
from support.records import EPOCH, MANUAL

from .crash import crash_states
from .machine import simulated
from .scenario import DIRECTORY, new_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .disk import SimDisk
    from .machine import Machine

PATH = f"{DIRECTORY}/systems_processing.manifest.json"
DATA = Path("/sim/data")
STAGE = Stage("systems_download", "systems_processing", output_dir=DATA, output="{dataset}/{source_id}.out")
RULE = Rule(STAGE.name, STAGE.version)
NAMING = Naming("/sim/raw", STAGE.name)
INPUT: dict[str, Any] = {
    "source_id": "a",
    "dataset": "set",
    "checksum": "ab" * 32,
    "file_path": "a.txt",
    "file_size": 3,
    "etag": None,
    "ts_downloaded": "2026-01-01T00:00:00Z",
    "version": "1",
}
_CHANGING = frozenset({"open", "write", "link", "unlink", "mkdir", "rename", "fsync", "fdatasync"})


class _Alone:
    """In the place of the claims: there is one process, whose claims end with it."""

    @contextmanager
    def claim(self, _kind: str, _name: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        assert wait_s >= 0
        yield True

    def fence(self) -> AbstractContextManager[None]:
        return nullcontext()

    def ensure_held(self) -> None:
        pass


@contextmanager
def opened(durability: Durability) -> Iterator[Landing]:
    """What a worker of the stage has open."""
    metadata = ManifestMetadata(
        process=ETLProcess.TRANSFORMER, etl_version="1.0.0", root_dir=Path("/sim"), ts_created=EPOCH, ts_updated=EPOCH
    )
    with ProcessedManifestManager(PATH, metadata, options=replace(MANUAL, durability=durability)) as manifest:
        workspace = Workspace(STAGE, "systems_processing")
        is_durable = durability is Durability.POWER_CUT
        yield Landing(STAGE, manifest, cast("Any", _Alone()), workspace, is_durable)


def run(machine: Machine, durability: Durability) -> None:
    """Do what a run of the stage does with its one input. Every boot gives other outputs, as a clock in them would."""
    with opened(durability) as landing:
        leftovers.tidy(landing, NAMING)
        item = Item(ItemTask(INPUT["checksum"], (codec.dumps(INPUT),)), NAMING, landing.workspace)
        if is_done(landing.manifest, RULE, item):
            return
        boot = machine.disk.boots
        outputs = tuple(Output(data=f"output {n} of boot {boot}".encode(), name=f"set/{n}.out") for n in range(2))
        one = Arrival(item, Made(outputs), RULE.version, None, "2026-01-01T00:00:00.000000Z", 0.5)
        land(landing, [one])
        assert one.error is None, one.error


def begin(machine: Machine, durability: Durability) -> SimDisk:
    """A disk with the stage's manifest."""
    machine.boot(new_disk())
    with opened(durability):
        pass
    machine.power_off()
    machine.disk.settle()
    return machine.disk


def files(disk: SimDisk) -> dict[str, bytes]:
    """The files under final names."""
    return {path: data for path, data in disk.files().items() if path.startswith(f"{DATA}/") and "/." not in path}


def check(machine: Machine, disk: SimDisk, durability: Durability) -> None:
    """No record is without its file; after the next run every output is recorded once, and nothing is left over."""
    before = files(disk)
    machine.boot(disk)
    with opened(durability) as landing:
        for record in landing.manifest.records.values():
            data = before.get(str(landing.manifest.locate(record)))
            assert data is not None, f"a record without its file {record.file_path}"
            assert hashlib.sha256(data).hexdigest() == record.checksum, "a record of other bytes"
    run(machine, durability)
    after = files(machine.disk)
    with opened(durability) as landing:
        records = list(landing.manifest.records.values())
        made = [event for event in landing.manifest.history() if event.kind in (EventKind.PUT, EventKind.DERIVED)]
        assert {str(landing.manifest.locate(one)) for one in records} == set(after), "a file without a record"
        assert landing.workspace.names() == [], "something is left in work"
    assert len(records) == len(made) == 2, "two outputs for one input and version"
    assert len({data.rpartition(b" ")[2] for data in after.values()}) == 1, "outputs of two attempts"
    assert all(after[path] == data for path, data in before.items()), "a file under its name was replaced"


def states(machine: Machine, disk: SimDisk, durability: Durability, *, limit: int = 24) -> list[SimDisk]:
    """Every disk that a kill, or with a `limit` a power cut, may leave at any call of a run."""
    found: dict[bytes, SimDisk] = {}

    def take(_number: int, name: str, _args: tuple[Any, ...]) -> None:
        if name not in _CHANGING:
            return
        left = [machine.disk.copy()]
        if durability is Durability.POWER_CUT and limit:
            left += crash_states(machine.disk, limit=limit, samples=3, fills=False)
        for one in left:
            found.setdefault(one.digest(), one)

    machine.boot(disk.copy())
    machine.after = take
    run(machine, durability)
    machine.power_off()
    return list(found.values())


def crash_at_each_call(machine: Machine, durability: Durability = Durability.POWER_CUT) -> int:
    """Check every disk that a crash of a run may leave; return how many there were."""
    left = states(machine, begin(machine, durability), durability)
    for state in left:
        check(machine, state, durability)
    return len(left)


def crash_after_a_kill(machine: Machine, sample: int = 12) -> int:
    """Kill a run at each call, or at a sample of them, and check every disk that a crash of the next run may leave."""
    tried = 0
    for state in _sample(kills(machine, begin(machine, Durability.POWER_CUT)), sample):
        again = states(machine, state, Durability.POWER_CUT, limit=8)
        for one in again:
            check(machine, one, Durability.POWER_CUT)
        tried += len(again)
    return tried


def kills(machine: Machine, disk: SimDisk) -> list[SimDisk]:
    """What a kill of a run leaves at each call: un-synced bytes and names are there, and a later power cut may take them."""
    return states(machine, disk, Durability.POWER_CUT, limit=0)


def _sample(found: list[SimDisk], size: int) -> list[SimDisk]:
    return found[:: max(1, len(found) // size)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


@pytest.mark.parametrize("durability", [Durability.POWER_CUT, Durability.PROCESS_KILL])
def test_a_crash_at_each_call_of_a_run(machine: Machine, count: Count, durability: Durability) -> None:
    count("crash states", crash_at_each_call(machine, durability))


@pytest.mark.parametrize("sample", [6, pytest.param(400, marks=pytest.mark.slow)])
def test_a_crash_while_the_next_run_finishes_what_a_kill_left(machine: Machine, count: Count, sample: int) -> None:
    count("crash states", crash_after_a_kill(machine, sample))


@pytest.mark.slow
def test_a_crash_while_the_next_run_finishes_what_a_power_cut_left(machine: Machine, count: Count) -> None:
    durability = Durability.POWER_CUT
    for state in _sample(states(machine, begin(machine, durability), durability), 200):
        again = states(machine, state, durability, limit=8)
        for one in again:
            check(machine, one, durability)
        count("crash states", len(again))
