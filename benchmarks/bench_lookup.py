"""What a question costs, while others write and while nobody does; and how soon another process sees what was added.

Each peer has two processes: one opens the manifest once and asks, the other adds at a modest, steady rate through the
same peer (or keeps silent). Questions go round a random choice of records for a fixed time, so the figure is the mean of
many thousands, following what was added meanwhile included. Every answer is as fresh as at the moment of the question:
a new read transaction, a look at the file.

`refresh` is asked in turns: one process adds a record and is acknowledged, then the other asks for it (it must be
there), and asks again when nothing has changed. RocksDB has but one process: it is asked only while nobody writes.
"""

from __future__ import annotations

import gc
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement
from benchmarks.writers import Writers, built

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    Pipe = Connection[Any, Any]

ADDS_PER_S = 200
QUIET, BUSY = "nobody", f"{ADDS_PER_S} adds/s"
HIT, MISS, GET = "has_checksum, known", "has_checksum, unknown", "get_record_by_source, hydrated"
ADDED, UNCHANGED = "has_checksum, first after another process's add", "has_checksum, nothing has changed"
_QUESTIONS = (HIT, MISS, GET)
_ASKED = 10_000
_CHUNK = 200
_COMPARED = 500
_ADDED_FROM = 500_000_000
"""Numbers of records that no other benchmark adds."""


@dataclass(slots=True)
class Entrant:
    """A peer with its two processes and what it has been measured at: µs a question."""

    name: str
    directory: Path
    reader: int
    writer: int | None
    next_number: int = _ADDED_FROM
    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    digests: dict[tuple[str, str], str] = field(default_factory=dict)


# -- in the processes --------------------------------------------------------------------------------------------------


def _questions(size: int) -> dict[str, list[tuple[str, ...]]]:
    """What is asked for: the same of every peer."""
    chosen = random.Random(f"{harness.SEED}/{size}").choices(range(size), k=min(size, _ASKED))
    known = [harness.make_record(number).checksum for number in chosen]
    sources = [harness.source_of(number) for number in chosen]
    return {
        HIT: [(checksum,) for checksum in known],
        MISS: [(checksum[::-1],) for checksum in known],
        GET: [(source_id, dataset) for dataset, source_id in sources],
    }


def _timed(call: Callable[..., object], asked: list[tuple[str, ...]], seconds: float) -> float:
    """Microseconds a call, asking round and round."""
    chunks = [asked[start : start + _CHUNK] for start in range(0, len(asked), _CHUNK)]
    calls = turn = 0
    now = time.perf_counter
    began = now()
    while (passed := now() - began) < seconds:
        chunk = chunks[turn % len(chunks)]
        deque(starmap(call, chunk), maxlen=0)
        calls += len(chunk)
        turn += 1
    return 1e6 * passed / calls


def _answer(given: object) -> object:
    return given if isinstance(given, bool) or given is None else peers.fields(given)  # type: ignore[arg-type]


def _reader(pipe: Pipe, name: str, directory: Path, size: int) -> str:
    """Opens, and then: (question, seconds) gives microseconds and a digest; (checksum,) gives two times of one."""
    asked = _questions(size)
    opened = peers.load(name).open(directory, peers.PROCESS_KILL, shared=not peers.load(name).one_process)
    calls: dict[str, Callable[..., object]] = {HIT: opened.has, MISS: opened.has, GET: opened.get_by_source}
    gc.collect()
    pipe.send("ready")
    now = time.perf_counter
    while message := pipe.recv():
        if len(message) == 2:
            question, seconds = message
            call = calls[question]
            answers = [_answer(call(*one)) for one in asked[question][:_COMPARED]]
            pipe.send((_timed(call, asked[question], seconds), harness.digest_of(answers)))
        else:
            times = [now()]
            found = opened.has(*message)
            times.append(now())
            again = opened.has(*message)
            times.append(now())
            pipe.send((found and again, 1e6 * (times[1] - times[0]), 1e6 * (times[2] - times[1])))
    opened.close()
    return "closed"


def _writer(pipe: Pipe, name: str, directory: Path) -> str:
    """Opens, and then: (start, many) adds steadily from a record on until told to stop; (start,) adds one."""
    opened = peers.load(name).open(directory, peers.PROCESS_KILL, shared=True)
    pipe.send("ready")
    while message := pipe.recv():
        if len(message) == 2:
            number, _ = message
            while not pipe.poll(1 / ADDS_PER_S):
                opened.add(harness.make_record(number))
                number += 1
            pipe.recv()
            pipe.send(number)
        else:
            opened.add(harness.make_record(*message))
            pipe.send("added")
    opened.close()
    return "closed"


