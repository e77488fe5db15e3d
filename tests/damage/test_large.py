"""The same with a manifest of some thousand records: an index of many buckets, segments of many lines; by chance, not all."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from contract.builders import META, files_of, segments_of
from manifestlog import DownloadManifestManager
from support.records import make_record

from .corpus import ACTIVE, CANONICAL, INDEX, NAME, SEALED, SYNCED, TORN, Corpus
from .ground import Case, Ground, fast_directory
from .model import History

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .model import Answers

pytestmark = pytest.mark.slow

SEED = 20_260_104
FLIPS = 40
RECORDS = 3000
ADDED = 400


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    path = tmp_path_factory.mktemp("large") / "made" / NAME
    options = replace(SYNCED, segment_bytes_max=150_000)
    with DownloadManifestManager(path, META, options=options) as manager:
        manager.add_many(make_record(number) for number in range(RECORDS))
        manager.save()
        for number in range(RECORDS - ADDED // 2, RECORDS + ADDED // 2):
            manager.add(make_record(number, source=f"again-{number % 50}"))
    names = [segment.name for segment in segments_of(path.parent)]
    assert len(names) == 2
    named = dict(zip((CANONICAL, INDEX, SEALED, ACTIVE), (NAME, NAME.replace(".json", ".idx"), *names), strict=True))
    with fast_directory(tmp_path_factory.mktemp("ground")) as directory:
        yield Ground(directory, Corpus(files_of(path.parent), named, {}))


@pytest.fixture(scope="module")
def sound(large: Ground) -> Answers:
    named = large.corpus.named
    lines = [line for kind in (SEALED, ACTIVE) for line in large.files[named[kind]].splitlines()]
    return History(large.files[NAME]).take(lines).answers()


def test_a_large_manifest_answers_what_its_files_say(large: Ground, sound: Answers) -> None:
    assert large.judge(Case("sound", large.files, (sound,))) == "answered"


def test_a_large_manifest_with_a_torn_tail(large: Ground, sound: Answers) -> None:
    active = large.corpus.named[ACTIVE]
    files = large.files | {active: large.files[active] + TORN}
    assert large.judge(Case("torn", files, (sound,)), write=False) == "answered"


def _flips(large: Ground, sound: Answers, kind: str) -> Iterator[Case]:
    chance = random.Random(SEED)
    name = large.corpus.named[kind]
    data = large.files[name]
    # The last line of the active segment is the only one that no later line calls synced.
    end = data[:-1].rfind(b"\n") if kind == ACTIVE else len(data)
    allowed: dict[str, tuple[Answers | None, ...]] = {INDEX: (sound,), CANONICAL: (None, sound)}
    for _ in range(FLIPS):
        flipped = bytearray(data)
        at, bit = chance.randrange(end), chance.randrange(8)
        flipped[at] ^= 1 << bit
        yield Case(f"{name}, byte {at}, bit {bit}", large.files | {name: bytes(flipped)}, allowed.get(kind, (None,)))


@pytest.mark.parametrize("kind", [CANONICAL, INDEX, SEALED, ACTIVE])
def test_bits_of_a_large_manifest(large: Ground, sound: Answers, count: Count, kind: str) -> None:
    for number, case in enumerate(_flips(large, sound, kind)):
        large.judge(case, write=number % 8 == 0)
        count("bit flips")
