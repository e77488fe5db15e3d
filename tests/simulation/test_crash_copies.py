"""A crash at every call of a copy into files, by a kill and by a power cut: nothing is there or all of it, and the next copy ends it.

Whoever creates a manifest there instead, or meanwhile, gets nothing of the copy.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import QUIET, record, sha
from contract.copies import engine_of, fill, shown, told
from manifestlog import DownloadManifestManager, ManifestExistsError, ManifestNotFoundError
from manifestlog.copying import copy
from manifestlog.engines.filelog import loading
from manifestlog.engines.filelog.canonical import files as base
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
    from manifestlog import ManifestOptions
    from manifestlog.engines.protocol import Engine
    from support.counts import Count

    from .disk import SimDisk
    from .machine import Machine

    Seen = tuple[bytes, Told]
    Examine = Callable[[Machine, SimDisk, Engine, Collection[Seen | None]], None]

_PACKS = replace(MANUAL, segment_bytes_max=1500)
"""The events of the copy are in several segments."""


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


def _examine(
    machine: Machine,
    disk: SimDisk,
    source: Engine,
    moments: Collection[Seen | None],
    options: ManifestOptions = MANUAL,
) -> None:
    """One of these is there; the next copy ends it, a third one writes nothing, and the manifest goes on."""
    whole = shown(source), told(source)
    machine.boot(disk)
    assert _seen() in moments
    copy(source, PATH, options)
    assert _seen() == whole
    assert not check(resolve(PATH)).damaged
    assert [path for path in machine.disk.files() if "/quarantine/" in path] == []
    with closing(open_to_read(PATH, MANUAL)) as engine:
        assert engine.reach() == source.reach()
    before = machine.disk.files()
    copy(source, PATH, options)
    assert machine.disk.files() == before
    machine.boot(machine.disk)
    with open_manifest() as manifest:
        manifest.add(make_record(100))
        manifest.compact()
    assert not check(resolve(PATH)).damaged
    assert [path for path in machine.disk.files() if ".tmp-" in path] == []


def _give_up(machine: Machine, disk: SimDisk, _source: Engine, moments: Collection[Seen | None]) -> None:
    """One of these is there, or whoever creates a manifest begins anew; and nothing unfinished stays."""
    machine.boot(disk)
    found = _seen()
    assert found in moments
    with open_manifest() as manifest:
        assert told(engine_of(manifest)) == (found[1] if found else [])
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


@contextmanager
def _copied(machine: Machine) -> Iterator[Engine]:
    """What is copied; it is on no disk, so no crash touches it."""
    machine.boot(new_disk())
    memory = driver_for("memory:systems_download")
    place = memory.locate("memory:systems_download")
    with closing(memory.open(place, metadata_row(metadata()), QUIET, read_only=False)) as source:
        fill(source)
        machine.boot(new_disk())
        yield source


def crash_at_each_call(
    machine: Machine,
    begin: Callable[[], None] = lambda: None,
    then: Callable[[Engine], None] = lambda _: None,
    examine: Examine = _examine,
    options: ManifestOptions = MANUAL,
) -> int:
    """Return how many states there were.

    `begin` makes what is in the place of the copy, `then` changes the source after the crash.
    """
    with _copied(machine) as source:
        begin()
        before = _seen()
        states = states_of(machine, lambda: copy(source, PATH, options), samples=2)
        machine.power_off()
        moments = (None, before, (shown(source), told(source)))
        then(source)
        return examine_each(states, lambda disk: examine(machine, disk, source, moments))


def crash_into_an_empty_one(machine: Machine) -> int:
    """The same, where an empty manifest is in the place of the copy."""
    return crash_at_each_call(machine, _create)


def crash_before_a_later_one(machine: Machine) -> int:
    """The same, where the next copy is one of a later moment."""
    return crash_at_each_call(machine, then=_goes_on)


def crash_among_packs(machine: Machine) -> int:
    """The same with a history of several packs."""
    return crash_at_each_call(machine, examine=partial(_examine, options=_PACKS), options=_PACKS)


def crash_and_give_up(machine: Machine) -> int:
    """The same, where nobody copies again."""
    return crash_at_each_call(machine, examine=_give_up)


def crash_in_the_next_one(machine: Machine) -> int:
    """Kill a copy behind each call that names a file, and crash the next one, which ends it, at every call."""
    with _copied(machine) as source:
        states = states_of(machine, lambda: copy(source, PATH, MANUAL), samples=0)
        machine.power_off()
        moments = (None, (shown(source), told(source)))
        named = (", link ", ", rename ")
        killed = [disk for text, disk in states if text.startswith("kill") and any(name in text for name in named)]
        found = 0
        for disk in killed:
            machine.boot(disk)
            later = states_of(machine, lambda: copy(source, PATH, MANUAL), samples=2)
            machine.power_off()
            found += examine_each(later, lambda disk: _examine(machine, disk, source, moments))
        return found


@pytest.mark.parametrize(
    "crash",
    [
        crash_at_each_call,
        crash_into_an_empty_one,
        crash_before_a_later_one,
        crash_among_packs,
        crash_and_give_up,
        crash_in_the_next_one,
    ],
)
def test_a_crash_at_every_call_of_a_copy(machine: Machine, crash: Callable[[Machine], int], count: Count) -> None:
    states = crash(machine)
    count("crash states", states)
    assert states > 20


def create_meanwhile(machine: Machine) -> None:
    """Somebody who has seen no history yet names a canonical just before the copy does."""
    paths = resolve(PATH)
    with _copied(machine) as source:
        creator = machine.spawn()

        def before(_number: int, name: str, args: tuple[Any, ...]) -> None:
            if name == "link" and args[1] == paths.canonical:
                machine.before = None
                with machine.running(creator):
                    base.create_canonical(paths, metadata_row(metadata()) | {"total_records": 0})

        machine.before = before
        with pytest.raises(ManifestExistsError, match="meanwhile"):
            loading.load(paths, source.image(), MANUAL)
        assert _seen() is not None
        assert [path for path in machine.disk.files() if path.startswith(paths.history)] == []


def test_a_manifest_that_is_created_meanwhile_has_no_history_of_the_copy(machine: Machine) -> None:
    create_meanwhile(machine)