# -- the measuring -----------------------------------------------------------------------------------------------------


def _entrants(context: Context, size: int) -> list[Entrant]:
    entrants, processes = [], 0
    for name, directory in built(context, size).items():
        kind = peers.load(name)
        if not kind.rewrites_everything:
            writer = None if kind.one_process else processes + 1
            entrants.append(Entrant(name, directory, processes, writer))
            processes += 1 if kind.one_process else 2
    return entrants


def _open(processes: Writers, entrant: Entrant, size: int) -> None:
    processes.ask(entrant.reader, _reader, entrant.name, entrant.directory, size)
    if entrant.writer is not None:
        processes.ask(entrant.writer, _writer, entrant.name, entrant.directory)


def _close(processes: Writers, entrant: Entrant) -> None:
    for number in (entrant.reader, entrant.writer):
        if number is not None:
            processes.tell(number)
            processes.hear(number)


def _look_up(processes: Writers, entrant: Entrant, others: str, seconds: float) -> None:
    if others == BUSY:
        if entrant.writer is None:
            return
        processes.tell(entrant.writer, entrant.next_number, "many")
    for question in _QUESTIONS:
        processes.tell(entrant.reader, question, seconds)
        taken_us, digest = processes.hear(entrant.reader)
        entrant.samples.setdefault((question, others), []).append(taken_us)
        entrant.digests[question, others] = digest
    if others == BUSY and entrant.writer is not None:
        processes.tell(entrant.writer, "stop")
        entrant.next_number = processes.hear(entrant.writer)


def _refresh(processes: Writers, entrant: Entrant, count: int) -> None:
    """One sample is the mean over so many additions."""
    if entrant.writer is None:
        return
    sums = [0.0, 0.0]
    for _ in range(count):
        processes.tell(entrant.writer, entrant.next_number)
        processes.hear(entrant.writer)
        processes.tell(entrant.reader, harness.make_record(entrant.next_number).checksum)
        seen, *times = processes.hear(entrant.reader)
        if not seen:
            raise harness.DifferentAnswersError(f"{entrant.name} does not see record {entrant.next_number}")
        sums = [total + one for total, one in zip(sums, times, strict=True)]
        entrant.next_number += 1
    for question, total in zip((ADDED, UNCHANGED), sums, strict=True):
        entrant.samples.setdefault((question, BUSY), []).append(total / count)


def _results(entrants: list[Entrant], size: int) -> Iterator[Measurement]:
    for question, others in dict.fromkeys(key for one in entrants for key in one.samples):
        is_refresh = question in {ADDED, UNCHANGED}
        for entrant in entrants:
            if samples := entrant.samples.get((question, others)):
                yield Measurement(
                    table=f"refresh: {question}" if is_refresh else question,
                    case={"records": size} if is_refresh else {"beside": others, "records": size},
                    peer=entrant.name,
                    unit="µs",
                    more_is_better=False,
                    samples=samples,
                    extra={"rounds": len(samples)},
                    digest=entrant.digests.get((question, others), ""),
                    headline=True,
                )


def run(context: Context) -> Iterator[Measurement]:
    """Every size for every peer."""
    sizes = {"quick": (100, 1_000), "default": (1_000, 100_000), "full": (1_000, 10_000, 100_000, 1_000_000)}
    seconds = context.pick(10, 100, 100) / 1e3
    additions = context.pick(5, 50, 50)
    for size in sizes[context.scale]:
        entrants = _entrants(context, size)
        harness.progress(f"{size:,} records")
        with Writers(sum(1 if one.writer is None else 2 for one in entrants)) as processes:
            for entrant in entrants:
                processes.settle(entrant.name, entrant.directory)
            for entrant in entrants:
                _open(processes, entrant, size)
            for turn in range(context.rounds_or(5)):
                for entrant in harness.rotated(entrants, turn):
                    for others in (QUIET, BUSY):
                        _look_up(processes, entrant, others, seconds)
                    _refresh(processes, entrant, additions)
            for entrant in entrants:
                _close(processes, entrant)
        yield from _results(entrants, size)


WORKLOAD = harness.Workload("lookup: what a question costs, and how soon others see an addition", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
