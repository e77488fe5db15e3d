"""Eight writers, a compactor and two readers on one manifest, all at once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, Verdict
from support.children import children
from support.integrity import checked, load_canonical
from support.records import MANUAL, NAME, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.children import Link

WRITERS = 8
ADDS = 1_000
SHIFT = 250
"""Each writer adds `ADDS` numbers, beginning `SHIFT` behind the one before it: most are added by four writers."""

NUMBERS = {w * SHIFT + n for w in range(WRITERS) for n in range(ADDS)}


@dataclass
class Outcome:
    """What everybody saw."""

    canonical: Path
    verdicts: list[list[tuple[int, Verdict]]]
    compactions: Counter[str]
    readers: list[Reader]


@dataclass
class Reader:
    """What one reader saw: how often it looked, and everything that went back in time."""

    looks: int
    relapses: list[str]


def write(link: Link, path: Path, writer: int) -> list[tuple[int, Verdict]]:
    numbers = list(range(writer * SHIFT, writer * SHIFT + ADDS))
    random.Random(writer).shuffle(numbers)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        link.send("ready")
        link.recv()
        # Two neighbours share a source, so that some of the winners are `changed`.
        return [(n, manifest.add(make_record(n, source=f"source-{n // 2}")).verdict) for n in numbers]


def compact(link: Link, path: Path) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        link.send("ready")
        link.recv()
        while not link.poll():
            outcomes[manifest.compact().outcome] += 1
    return outcomes


def read(link: Link, path: Path, seed: int) -> Reader:
    chance = random.Random(seed)
    seen: list[str] = []
    known: set[str] = set()
    found = Reader(0, [])
    length = 0
    with DownloadManifestManager(path, options=MANUAL, read_only=True) as manifest:
        link.send("ready")
        link.recv()
        while not link.poll():
            found.looks += 1
            length, before = len(manifest), length
            if length < before:
                found.relapses.append(f"len went from {before} to {length}")
            found.relapses += (
                [f"{key} is gone" for key in chance.choices(seen, k=20) if key not in manifest] if seen else []
            )
            if found.looks % 20 == 0:
                now = set(manifest)
                found.relapses += [f"{key} is no longer listed" for key in known - now]
                seen += now - known
                known |= now
    return found


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """One run of everybody, over when the writers are done."""
    with checked(tmp_path_factory.mktemp("sharing") / "manifests") as directory, children() as start:
        path = directory / NAME
        DownloadManifestManager(path, metadata(), options=MANUAL).close()
        writers = [start(write, path, number) for number in range(WRITERS)]
        others = [start(compact, path), start(read, path, 1), start(read, path, 2)]
        for child in (*writers, *others):
            assert child.receive() == "ready"
        for child in (*others, *writers):
            child.send("go")
        verdicts = [child.result() for child in writers]
        for child in others:
            child.send("stop")
        compactions, *readers = [child.result() for child in others]
        yield Outcome(path, verdicts, compactions, readers)


@pytest.fixture(scope="module")
def stored(outcome: Outcome) -> list[str]:
    with DownloadManifestManager(outcome.canonical, read_only=True) as manifest:
        return list(manifest)


def test_nothing_is_lost(stored: list[str]) -> None:
    """Everything that anybody added is there."""
    assert {checksum(n) for n in NUMBERS} - set(stored) == set()


def test_nothing_is_there_twice(stored: list[str]) -> None:
    """Every checksum is listed once."""
    assert len(stored) == len(set(stored))


def test_only_added_records_are_there(stored: list[str]) -> None:
    """There are no other records."""
    assert set(stored) - {checksum(n) for n in NUMBERS} == set()


def test_every_checksum_has_exactly_one_winner(outcome: Outcome) -> None:
    """Over all processes, one add of each checksum was told that it was not there."""
    wins = Counter(n for one in outcome.verdicts for n, verdict in one if verdict in (Verdict.NEW, Verdict.CHANGED))
    assert wins == Counter(NUMBERS)


def test_every_writer_but_the_winner_gets_duplicate(outcome: Outcome) -> None:
    """The other verdicts do not appear."""
    told = Counter(verdict for one in outcome.verdicts for _, verdict in one)
    assert told[Verdict.DUPLICATE] == WRITERS * ADDS - len(NUMBERS)


def test_every_source_has_one_new_content(outcome: Outcome) -> None:
    """Of the two contents of a source the first is `new`, the second `changed`."""
    fresh = Counter(n // 2 for one in outcome.verdicts for n, verdict in one if verdict is Verdict.NEW)
    assert fresh == Counter({n // 2 for n in NUMBERS})


def test_compactions_succeed_beside_the_writers(outcome: Outcome) -> None:
    """The compactor got something done while they wrote."""
    assert outcome.compactions["compacted"] > 1


def test_readers_never_go_back_in_time(outcome: Outcome) -> None:
    """For a reader the manifest only grows, and what was seen once stays seen."""
    assert [reader.relapses for reader in outcome.readers] == [[], []]


def test_readers_read_during_the_whole_run(outcome: Outcome) -> None:
    """The check above is no empty one."""
    assert min(reader.looks for reader in outcome.readers) > 50


def test_the_canonical_holds_everything_after_a_save(outcome: Outcome) -> None:
    """A save at the end brings every record into the plain JSON file."""
    with DownloadManifestManager(outcome.canonical, options=MANUAL) as manifest:
        manifest.save()
    assert set(load_canonical(outcome.canonical)["records"]) == {checksum(n) for n in NUMBERS}
