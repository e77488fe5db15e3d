"""Writer processes: started once, told what to open, released together, asked what happened.

They are spawned, not forked, so that each is a process as a pipeline would start it. All sleep until one moment of the
monotonic clock, which the processes of a machine share.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks import harness, peers
from benchmarks.open_once import memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection
    from types import TracebackType

_LEAD_S = 0.03
_NS = 1e9


@dataclass(frozen=True, slots=True)
class Task:
    """What one writer adds: records `start` to `start + count` of the stream, to one manifest."""

    peer: str
    directory: Path
    durability: str
    shared: bool
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """When a writer began and ended, what each addition took, and the verdicts it was given."""

    began_ns: int
    ended_ns: int
    each_ns: list[int]
    cpu_s: float
    verdicts: list[str]
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Span:
    """All writers of one round together."""

    per_second: float
    each_us: list[float]
    cpu_us: float
    """Processor time of the writers' processes for each addition, threads included and child processes not."""
    digest: str
    reorganised: bool
    peak_mb: float
    """Of the largest writer, since it was started."""


def _serve(pipe: Connection[Any, Any]) -> None:
    """A writer's life: any number of (function, arguments) to call, None to end."""
    while (call := pipe.recv()) is not None:
        function, *arguments = call
        pipe.send(function(pipe, *arguments))


def _fill(_: Connection[Any, Any], peer: str, directory: Path, count: int) -> float:
    directory.mkdir(parents=True)
    began = time.perf_counter()
    peers.load(peer).fill(directory, harness.make_records(0, count))
    return time.perf_counter() - began


def _settle(_: Connection[Any, Any], peer: str, directory: Path) -> float:
    began = time.perf_counter()
    peers.load(peer).settle(directory)
    return time.perf_counter() - began


def _write(pipe: Connection[Any, Any], task: Task) -> str:
    opened = peers.load(task.peer).open(task.directory, task.durability, shared=task.shared)
    records = list(harness.make_records(task.start, task.count))
    gc.collect()
    pipe.send("ready")
    wait_ns = pipe.recv() - time.monotonic_ns()
    time.sleep(max(wait_ns, 0) / _NS)
    now, add, each, verdicts = time.monotonic_ns, opened.add, [], []
    cpu_s, began = time.process_time(), now()
    last = began
    for record in records:
        verdicts.append(add(record))
        done = now()
        each.append(done - last)
        last = done
    cpu_s = time.process_time() - cpu_s
    pipe.send(Answer(began, last, each, cpu_s, [str(word) for word in verdicts], memory_mb()["peak_mb"]))
    pipe.recv()
    opened.close()
    return "closed"


class Writers:
    """A set of writer processes; a context manager."""

    def __init__(self, count: int) -> None:
        """Start them."""
        self._stack = ExitStack()
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection[Any, Any]] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._stack.callback(process.join)
            self._pipes.append(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
            pipe.close()  # whoever waits for another message, after an error of ours, ends as well
        self._stack.close()

    def fill(self, jobs: list[tuple[str, Path, int]]) -> list[float]:
        """Fill manifests (peer, directory, records), one process each; gives the seconds of each."""
        used = self._pipes[: len(jobs)]
        for pipe, job in zip(used, jobs, strict=True):
            pipe.send((_fill, *job))
        return [pipe.recv() for pipe in used]

    def ask(self, number: int, function: Callable[..., Any], *arguments: object) -> Any:
        """Let one of them call a function with its pipe and these arguments; gives what the function gives or sends."""
        self.tell(number, function, *arguments)
        return self.hear(number)

    def tell(self, number: int, *message: object) -> None:
        """Send to one of them, and do not wait."""
        self._pipes[number].send(message)

    def hear(self, number: int) -> Any:
        """What it sends next."""
        return self._pipes[number].recv()

    def settle(self, peer: str, directory: Path) -> float:
        """Let the peer finish what earlier writers left; gives the seconds."""
        self._pipes[0].send((_settle, peer, directory))
        return float(self._pipes[0].recv())

    def add(self, tasks: list[Task]) -> Span:
        """Run one task in each writer, all from the same moment."""
        used = self._pipes[: len(tasks)]
        for pipe, task in zip(used, tasks, strict=True):
            pipe.send((_write, task))
        for pipe in used:
            pipe.recv()
        kind = peers.load(tasks[0].peer)
        before = kind.reorganised(tasks[0].directory)
        moment = time.monotonic_ns() + int(_LEAD_S * _NS)
        for pipe in used:
            pipe.send(moment)
        answers: list[Answer] = [pipe.recv() for pipe in used]
        after = kind.reorganised(tasks[0].directory)
        for pipe in used:  # nobody closes while another is still being timed
            pipe.send("close")
        for pipe in used:
            pipe.recv()
        seconds = (max(a.ended_ns for a in answers) - min(a.began_ns for a in answers)) / _NS
        return Span(
            per_second=sum(len(a.each_ns) for a in answers) / seconds,
            each_us=[ns / 1e3 for a in answers for ns in a.each_ns],
            cpu_us=1e6 * sum(a.cpu_s for a in answers) / sum(len(a.each_ns) for a in answers),
            digest=harness.digest_of(answer.verdicts for answer in answers),
            reorganised=after != before,
            peak_mb=max(answer.peak_mb for answer in answers),
        )


def built(context: harness.Context, size: int, names: Iterable[str] | None = None) -> dict[str, Path]:
    """A manifest of `size` records for each peer (of `names`) that can have so many, built side by side when first wanted."""
    places = {}
    for name in context.peers if names is None else names:
        most = peers.load(name).records_max
        if most is None or size <= most:
            places[name] = context.directory / f"{size}-{list(peers.PEERS).index(name)}"
    missing = [(name, place, size) for name, place in places.items() if not place.exists()]
    if missing:
        with Writers(len(missing)) as writers:
            seconds = writers.fill(missing)
        took = ", ".join(f"{job[0]} {s:.1f} s" for job, s in zip(missing, seconds, strict=True))
        harness.progress(f"built manifests of {size:,} records: {took}")
    return places
