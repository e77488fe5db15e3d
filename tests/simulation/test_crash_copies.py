"""A crash at every call of a copy into files, by a kill and by a power cut: nothing is there or all of it, and the next copy ends it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from contract.builders import QUIET, record, sha
from contract.copies import fill, shown, told
from manifestlog import DownloadManifestManager, ManifestNotFoundError
from manifestlog.copying import copy
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.registry import driver_for, open_to_read
from manifestlog.model.batches import encoded
from manifestlog.model.events import EventKind
from manifestlog.model.models import metadata_row
from manifestlog.names import resolve
from support.records import MANUAL

from .machine import simulated
from .scenario import PATH, make_record, metadata, new_disk, open_manifest
from .states import examine_each, states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from contract.copies import Told
    from manifestlog.engines.protocol import Engine
    from support.counts import Count

    from .disk import SimDisk
    from .machine import Machine

Seen = tuple[bytes, "Told"]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _seen() -> Seen | None:
    """The canonical and the events; None if there is no manifest."""
    try:
        with closing(open_to_read(PATH, MANUAL)) as engine:
            return shown(engine), told(engine)
    except ManifestNotFoundError:
        return None


def _examine(machine: Machine, disk: SimDisk, source: Engine, moments: Collection[Seen | None]) -> None:
    """One of these is there; the next copy ends it, a third one writes nothing, and the manifest goes on."""
    whole = shown(source), told(source)
    machine.boot(disk)
    assert _seen() in moments
    copy(source, PATH, MANUAL)
    assert _seen() == whole
    assert not check(resolve(PATH)).damaged
    with closing(open_to_read(PATH, MANUAL)) as engine:
        assert engine.reach() == source.reach()
    before = machine.disk.files()
    copy(source, PATH, MANUAL)
    assert machine.disk.files() == before
    machine.boot(machine.disk)
    with open_manifest() as manifest:
        manifest.add(make_record(100))
        manifest.compact()
    assert not check(resolve(PATH)).damaged
    assert [path for path in machine.disk.files() if ".tmp-" in path] == []


def _create() -> None:
    """A manifest of another moment, in which nothing is."""
    created = metadata().model_copy(update={"ts_created": datetime(2020, 1, 1, tzinfo=UTC)})
    DownloadManifestManager(PATH, created, options=MANUAL).close()


def _goes_on(source: Engine) -> None:
    source.add(encoded(record("later", 60), QUIET))
    source.record_event(EventKind.FAILED, {"source_id": "gone", "dataset": "set", "error": "still"})
    source.forget(sha("a"))


def crash_at_each_call(
    machine: Machine, begin: Callable[[], None] = lambda: None, then: Callable[[Engine], None] = lambda _: None
) -> int:
    """Return how many states there were. What is copied is on no disk, so no crash touches it.

    `begin` makes what is in the place of the copy, `then` changes the source after the crash.
    """
    machine.boot(new_disk())
    memory = driver_for("memory:systems_download")
    place = memory.locate("memory:systems_download")
    with closing(memory.open(place, metadata_row(metadata()), QUIET, read_only=False)) as source:
        fill(source)
        machine.boot(new_disk())
        begin()
        before = _seen()
        states = states_of(machine, lambda: copy(source, PATH, MANUAL), samples=2)
        machine.power_off()
        moments = (None, before, (shown(source), told(source)))
        then(source)
        return examine_each(states, lambda disk: _examine(machine, disk, source, moments))


def crash_into_an_empty_one(machine: Machine) -> int:
    """The same, where an empty manifest is in the place of the copy."""
    return crash_at_each_call(machine, _create)


def crash_before_a_later_one(machine: Machine) -> int:
    """The same, where the next copy is one of a later moment."""
    return crash_at_each_call(machine, then=_goes_on)


@pytest.mark.parametrize("crash", [crash_at_each_call, crash_into_an_empty_one, crash_before_a_later_one])
def test_a_crash_at_every_call_of_a_copy(machine: Machine, crash: Callable[[Machine], int], count: Count) -> None:
    states = crash(machine)
    count("crash states", states)
    assert states > 20
