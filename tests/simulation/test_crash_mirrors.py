"""A crash at every call of a mirror, by a kill and by a power cut: the replica is one moment, and has each event once in the end."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from contract.builders import QUIET, record, sha
from contract.copies import fill, shown, told
from manifestlog import ManifestNotFoundError, Mirror, ReplicaError
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.registry import driver_for, open_to_read
from manifestlog.model.batches import encoded
from manifestlog.model.events import EventKind
from manifestlog.model.models import metadata_row
from manifestlog.names import resolve
from support.records import MANUAL

from .machine import simulated
from .scenario import DIRECTORY, PATH, metadata, new_disk, open_manifest
from .states import examine_each, states_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog import MirrorReport
    from manifestlog.engines.protocol import Engine
    from support.counts import Count

    from .disk import SimDisk
    from .machine import Machine


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _source() -> Engine:
    """What is followed; it is on no disk, so no crash touches it."""
    memory = driver_for("memory:systems_download")
    place = memory.locate("memory:systems_download")
    found: Engine = memory.open(place, metadata_row(metadata()), QUIET, read_only=False)
    return found


def _goes_on(source: Engine) -> None:
    source.add(encoded(record("later", 60), QUIET))
    source.record_event(EventKind.FAILED, {"source_id": "gone", "dataset": "set", "error": "still"})
    source.forget(sha("a"))


def _mirrored(source: Engine) -> MirrorReport:
    """What a mirror does that runs for a moment."""
    mirror = Mirror.__new__(Mirror)
    mirror._begin(source, DIRECTORY, MANUAL)
    try:
        mirror.update()
        return mirror.report
    finally:
        mirror._replica.close()


def _moments(source: Engine) -> list[bytes]:
    """The canonical after each event."""
    image = source.image()
    first = shown(source)
    with closing(_source()) as twin:
        found = [shown(twin)]
        for event in image.events:
            twin.replay([event], twin.cursor())
            found.append(shown(twin))
    assert found[-1] == first
    return found


def _is_refused() -> bool:
    """Whether a program that wants to write is told that this is a replica."""
    try:
        open_manifest().close()
    except ReplicaError:
        return True
    return False


def _examine(machine: Machine, disk: SimDisk, source: Engine, moments: list[bytes]) -> None:
    """A moment of the source, to which nobody writes; the next mirror brings it up to date, with each event once."""
    machine.boot(disk)
    try:
        with closing(open_to_read(PATH, MANUAL)) as engine:
            assert shown(engine) in moments
        assert _is_refused()
    except ManifestNotFoundError:
        pass
    report = _mirrored(source)
    with closing(open_to_read(PATH, MANUAL)) as engine:
        assert shown(engine) == shown(source)
        assert (told(engine), report.comparisons) == (told(source), 0)
    assert not check(resolve(PATH)).damaged
    assert [path for path in machine.disk.files() if "/quarantine/" in path] == []


def crash_at_each_call(machine: Machine) -> int:
    """Crash a mirror that makes a replica, and one that brings it up to date; return how many states there were."""
    with closing(_source()) as source:
        fill(source)
        machine.boot(new_disk())
        making = states_of(machine, lambda: _mirrored(source), samples=2)
        _goes_on(source)
        updating = states_of(machine, lambda: _mirrored(source), samples=2)
        machine.power_off()
        moments = _moments(source)
        return examine_each([*making, *updating], lambda disk: _examine(machine, disk, source, moments))


def test_a_crash_at_every_call_of_a_mirror(machine: Machine, count: Count) -> None:
    states = crash_at_each_call(machine)
    count("crash states", states)
    assert states > 40
