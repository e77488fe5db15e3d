"""More than a bit: cut at every length, ranges overwritten, something appended, and several of that at once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from .corpus import ACTIVE, CANONICAL, KINDS, SEALED, lines_of
from .expect import allowed_of, case_of
from .ground import Case

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .conftest import Run
    from .corpus import Corpus
    from .ground import Ground
    from .model import Answers, Oracle

SEED = 20_260_102
FILLERS = (b"\0", b"\xff", b" ", b"\n", b"a")
RANGES = 60
RANGES_SLOW = 1500
MIXES = 150
MIXES_SLOW = 6000


# -- cut ---------------------------------------------------------------------------------------------------------------


def _cuts(ground: Ground, oracle: Oracle, kind: str, lengths: Iterable[int]) -> Iterator[Case]:
    data = ground.files[ground.corpus.named[kind]]
    for length in lengths:
        yield case_of(ground, oracle, kind, data[:length], f"cut to {length} bytes")


def _some_lengths(data: bytes) -> list[int]:
    """The ends of lines and their neighbours, and some others."""
    ends = [offset + len(line) for offset, line in lines_of(data)]
    near = {end + more for end in ends for more in (-2, -1, 0, 1)}
    others = random.Random(SEED).sample(range(len(data)), 40)
    return sorted(length for length in {0, 1, *near, *others} if 0 <= length < len(data))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_at_some_lengths(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    lengths = _some_lengths(ground.files[ground.corpus.named[kind]])
    run(_cuts(ground, oracle, kind, lengths), counted="cuts", write_every=7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_cut_at_every_length(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    lengths = range(len(ground.files[ground.corpus.named[kind]]))
    run(_cuts(ground, oracle, kind, lengths), counted="cuts")


def test_cut_at_a_line_the_active_segment_is_an_earlier_moment(ground: Ground, oracle: Oracle, run: Run) -> None:
    """The one exception there is: nothing tells it from a crash in the weaker modes."""
    data = ground.files[ground.corpus.named[ACTIVE]]
    ends = [offset + len(line) for offset, line in oracle.active]
    outcomes = run(_cuts(ground, oracle, ACTIVE, ends), counted="cuts")
    assert outcomes == {"answered": len(ends)}
    assert [len(oracle.kept_lines(data[:end])) for end in ends] == list(range(1, len(ends) + 1))


# -- overwritten -------------------------------------------------------------------------------------------------------


def _ranges(ground: Ground, oracle: Oracle, kind: str, number: int) -> Iterator[Case]:
    data = ground.files[ground.corpus.named[kind]]
    chance = random.Random(SEED)
    for _ in range(number):
        start = chance.randrange(len(data))
        length = chance.choice([2, 10, 100, 512, len(data)])
        made = _filled(data, start, start + length, chance)
        yield case_of(ground, oracle, kind, made, f"bytes {start} to {start + length} overwritten")


def _filled(data: bytes, start: int, stop: int, chance: random.Random) -> bytes:
    stop = min(stop, len(data))
    filler = chance.choice(FILLERS) * (stop - start)
    if chance.random() < 0.2:
        filler = chance.randbytes(stop - start)
    return data[:start] + filler + data[stop:]


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_overwritten(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    run(_ranges(ground, oracle, kind, RANGES), counted="overwritten ranges", write_every=7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_ranges_overwritten(ground: Ground, oracle: Oracle, run: Run, kind: str) -> None:
    run(_ranges(ground, oracle, kind, RANGES_SLOW), counted="overwritten ranges")


def test_a_whole_line_overwritten(ground: Ground, oracle: Oracle, run: Run) -> None:
    """With whatever it is: with newlines, too, of which nothing seems to be left over."""

    def cases() -> Iterator[Case]:
        for kind in (SEALED, ACTIVE):
            data = ground.files[ground.corpus.named[kind]]
            for offset, line in lines_of(data):
                for filler in FILLERS:
                    for end in (len(line), len(line) - 1):
                        made = data[:offset] + filler * end + data[offset + end :]
                        yield case_of(ground, oracle, kind, made, f"line at {offset} overwritten with {filler!r}")

    run(cases(), counted="overwritten ranges", write_every=7)


# -- appended ----------------------------------------------------------------------------------------------------------


def _tails(ground: Ground, relatives: dict[str, Corpus]) -> Iterator[tuple[str, bytes]]:
    yield from (("a newline", b"\n"), ("blanks", b" \t "), ("junk", b"junk\n"), ("junk without an end", b"junk"))
    yield from ((f"{count} NULs", bytes(count)) for count in (1, 511, 4096))
    yield "NULs and a newline", bytes(100) + b"\n"
    yield "a megabyte of newlines", b"\n" * (1 << 20)
    for owner, files, named in [
        ("its own", ground.files, ground.corpus.named),
        *((name, other.files, other.named) for name, other in relatives.items()),
    ]:
        for kind in KINDS:
            data = files[named[kind]]
            yield f"the whole {kind} of {owner}", data
            yield f"the last line of the {kind} of {owner}", data.splitlines(keepends=True)[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_something_appended(ground: Ground, oracle: Oracle, relatives: dict[str, Corpus], run: Run, kind: str) -> None:
    data = ground.files[ground.corpus.named[kind]]
    cases = [case_of(ground, oracle, kind, data + tail, f"with {what}") for what, tail in _tails(ground, relatives)]
    run(cases, counted="appended tails", write_every=2)


# -- several at once ---------------------------------------------------------------------------------------------------


def _mixes(ground: Ground, oracle: Oracle, number: int) -> Iterator[Case]:
    """Two to four damages, in whatever files they fall."""
    chance = random.Random(SEED)
    named = ground.corpus.named
    for turn in range(number):
        files = dict(ground.files)
        for _ in range(chance.randint(2, 4)):
            name = named[chance.choice(KINDS)]
            files[name] = _damaged(files[name], chance)
        yield Case(f"mix {turn}", files, _allowed_of_all(ground, oracle, files), touched=chance.random() < 0.3)


def _damaged(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    how = chance.randrange(5)
    if how == 0:
        return data[:start] + chance.randbytes(1) + data[start + 1 :]
    if how == 1:
        return data[:start]
    if how == 2:
        return _filled(data, start, start + 50, chance)
    if how == 3:
        return data[:start] + data[start + chance.randint(1, 30) :]
    return data[:start] + chance.randbytes(3) + data[start:]


def _allowed_of_all(ground: Ground, oracle: Oracle, files: dict[str, bytes]) -> tuple[Answers | None, ...]:
    """With one file alone it would be exact; several may each be refused, and the active segment says what is left."""
    named = ground.corpus.named
    left = oracle.of_active(files[named[ACTIVE]])
    others = [allowed_of(ground, oracle, kind, files[named[kind]]) for kind in KINDS if kind != ACTIVE]
    if left is None or (None,) in others:
        return (None,)
    if files[named[CANONICAL]] == ground.files[named[CANONICAL]] and not any(None in other for other in others):
        return (left,)
    return (None, left)


def test_several_damages_at_once(ground: Ground, oracle: Oracle, run: Run) -> None:
    run(_mixes(ground, oracle, MIXES), counted="mixed damages", write_every=7)


@pytest.mark.slow
def test_many_times_several_damages_at_once(ground: Ground, oracle: Oracle, run: Run) -> None:
    run(_mixes(ground, oracle, MIXES_SLOW), counted="mixed damages")
