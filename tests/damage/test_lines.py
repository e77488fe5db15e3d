"""Lines twice, missing, in another order, from another segment or another manifest."""

from __future__ import annotations

from itertools import combinations, islice
from typing import TYPE_CHECKING

import pytest

from .corpus import ACTIVE, CANONICAL, FENCED, SEALED
from .expect import case_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Run
    from .corpus import Corpus
    from .ground import Case, Ground
    from .model import Oracle

MOVED = "moved lines"
IN_LINES = (CANONICAL, SEALED, FENCED, ACTIVE)


def _within(ground: Ground, oracle: Oracle, kind: str) -> Iterator[Case]:
    """Everything that can be done with the lines of one file."""
    lines = ground.files[ground.corpus.named[kind]].splitlines(keepends=True)
    places = range(len(lines))

    def case(made: list[bytes], what: str) -> Case:
        return case_of(ground, oracle, kind, b"".join(made), what)

    for one in places:
        yield case([*lines[:one], *lines[one + 1 :]], f"line {one} gone")
        yield case([*lines[:one], lines[one].rstrip(b"\n"), *lines[one + 1 :]], f"line {one} without its newline")
        for to in (*places, len(lines)):
            yield case([*lines[:to], lines[one], *lines[to:]], f"line {one} again before line {to}")
    for one, other in combinations(places, 2):
        swapped = list(lines)
        swapped[one], swapped[other] = lines[other], lines[one]
        yield case(swapped, f"lines {one} and {other} swapped")
        yield case([*lines[:one], *lines[other:]], f"lines {one} to {other} gone")


@pytest.mark.parametrize("kind", IN_LINES)
def test_some_moves_within_one_file(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    run(islice(_within(ground, oracle, kind), 0, None, 3), counted=MOVED, write_every=12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", IN_LINES)
def test_every_move_within_one_file(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    run(_within(ground, oracle, kind), counted=MOVED)


def _foreign(ground: Ground, oracle: Oracle, kind: str, relatives: dict[str, Corpus]) -> Iterator[Case]:
    """Lines of other files put in, in a line's place or between two, and at the same offset where they fit."""
    data = ground.files[ground.corpus.named[kind]]
    lines = data.splitlines(keepends=True)
    others = {f"our {name}": ground.files[ground.corpus.named[name]] for name in IN_LINES if name != kind}
    for owner, corpus in relatives.items():
        others |= {f"the {name} of {owner}": corpus.files[corpus.named[name]] for name in IN_LINES}
    for whose, other in others.items():
        for number, line in enumerate(other.splitlines(keepends=True)):
            for at in range(len(lines)):
                what = f"line {number} of {whose}"
                for step, how in ((1, "for"), (0, "before")):
                    made = b"".join([*lines[:at], line, *lines[at + step :]])
                    yield case_of(ground, oracle, kind, made, f"{what} {how} line {at}", foreign=True)
        for offset in {0, len(lines[0]), len(data) // 2}:
            made = data[:offset] + other[offset : offset + 400] + data[offset + 400 :]
            yield case_of(ground, oracle, kind, made, f"400 bytes at {offset} from {whose}", foreign=True)


@pytest.mark.parametrize("kind", IN_LINES)
def test_some_lines_of_others(
    ground: Ground, oracle: Oracle, relatives: dict[str, Corpus], run: Run, kind: str
) -> None:
    run(islice(_foreign(ground, oracle, kind, relatives), 0, None, 17), counted=MOVED, write_every=12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", IN_LINES)
def test_every_line_of_others(
    ground: Ground, oracle: Oracle, relatives: dict[str, Corpus], run: Run, kind: str
) -> None:
    run(_foreign(ground, oracle, kind, relatives), counted=MOVED)
