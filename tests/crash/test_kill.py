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
from support.records import MANUAL, NAME, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.children import Link, Start

WRITERS = 2
ROUND_NUMBERS = 100_000
BATCH = 5


@dataclass
class Outcome:
    """What was wrong in each round, and what the watcher saw."""

    seed: int
    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    halves: list[str] = field(default_factory=list)
    acknowledged: int = 0
    torn_off: int = 0
    watched: int = 0
    invalid: list[str] = field(default_factory=list)
    final: set[str] = field(default_factory=set)
    saved: set[str] = field(default_factory=set)


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
        child.link.poll(chance.uniform(0, 0.04))  # a pause that a child's failure ends
        child.kill()
        child.join()


def _judge(path: Path, oracles: list[Path], outcome: Outcome, round_name: str) -> None:
    with DownloadManifestManager(path, read_only=True) as manifest:
        there = set(manifest)
    for oracle in oracles:
        for words in map(str.split, oracle.read_text().splitlines()):
            found = {checksum(n) in there for n in range(int(words[1]), int(words[1]) + int(words[2]))}
            if words[0] == "ok":
                outcome.acknowledged += 1
                outcome.lost += [f"{round_name}: {words}"] * (found != {True})
            outcome.halves += [f"{round_name}: {words}"] * (len(found) > 1)
            outcome.torn_off += words[0] == "try" and found == {False}


def run(path: Path, scratch: Path, rounds: int, seed: int) -> Outcome:
    """That many rounds of writing and killing."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    outcome = Outcome(seed)
    DownloadManifestManager(path, metadata(), options=MANUAL).close()
    oracles = [scratch / f"oracle-{number}" for number in range(WRITERS)]
    tried: set[str] = set()
    acknowledged: set[str] = set()
    with children() as start:
        watcher = start(watch, path)
        for number in range(rounds):
            with children() as start_one:
                _round(start_one, path, oracles, number, chance)
            _judge(path, oracles, outcome, f"seed {seed}, round {number}")
            for oracle in oracles:
                for word, start_at, count in map(str.split, oracle.read_text().splitlines()):
                    names = {checksum(n) for n in range(int(start_at), int(start_at) + int(count))}
                    (tried if word == "try" else acknowledged).update(names)
        watcher.send("stop")
        outcome.watched, outcome.invalid = watcher.result()
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.save()
        outcome.final = set(manifest)
    outcome.saved = set(load_canonical(path)["records"])
    outcome.lost += [f"at the end: {key}" for key in acknowledged - outcome.final]
    outcome.invented = sorted(outcome.final - tried)
    return outcome


@pytest.fixture(
    scope="module", params=[pytest.param(40, id="40 rounds"), pytest.param(200, id="200 rounds", marks=pytest.mark.slow)]
)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    scratch = tmp_path_factory.mktemp("kill")
    seed = int(os.environ.get("MANIFESTLOG_TEST_SEED", "20240101"))
    with checked(scratch / "manifests") as directory:
        yield run(directory / NAME, scratch, request.param, seed)


def test_every_acknowledged_record_is_there(outcome: Outcome) -> None:
    """What `add` returned for is there after the kill, and still there at the end."""
    assert outcome.lost == []


def test_writers_got_something_acknowledged(outcome: Outcome) -> None:
    """The check above is no empty one."""
    assert outcome.acknowledged > 500


def test_no_batch_is_there_by_half(outcome: Outcome) -> None:
    """A batch that a kill interrupted is there whole or not at all."""
    assert outcome.halves == []


def test_nothing_is_there_that_nobody_tried_to_add(outcome: Outcome) -> None:
    """No record comes from anywhere else."""
    assert outcome.invented == []


def test_the_canonical_is_valid_at_every_instant(outcome: Outcome) -> None:
    """Whoever reads the plain file finds complete JSON that never loses a record."""
    assert outcome.invalid == []


def test_the_canonical_was_watched(outcome: Outcome) -> None:
    """The check above is no empty one."""
    assert outcome.watched > 100


def test_a_save_after_the_kills_brings_everything_into_the_canonical(outcome: Outcome) -> None:
    """The last compaction finds nothing that it cannot merge."""
    assert outcome.saved == outcome.final
