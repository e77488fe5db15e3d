"""A simulated machine in the place of the real one: the engine's modules get its kernel, its clock and its dice.

::

    with simulated() as machine:                       # once; the patches go when it ends
        machine.boot(SimDisk(DIRECTORY))               # as often as wanted: a new machine with this disk
        with DownloadManifestManager(PATH, metadata(), options=MANUAL) as manifest:   # a first process is running
            machine.before = hook                      # hook(number, name, args), see `kernel`
            manifest.add(make_record(1))
        for state in crash_states(machine.disk): ...   # or in the hook: states at every call, by one run
        machine.boot(state)                            # reboot with what the power cut has left

Invariants:

- What the engine sees of the system is a function of disk, seed and hooks: no real time, file, process number or random number.
- The managers of each process are its own (`OpenManagers`), and so is what `os.getpid` says.
- The garbage collector is off while a process runs: `__del__` closes files, and a collection at some allocation would make a
  system call there. `boot` collects now and then.

One process at a time runs here, chosen with `running`; `scheduler` switches between many.
"""

from __future__ import annotations

import datetime as dt
import gc
import logging
import random
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

import filelock

from manifestlog import manager, names, run
from manifestlog.engines.filelog import loading, lock, session
from manifestlog.engines.filelog.compaction import background, steps as compactor, trigger
from manifestlog.engines.filelog.history import writing
from manifestlog.engines.filelog.log import wal
from manifestlog.engines.filelog.recovery import quarantine, repair
from manifestlog.files import disk as disk_module, system as system_module
from manifestlog.stages import workspace

from .disk import SimDisk
from .kernel import Crash, Killed, Process
from .syscalls import Syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.open_managers import OpenManagers

T = TypeVar("T")

_COLLECT_EVERY = 500
_NS = 1_000_000_000


class Machine(Syscalls):
    """The kernel with a power button, a clock and dice."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(0)
        self._boots = 0

    def boot(self, disk: SimDisk, seed: int = 0) -> Process:
        """Start with this disk (it is used, not copied), no hooks, and one process that runs. Gives that process."""
        self.power_off()
        self._boots += 1
        if self._boots % _COLLECT_EVERY == 0:
            gc.collect()
        disk.boots += 1
        self.disk = disk
        self.off = False
        self.calls = 0
        self.random = random.Random(f"{seed} {disk.boots}")
        self.processes = []
        self.before = self.after = self.switch = None
        self.current = self.spawn()
        return self.current

    def spawn(self) -> Process:
        """A new process, not running yet. Process numbers repeat after a boot only after hundreds."""
        process = Process(self.disk.boots % 90 * 100 + 1000 + len(self.processes))
        self.processes.append(process)
        return process

    @contextmanager
    def running(self, process: Process) -> Iterator[Process]:
        """Let this process run for a while, and then the one before it."""
        before, self.current = self.current, process
        try:
            yield process
        finally:
            self.current = before

    def kill(self, process: Process) -> None:
        """SIGKILL; from a hook, of the running process, raise `Killed` instead (this does)."""
        self.end(process)
        if process is self.current:
            raise Killed

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Run until it returns or the machine crashes (None)."""
        try:
            return action()
        except Crash:
            return None

    # -- clock and dice: in the place of `time`, `secrets`, and `datetime` where it tells the time -----------------------

    def _tick(self) -> int:
        self.disk.clock_ns += 1
        return self.disk.clock_ns

    def time_ns(self) -> int:
        return self._tick()

    def monotonic(self) -> float:
        return self._tick() / _NS

    time = perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        """Advance the clock; others may run."""
        self._enter("sleep", (seconds,))
        self.disk.clock_ns += int(seconds * _NS)

    def now(self, zone: dt.tzinfo) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._tick() / _NS, zone)

    fromisoformat = staticmethod(dt.datetime.fromisoformat)
    fromtimestamp = staticmethod(dt.datetime.fromtimestamp)

    def token_hex(self, count: int) -> str:
        return self.random.randbytes(count).hex()

    def randbits(self, count: int) -> int:
        return self.random.getrandbits(count)

    def randbelow(self, limit: int) -> int:
        return self.random.randrange(limit)

    def this_process(self) -> dict[str, Any]:
        """What a run says of the process that begins it."""
        assert self.current is not None
        return {"host": "simulated", "pid": self.current.pid, "user": "etl"}

    # -- in the place of filelock's two functions ------------------------------------------------------------------------

    def lock_descriptor(self, fd: int, *, blocking: bool) -> bool:
        assert not blocking
        try:
            self.flock(fd, self.fcntl_module.LOCK_EX | self.fcntl_module.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock_descriptor(self, fd: int) -> None:
        self.flock(fd, self.fcntl_module.LOCK_UN)


class _Managers:
    """In the place of the registry: that of the running process."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        process = self._machine.current
        assert process is not None
        registry: OpenManagers = process.registry
        return getattr(registry, name)


def _places(machine: Machine) -> list[tuple[Any, str, Any]]:
    assert vars(lock)["lock_descriptor"] is filelock.lock_descriptor, "a simulation runs already"
    return [
        (disk_module, "os", machine),
        (disk_module, "fcntl", machine.fcntl_module),
        (disk_module, "mmap", machine.mmap_module),
        (system_module, "os", machine),
        (system_module, "open", machine.open_text),
        (
            disk_module,
            "yield_gil",
            lambda: None,
        ),  # of the real clock only: no simulated process shares a GIL with another
        (lock, "lock_descriptor", machine.lock_descriptor),
        (lock, "unlock_descriptor", machine.unlock_descriptor),
        (lock, "time", machine),
        (session, "os", machine),
        (session, "time", machine),
        (compactor, "time", machine),
        (trigger, "datetime", machine),
        (background, "datetime", machine),
        (repair, "datetime", machine),
        (quarantine, "datetime", machine),
        (quarantine, "secrets", machine),
        (names, "os", machine),
        (names, "secrets", machine),
        (run, "datetime", machine),
        (run, "secrets", machine),
        (run, "time", machine),
        (run, "this_process", machine.this_process),
        (wal, "secrets", machine),
        (loading, "os", machine),
        (loading, "secrets", machine),
        (writing, "secrets", machine),
        (workspace, "secrets", machine),
        (manager, "open_managers", _Managers(machine)),
    ]


@contextmanager
def simulated(disk: SimDisk | None = None, *, quiet: bool = True) -> Iterator[Machine]:
    """Put a simulated machine under the engine until the end of the block; with `disk`, booted.

    `quiet` switches off the engine's log, which costs more than the calls that it tells of.
    """
    machine = Machine()
    log = logging.getLogger("manifestlog")
    level, collecting = log.level, gc.isenabled()
    with ExitStack() as patches:
        for owner, name, value in _places(machine):
            patches.enter_context(mock.patch.object(owner, name, value, create=name == "open"))
        if quiet:
            log.setLevel(logging.CRITICAL + 1)
        gc.freeze()  # what was there before costs the collections below nothing
        gc.disable()
        try:
            if disk is not None:
                machine.boot(disk)
            yield machine
        finally:
            machine.power_off()
            machine.processes, machine.current = [], None
            gc.collect()  # while a late `__del__` still closes nothing real
            gc.unfreeze()
            if collecting:
                gc.enable()
            log.setLevel(level)
