"""Crashes a simulated machine at every call of an operation and examines every disk that may be left.

::

    scenario = Scenario("add", base, (add_new,), options)
    states = crashes(machine, scenario)                # every distinct state, with what it may hold
    for state in states: examine(machine, state, scenario, fully=True)
    reproduce(machine, scenario, digest)               # one failing state again, in full

Invariants:

- The last operation of a scenario is crashed after each of its calls, and before the first; what is before a call is what was
  behind the one before it. A kill leaves the disk as it is, or with the written line cut; a power cut leaves `crash_states`.
- States are told apart by what they hold and what they may hold, and counted once a scenario. Two that differ in the bytes of a
  temporary file only are one: nobody ever reads them.
- Every state is read: opened by a writer, all records, both kinds of lookup, total, iteration, the canonical's skeleton. Every
  k-th (`full_every`, beginning elsewhere in each scenario) is examined in full: `check` before and after, a second opening that
  changes no file, verdicts, an addition, a compaction, a third opening.
- A failure names the scenario, call, kind of crash and the state's digest, and shows its files: `reproduce` needs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from manifestlog import Durability, ManifestError, Verdict
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.names import resolve
from support.records import MANUAL

from .crash import FEW, crash_states, cuts
from .events import check_followers, replayed, told
from .scenario import PATH, check_files, check_last_line, make_record, open_manifest
from .world import Base, Records, World, create_or_open, pack_history

if TYPE_CHECKING:
    from manifestlog import DownloadManifestManager, ManifestOptions

    from .disk import SimDisk
    from .machine import Machine

_CHANGING = frozenset({"open", "write", "ftruncate", "link", "unlink", "rename", "mkdir", "fsync", "fdatasync"})
TEMPORARY = ".tmp-"
_EXTRA = make_record(999_983)


@dataclass(frozen=True)
class Scenario:
    """Operations on a base; the last of them is crashed."""

    name: str
    base: Base
    operations: tuple[Callable[[World], None], ...]
    options: ManifestOptions = MANUAL
    every_bytes: int = FEW
    limit: int = 48
    samples: int = 6
    full_every: int = 6
    opened: bool = True
    """Whether the manifest is open before the first operation."""


class Allowed(NamedTuple):
    """What a state may hold: one of `exactly`, or (un-synced lines lost) for each checksum what it had at some `moment`."""

    exactly: tuple[Records, ...]
    moments: tuple[Records, ...] = ()
    batches: tuple[frozenset[str], ...] = ()
    created: bool = True
    whole: bool = True
    """Whether the history goes back to the beginning."""

    def refuses(self, found: Records) -> str | None:
        """What is wrong with these records, if anything."""
        if found in self.exactly:
            return None
        if not self.moments:
            return f"holds {_names(found)}, not one of {[_names(records) for records in self.exactly]}"
        for checksum in {*found, *(c for moment in self.moments for c in moment)}:
            if found.get(checksum) not in [moment.get(checksum) for moment in self.moments]:
                return f"{checksum[:8]} is as it never was"
        for batch in self.batches:
            there = {c for c in batch if c in found}
            untouched = all(len({m[c] for m in self.moments if c in m}) == 1 for c in batch) and not any(
                later.keys() & batch < batch and later.keys() & batch for later in self.moments
            )
            if untouched and there not in (set(), batch):
                return f"half of the batch {[c[:8] for c in batch]}"
        return None


def _names(records: Records) -> dict[str, str]:
    return {c[:8]: f"{r.source_id} {r.etag} {r.file_path.name}" for c, r in records.items()}


@dataclass
class CrashState:
    """A disk that a crash may leave, and how it came about."""

    disk: SimDisk
    allowed: Allowed
    call: int
    after: str
    cut: str
    digest: bytes
    fully: bool = False

    def describe(self, scenario: Scenario, files: dict[str, bytes]) -> str:
        shown = "\n".join(f"--- {path}\n{data!r}" for path, data in files.items())
        return (
            f"{scenario.name}: {self.cut} after call {self.call} ({self.after}) of its last operation;"
            f" reproduce(machine, scenario, {self.digest.hex()!r})\n{shown}"
        )


@dataclass
class _Collector:
    """The hooks of one run: takes states at each call of the last operation."""

    world: World
    scenario: Scenario
    states: list[CrashState] = field(default_factory=list)
    _seen: set[tuple[int, bytes]] = field(default_factory=set)
    _allowed: dict[int, Allowed] = field(default_factory=dict)
    _first_call: int = 0

    def start(self) -> None:
        machine = self.world.machine
        self._first_call = machine.calls
        self.take("start", ())
        machine.before, machine.after = self._before, self._after

    def _before(self, _number: int, name: str, args: tuple[Any, ...]) -> None:
        if name != "write":
            return
        machine = self.world.machine
        assert machine.current is not None
        path = machine.current.fds[args[0]].path
        data = bytes(args[1])
        for cut in cuts(len(data), self.scenario.every_bytes):
            disk = machine.disk.copy()
            node = disk.find(path)
            if node is not None:
                disk.write(node, len(node.data), data[:cut])  # type: ignore[union-attr, arg-type]  # a file is written
                self._add(disk, self._killed(), f"write of {cut} of {len(data)} bytes to {path}", "kill")

    def _after(self, _number: int, name: str, args: tuple[Any, ...]) -> None:
        if name in _CHANGING:
            self.take(name, args)

    def take(self, name: str, args: tuple[Any, ...]) -> None:
        """All that a crash of this moment may leave."""
        machine, scenario = self.world.machine, self.scenario
        told = f"{name} {machine.describe(args)}"
        self._add(machine.disk.copy(), self._killed(), told, "kill")
        for disk in crash_states(
            machine.disk,
            every_bytes=scenario.every_bytes,
            limit=scenario.limit,
            samples=scenario.samples,
            unread=TEMPORARY,
        ):
            self._add(disk, self._cut_off(), told, "power cut")

    def _add(self, disk: SimDisk, allowed: Allowed, told: str, cut: str) -> None:
        digest = disk.digest(unread=TEMPORARY)
        key = (self._number_of(allowed), digest)
        if key not in self._seen:
            self._seen.add(key)
            call = self.world.machine.calls - self._first_call
            fully = (len(self._seen) + crc32(self.scenario.name.encode())) % self.scenario.full_every == 0
            self.states.append(CrashState(disk, allowed, call, told, cut, digest, fully))

    def _number_of(self, allowed: Allowed) -> int:
        key = hash((*map(id, allowed.exactly), len(allowed.moments), allowed.created))
        self._allowed.setdefault(key, allowed)
        return key

    def _killed(self) -> Allowed:
        world = self.world
        exactly = (world.records,) if world.records is world.intended else (world.records, world.intended)
        return Allowed(exactly, created=world.created, whole=world.whole)

    def _cut_off(self) -> Allowed:
        world, allowed = self.world, self._killed()
        if world.options.durability is Durability.POWER_CUT:
            return allowed._replace(exactly=allowed.exactly + world.others)
        return allowed._replace(moments=tuple(world.past), batches=tuple(world.batches))


def crashes(machine: Machine, scenario: Scenario) -> list[CrashState]:
    """Run the scenario once; every distinct state that a crash of its last operation may leave."""
    world = World(machine, scenario.base, scenario.options)
    if scenario.opened:
        create_or_open(world)
    *prefix, last = scenario.operations
    for operation in prefix:
        operation(world)
    collector = _Collector(world, scenario)
    collector.start()
    last(world)
    collector.take("acknowledgement", ())
    machine.power_off()
    return collector.states


def explore(machine: Machine, scenario: Scenario) -> int:
    """Examine every crash state of a scenario; gives how many there were. Raises `AssertionError` with the first bad one."""
    states = crashes(machine, scenario)
    for state in states:
        _examine_or_tell(machine, state, scenario, fully=state.fully)
    return len(states)


def recoveries(
    machine: Machine,
    scenario: Scenario,
    recover: Callable[[World], None],
    *,
    sample: int,
    where: Callable[[CrashState], bool] = lambda _: True,
) -> Iterator[Scenario]:
    """For every state of a scenario, or `sample` of them evenly, the scenario that begins there and crashes `recover`."""
    states = [state for state in crashes(machine, scenario) if where(state)]
    for number in sorted({round(at * (len(states) - 1) / sample) for at in range(sample + 1)}):
        state = states[number]
        records = examine(machine, state.disk.copy(), state.allowed, scenario.options, fully=False)
        machine.power_off()
        others = tuple(other for other in state.allowed.exactly if other != records)
        killed = state.cut == "kill"
        base = Base(state.disk, records, others if killed else (), certain=not killed, whole=state.allowed.whole)
        yield replace(
            scenario,
            name=f"{scenario.name}, {state.cut} after {state.after}, {recover.__name__}",
            base=base,
            operations=(recover,),
            every_bytes=FEW,
            limit=32,
            samples=4,
            opened=False,
        )


def reproduce(machine: Machine, scenario: Scenario, digest: str) -> None:
    """Examine one state again, in full: the one that a failure has named."""
    (state,) = [s for s in crashes(machine, scenario) if s.digest.hex() == digest][:1]
    examine(machine, state.disk, state.allowed, scenario.options, fully=True)


def _examine_or_tell(machine: Machine, state: CrashState, scenario: Scenario, *, fully: bool) -> None:
    files = state.disk.files()
    try:
        examine(machine, state.disk, state.allowed, scenario.options, fully=fully)
    except Exception as error:
        if isinstance(error, TimeoutError) and not isinstance(error, ManifestError):
            raise  # the test's own
        raise AssertionError(f"{type(error).__name__}: {error}\n{state.describe(scenario, files)}") from error


def examine(
    machine: Machine, disk: SimDisk, allowed: Allowed, options: ManifestOptions = MANUAL, *, fully: bool
) -> Records:
    """Everything that must be true of a disk after a crash; gives its records. The disk is used up."""
    check_files(disk)
    if allowed.created:
        assert PATH in disk.files(), "the manifest that was created is gone"
    machine.boot(disk)
    if fully and PATH in disk.files():
        no_damage()
    manifest = open_manifest(options)
    found = read_all(manifest)
    wrong = allowed.refuses(found)
    assert wrong is None, wrong
    events = told(manifest, exact=not allowed.moments)
    if allowed.whole:
        assert replayed(events) == found, "the history says something else than the records"
    if fully:
        _go_on(machine, manifest, found, allowed, options)
    return found


def read_all(manifest: DownloadManifestManager) -> Records:
    """Every record; fails when a way of asking for one says something else."""
    found = dict(manifest.records.items())
    assert list(manifest) == sorted(found)
    assert len(manifest) == len(found)
    for checksum, record in found.items():
        assert manifest.get(checksum) == record
        assert manifest.get_record_by_source(record.source_id, record.dataset) == record
    return found


def no_damage() -> None:
    """`check` has nothing against what is on the disk."""
    findings = [finding for finding in check(resolve(PATH)).findings if finding.level == "damage"]
    assert findings == [], findings


def _go_on(
    machine: Machine, manifest: DownloadManifestManager, found: Records, allowed: Allowed, options: ManifestOptions
) -> None:
    before = machine.disk.files()
    events = told(manifest, exact=not allowed.moments)
    manifest.close()
    manifest = open_manifest(options)
    assert read_all(manifest) == found
    assert told(manifest, exact=not allowed.moments) == events
    assert machine.disk.files() == before, "a second opening changed files"
    now = dict(found)
    for record in _distinct(allowed):
        if now.get(record.checksum) == record:
            assert manifest.add(record).verdict is Verdict.DUPLICATE
        elif record.checksum not in now:
            assert manifest.add(record).verdict is Verdict.NEW
            now[record.checksum] = record
    assert manifest.add(_EXTRA).verdict is Verdict.NEW
    now[_EXTRA.checksum] = _EXTRA
    check_last_line(machine.disk)
    manifest.compact()
    done = machine.disk.files()
    assert manifest.compact().outcome == "nothing_to_do"
    assert machine.disk.files() == done, "a compaction with nothing to do has changed files"
    check_files(machine.disk, compacted=True)
    later = told(manifest, exact=not allowed.moments)
    assert later[: len(events)] == events
    assert not allowed.whole or replayed(later) == now
    pack_history(manifest)
    assert told(manifest, exact=not allowed.moments) == later
    check_followers(manifest)
    manifest.close()
    no_damage()
    machine.boot(machine.disk)
    manifest = open_manifest(options)
    assert read_all(manifest) == now
    assert told(manifest, exact=not allowed.moments) == later


def _distinct(allowed: Allowed) -> Iterator[Any]:
    for records in (*allowed.exactly, *allowed.moments):
        yield from records.values()
