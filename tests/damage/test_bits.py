"""Every bit of every byte of every kind of file, flipped: it is found, or it changes no answer.

What a test says for each byte's one bit, `test_every_bit…` says for all eight.
"""

from __future__ import annotations

import random
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
KINDS = (CANONICAL, SEALED, FENCED, ACTIVE, INDEX)
PARTS = 4
"""A test takes every fourth byte of a file: none runs for long on a busy machine, and several workers share them."""
QUICK_PARTS = 2
"""Of these, which `make test` runs."""


def _bits(data: bytes, part: int, *, every: bool) -> Iterator[tuple[int, int, bytes]]:
    """(offset, bit, the bytes with that bit flipped): all eight bits of a byte, or one by chance."""
    chance = random.Random(SEED + part)
    for at in range(part, len(data), PARTS):
        for bit in range(8) if every else [chance.randrange(8)]:
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            yield at, bit, bytes(flipped)


def _cases(ground: Ground, oracle: Oracle, kind: str, part: int, *, every: bool) -> Iterator[Case]:
    data = ground.files[ground.corpus.named[kind]]
    for at, bit, flipped in _bits(data, part, every=every):
        yield case_of(ground, oracle, kind, flipped, f"byte {at}, bit {bit}")


def _check_outcomes(kind: str, outcomes: dict[str, int]) -> None:
    """Some files have but one way to come out. What a reader may not see in a canonical, no writer merges."""
    if kind == INDEX:
        assert set(outcomes) == {"answered"}
    elif kind == SEALED:
        assert set(outcomes) == {"refused"}
    elif kind == CANONICAL:
        assert "answered" not in outcomes


@pytest.mark.parametrize("part", range(QUICK_PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_of_every_other_byte(ground: Ground, oracle: Oracle, run: Run, kind: str, part: int) -> None:
    """Each is read, and one in twenty is written to as well."""
    run(_cases(ground, oracle, kind, part, every=False), counted=FLIPS, write_every=20)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_of_every_byte(ground: Ground, oracle: Oracle, run: Run, kind: str, part: int) -> None:
    _check_outcomes(kind, run(_cases(ground, oracle, kind, part, every=True), counted=FLIPS))


def _unindexed(ground: Ground, part: int, *, every: bool, touched: bool) -> Iterator[Case]:
    """The canonical read in full, as there is no index that fits it."""
    name, active, index = (ground.corpus.named[kind] for kind in (CANONICAL, ACTIVE, INDEX))
    others = {n: data for n, data in ground.files.items() if touched or n != index}
    for at, bit, data in _bits(ground.files[name], part, every=every):
        # With another birth in it, the canonical and the log accuse each other.
        yield Case(f"{name}, byte {at}, bit {bit}", others | {name: data}, (None,), (name, active), touched)


@pytest.mark.parametrize("touched", [True, False], ids=["index stale", "no index"])
def test_without_an_index_some_bits_of_the_canonical_are_refused(ground: Ground, run: Run, touched: bool) -> None:
    run(_unindexed(ground, 0, every=False, touched=touched), counted=FLIPS, write_every=0)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("touched", [True, False], ids=["index stale", "no index"])
def test_without_an_index_every_bit_of_the_canonical_is_refused(
    ground: Ground, run: Run, touched: bool, part: int
) -> None:
    run(_unindexed(ground, part, every=True, touched=touched), counted=FLIPS)
