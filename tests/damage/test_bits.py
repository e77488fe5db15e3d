"""Every bit of every byte of every kind of file, flipped: it is found, or it changes no answer.

What a test says for each byte's one bit, `test_every_bit…` says for all eight.
"""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from .corpus import ACTIVE, CANONICAL, FENCED, INDEX, SEALED
from .expect import case_of
from .ground import Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Run
    from .ground import Ground
    from .model import Oracle

FLIPS = "bit flips"
SEED = 20_260_101


def _bits(data: bytes, *, every: bool) -> Iterator[tuple[int, int, bytes]]:
    """(offset, bit, the bytes with that bit flipped): all eight bits of a byte, or one by chance."""
    chance = random.Random(SEED)
    for at in range(len(data)):
        for bit in range(8) if every else [chance.randrange(8)]:
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            yield at, bit, bytes(flipped)


def _cases(ground: Ground, oracle: Oracle, kind: str, *, every: bool) -> Iterator[Case]:
    name = ground.corpus.named[kind]
    for at, bit, data in _bits(ground.files[name], every=every):
        yield case_of(ground, oracle, kind, data, f"byte {at}, bit {bit}")


@pytest.mark.parametrize("kind", [CANONICAL, SEALED, FENCED, ACTIVE, INDEX])
def test_one_bit_of_every_byte(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    outcomes = run(_cases(ground, oracle, kind, every=False), counted=FLIPS, write_every=10)
    assert sum(outcomes.values()) == len(ground.files[ground.corpus.named[kind]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CANONICAL, SEALED, FENCED, ACTIVE, INDEX])
def test_every_bit_of_every_byte(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    outcomes = run(_cases(ground, oracle, kind, every=True), counted=FLIPS)
    assert sum(outcomes.values()) == 8 * len(ground.files[ground.corpus.named[kind]])


@pytest.mark.slow
def test_a_flip_in_the_canonical_is_never_merged(ground: Ground, oracle: Oracle, run: Run) -> None:
    """Even where a reader gets right answers all the time, a compaction refuses."""
    outcomes = run(_cases(ground, oracle, CANONICAL, every=False), counted=FLIPS)
    assert "answered" not in outcomes


def _unindexed(ground: Ground, *, every: bool, touched: bool, step: int = 1) -> Iterator[Case]:
    index = ground.corpus.named[INDEX]
    name, active = ground.corpus.named[CANONICAL], ground.corpus.named[ACTIVE]
    others = {n: data for n, data in ground.files.items() if touched or n != index}
    for at, bit, data in islice(_bits(ground.files[name], every=every), 0, None, step):
        # With another birth in it, the canonical and the log accuse each other.
        yield Case(f"{name}, byte {at}, bit {bit}", others | {name: data}, (None,), (name, active), touched)


@pytest.mark.parametrize("touched", [True, False], ids=["index stale", "no index"])
def test_without_an_index_one_bit_of_the_canonical_is_refused(ground: Ground, run: Run, touched: bool) -> None:
    run(_unindexed(ground, every=False, touched=touched, step=3), counted=FLIPS, write_every=0)


@pytest.mark.slow
@pytest.mark.parametrize("touched", [True, False], ids=["index stale", "no index"])
def test_without_an_index_every_bit_of_the_canonical_is_refused(ground: Ground, run: Run, touched: bool) -> None:
    run(_unindexed(ground, every=True, touched=touched), counted=FLIPS)
