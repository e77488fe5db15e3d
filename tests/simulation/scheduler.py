"""Many simulated processes at once, switched at every system call by a seed.

::

    machine.boot(disk)
    with Scheduler(machine, seed) as scheduler:
        scheduler.start(writer, 1)      # writer(1) runs in a process of its own
        scheduler.start(writer, 2)
        scheduler.run()                 # until all have ended; raises what one of them raised, with seed and trace

Invariants:

- The order of everything is a function of disk, bodies, hooks and seed; the same seed gives the same run, call by call.
- Processes are greenlets of one thread. One is switched away from before a call only, so what lies between two calls is
  atomic, as it is between processes that share nothing but files. A sleep is a call.
- After `run` or `__exit__` every greenlet has ended.

Not covered: threads within a process, and real memory shared by anything.
"""

from __future__ import annotations

import random
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from greenlet import getcurrent, greenlet

from . import forking
from .kernel import Crash, Killed, Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine import Machine


class StuckError(AssertionError):
    """Nobody can run (all that are left are stopped), or the run is longer than the bound."""


class Scheduler:
    """Runs bodies as processes of a booted machine.

    `stay` is how likely a process goes on at a call: 0.0 switches as often as can be, 0.9 gives long runs. `steps_max`
    bounds the calls of a run. `trace` is how many of the last calls are kept for the report.
    """

    def __init__(
        self, machine: Machine, seed: int, *, stay: float = 0.0, steps_max: int = 200_000, trace: int = 80
    ) -> None:
        self.machine = machine
        self.seed = seed
        self.random = random.Random(seed)
        self.stay = stay
        self.steps = 0
        self.steps_max = steps_max
        self._calls: deque[tuple[int, str, tuple[Any, ...], str]] = deque(maxlen=trace)
        self._greenlets: dict[Process, greenlet] = {}
        self._runnable: list[Process] = []
        self._stopped: list[Process] = []
        self._stuck: str | None = None
        self._hub: greenlet = getcurrent()
        machine.switch = self._switch
        self._unused, machine.current = machine.current, None

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self, body: Callable[..., Any], *args: Any) -> Process:
        """A process that runs `body(*args)`; its `result` is what that returns, `error` what it raises.

        The one that `boot` has made is taken first.
        """
        process, self._unused = self._unused or self.machine.spawn(), None
        return self._begin(process, body, args)

    def fork(self, body: Callable[..., Any], *args: Any, hooks: bool = True, parent: Process | None = None) -> Process:
        """Fork the running process (or `parent`, wherever it stands); the child runs `body(*args)`.

        The child finds the parent's managers as open: `open_manifest()` there gives the inherited one. With `hooks` it
        drops what it inherited at once, as after `os.fork`; without, the engine has to notice by the process number.
        """
        parent = parent or self.machine.current
        assert parent is not None

        def run() -> Any:
            if hooks:
                forking.run_hooks(child)
            return body(*args)

        child = forking.fork(self.machine, parent)
        return self._begin(child, run, ())

    def _begin(self, process: Process, body: Callable[..., Any], args: tuple[Any, ...]) -> Process:
        def run() -> None:
            try:
                process.result = body(*args)
            except Crash as crash:
                process.error = crash
            except BaseException as error:
                process.error = error
            finally:
                if process in self._runnable:
                    self._runnable.remove(process)
                self.machine.end(process)

        self._greenlets[process] = greenlet(run, self._hub)  # to where it goes when it has ended
        self._runnable.append(process)
        return process

    def kill(self, process: Process) -> None:
        """SIGKILL, at whichever call it stands; of the running process this raises `Killed`."""
        self.machine.end(process)
        for group in (self._runnable, self._stopped):
            if process in group:
                group.remove(process)
        if process is self.machine.current:
            raise Killed
        self._unwind(process)

    def _unwind(self, process: Process) -> None:
        one = self._greenlets[process]
        if not one.dead:
            with self.machine.running(process), suppress(Crash):  # one that has not begun lets it through
                one.parent = getcurrent()
                one.throw(Crash)

    def stop(self, process: Process) -> None:
        """SIGSTOP of another process: it stays where it is, with all its locks, until `resume`."""
        assert process is not self.machine.current
        self._runnable.remove(process)
        self._stopped.append(process)

    def resume(self, process: Process) -> None:
        """SIGCONT."""
        self._stopped.remove(process)
        self._runnable.append(process)

    def is_running(self, process: Process) -> bool:
        """Whether it has begun or may begin, and is neither stopped nor at its end."""
        return process in self._runnable

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until every process has ended, or the machine has crashed (then `machine.off`).

        Raises the first error of a process, and `StuckError`; seed and last calls are its notes.
        """
        machine = self.machine
        while self._runnable and not machine.off and self._stuck is None:
            process = self._runnable[self.random.randrange(len(self._runnable))]
            machine.current = process
            self._greenlets[process].switch()
        machine.current = None
        if self._stopped and not machine.off and self._stuck is None:
            self._stuck = f"nobody can run; stopped: {self._stopped}"
        self.close()
        if self._stuck is not None:
            raise self._noted(StuckError(self._stuck))
        for process in self._greenlets:
            if process.error is not None and not isinstance(process.error, Crash):
                raise self._noted(process.error)

    def _noted(self, error: BaseException) -> BaseException:
        error.add_note(f"seed {self.seed}, {self.steps} calls; the last:\n" + "\n".join(self.calls()))
        return error

    def calls(self) -> list[str]:
        """The last calls, in the order in which they happened."""
        return [f"{pid} {name} {place} {_short(args)}" for pid, name, args, place in self._calls]

    def _switch(self, name: str, args: tuple[Any, ...]) -> None:
        machine, runnable = self.machine, self._runnable
        process = machine.current
        assert process is not None
        self.steps += 1
        if self.steps > self.steps_max:
            self._stuck = f"no end after {self.steps_max} calls"
            machine.power_off()
            return
        if len(runnable) > 1 and (self.stay == 0.0 or self.random.random() >= self.stay):
            target = runnable[int(self.random.random() * len(runnable))]
            if target is not process:
                machine.current = target
                self._greenlets[target].switch()
        found = process.fds.get(args[0]) if args else None
        self._calls.append((process.pid, name, args, found.path if found is not None else ""))

    def close(self) -> None:
        """End what still runs, as a power cut would."""
        if any(not one.dead for one in self._greenlets.values()):
            self.machine.power_off()
            for process in self._greenlets:
                self._unwind(process)
        self._runnable.clear()
        self._stopped.clear()
        self.machine.switch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _short(args: tuple[Any, ...]) -> str:
    return ", ".join(f"{len(a)} bytes" if isinstance(a, bytes | memoryview) else str(a) for a in args)
