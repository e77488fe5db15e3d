"""`kill -9` at random moments of writers and compactor, over and over on one manifest."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from support.children import children
from support.integrity import checked, load_canonical
from support.records import MANUAL, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.children import Link, Start

WRITERS = 2
ROUND_NUMBERS = 100_000
BATCH = 5
EPOCH = 20
SAVE_EVERY = 5


@dataclass
class Outcome:
    """What was wrong in each round, and what the watcher saw."""

    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    halves: list[str] = field(default_factory=list)
    acknowledged: int = 0
    watched: int = 0
    invalid: list[str] = field(default_factory=list)
    unsaved: list[str] = field(default_factory=list)


def write(link: Link, path: Path, oracle: Path, first: int) -> None:
    """Add until killed; the oracle says of each write that it begins, then that it was acknowledged."""
    with DownloadManifestManager(path, options=MANUAL) as manifest, oracle.open("wb", buffering=0) as said:
        link.send("ready")
        number = first
        while True:
            count = BATCH if number % 3 == 0 else 1
            said.write(b"try %d %d\n" % (number, count))
            if count > 1:
                manifest.add_many([make_record(n) for n in range(number, number + count)])
            else:
                manifest.add(make_record(number))
            said.write(b"ok %d %d\n" % (number, count))
            number += count


def compact(link: Link, path: Path) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        link.send("ready")
        while True:
            manifest.compact()


def watch(link: Link, path: Path) -> tuple[int, list[str]]:
    """Read the canonical with nothing but `json`, again and again."""
    looks = records = 0
    invalid = []
    while not link.poll():
        looks += 1
        try:
            total = len(load_canonical(path)["records"])
            if total < records:
                invalid.append(f"look {looks}: {records} records became {total}")
            records = total
        except (OSError, ValueError, AssertionError) as error:
            invalid.append(f"look {looks}: {error!r}")
    return looks, invalid


def _round(start: Start, path: Path, oracles: list[Path], number: int, chance: random.Random) -> None:
    first = number * ROUND_NUMBERS
    writers = [start(write, path, oracle, first + w * ROUND_NUMBERS // WRITERS) for w, oracle in enumerate(oracles)]
    busy = [*writers, start(compact, path)]
    for child in busy:
        child.receive()
    chance.shuffle(busy)
    for child in busy:
        child.link.poll(chance.uniform(0, 0.03))  # a pause that a child's failure ends
        child.kill()
        child.join()


def _judge(path: Path, oracles: list[Path], outcome: Outcome, round_name: str) -> None:
    with DownloadManifestManager(path, read_only=True) as manifest:
        there = set(manifest)
    for word, names in _oracle(oracles):
        found = {name in there for name in names}
        if word == "ok":
            outcome.acknowledged += len(names)
            outcome.lost += [f"{round_name}: {names}"] * (found != {True})
        outcome.halves += [f"{round_name}: {names}"] * (len(found) > 1)


def run(directory: Path, scratch: Path, rounds: int, seed: int) -> Outcome:
    """That many rounds of writing and killing, on a new manifest every `EPOCH` rounds, so that none grows large."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    outcome = Outcome()
    for epoch in range(rounds // EPOCH):
        _epoch(directory / f"epoch-{epoch}_download.manifest.json", scratch, outcome, chance)
    return outcome


def _epoch(path: Path, scratch: Path, outcome: Outcome, chance: random.Random) -> None:
    DownloadManifestManager(path, metadata(), options=MANUAL).close()
    oracles = [scratch / f"{path.name}-oracle-{number}" for number in range(WRITERS)]
    tried: set[str] = set()
    acknowledged: set[str] = set()
    with children() as start:
        watcher = start(watch, path)
        for number in range(EPOCH):
            with children() as start_one:
                _round(start_one, path, oracles, number, chance)
            _judge(path, oracles, outcome, f"{path.name}, round {number}")
            for word, names in _oracle(oracles):
                (tried if word == "try" else acknowledged).update(names)
            if number % SAVE_EVERY == SAVE_EVERY - 1:
                _save(path)  # else the log outgrows what a compactor merges before it is killed
        watcher.send("stop")
        looks, invalid = watcher.result()
    final = _save(path)
    outcome.watched += looks
    outcome.invalid += invalid
    outcome.lost += [f"{path.name} at the end: {key}" for key in acknowledged - final]
    outcome.invented += sorted(final - tried)
    outcome.unsaved += sorted(final ^ set(load_canonical(path)["records"]))


def _save(path: Path) -> set[str]:
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.save()
        return set(manifest)


def _oracle(oracles: list[Path]) -> Iterator[tuple[str, list[str]]]:
    """What the writers said: `try` or `ok`, and the checksums."""
    for oracle in oracles:
        for word, first, count in map(str.split, oracle.read_text().splitlines()):
            yield word, [checksum(n) for n in range(int(first), int(first) + int(count))]


@pytest.fixture(
    scope="module",
    params=[pytest.param(20, id="20 rounds"), pytest.param(200, id="200 rounds", marks=pytest.mark.slow)],
)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    scratch = tmp_path_factory.mktemp("kill")
    seed = int(os.environ.get("MANIFESTLOG_TEST_SEED", "20240101"))
    with checked(scratch / "manifests") as directory:
        yield run(directory, scratch, request.param, seed)


def test_every_acknowledged_record_is_there(outcome: Outcome) -> None:
    """What `add` returned for is there after the kill, and still there at the end."""
    assert outcome.lost == []


def test_writers_got_something_acknowledged(outcome: Outcome) -> None:
    """The check above is no empty one."""
    assert outcome.acknowledged > 500


def test_no_batch_is_there_in_part(outcome: Outcome) -> None:
    """A batch that a kill interrupted is there whole or not at all."""
    assert outcome.halves == []


def test_only_added_records_are_there(outcome: Outcome) -> None:
    """No record comes from anywhere else."""
    assert outcome.invented == []


def test_the_canonical_is_valid_at_every_instant(outcome: Outcome) -> None:
    """Whoever reads the plain file finds complete JSON that never loses a record."""
    assert outcome.invalid == []


def test_the_canonical_was_watched(outcome: Outcome) -> None:
    """The check above is no empty one."""
    assert outcome.watched > 100


def test_after_the_kills_a_save_moves_everything_into_the_canonical(outcome: Outcome) -> None:
    """The last compaction finds nothing that it cannot merge."""
    assert outcome.unsaved == []
