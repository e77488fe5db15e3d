"""Files missing, doubled, exchanged, another manifest's, or older than the others."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import TYPE_CHECKING

import pytest

from .corpus import ACTIVE, CANONICAL, FENCED, INDEX, KINDS, NAME, SEALED, TORN, renamed
from .expect import allowed_of, case_of
from .ground import Case, stamped
from .model import History

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Run
    from .corpus import Corpus
    from .ground import Ground
    from .model import Answers, Oracle

MOVED = "moved files"
LOG = (SEALED, FENCED, ACTIVE)


def _segment_name(number: int) -> str:
    return NAME.replace(".json", f".wal-{number:06d}.jsonl")


# -- missing -----------------------------------------------------------------------------------------------------------


def _what_is_left(ground: Ground, oracle: Oracle, gone: tuple[str, ...]) -> tuple[Answers | None, ...]:
    """A log that ends early is an earlier moment; whatever is missing before its end, or under it, is damage."""
    log = [kind for kind in LOG if kind not in gone]
    if CANONICAL in gone or tuple(log) != LOG[: len(log)]:
        return (None,)
    if not log:
        # The index remembers that there was a log; the canonical alone is a manifest, as a backup is.
        return (None,) if INDEX not in gone else (_history(ground, ()),)
    return (oracle.sound,) if len(log) == len(LOG) else (_history(ground, tuple(log)),)


def _history(ground: Ground, log: tuple[str, ...]) -> Answers:
    files, named = ground.files, ground.corpus.named
    lines = [line for kind in log for line in files[named[kind]].removesuffix(TORN).splitlines()]
    return History(files[NAME]).take(lines).answers()


def test_every_set_of_files_missing(ground: Ground, oracle: Oracle, run: Run) -> None:
    def cases() -> Iterator[Case]:
        for number in range(1, len(KINDS)):
            for gone in combinations(KINDS, number):
                if {CANONICAL, *LOG} <= set(gone):
                    continue  # nothing is left that could be called a manifest
                names = {ground.corpus.named[kind] for kind in gone}
                files = {name: data for name, data in ground.files.items() if name not in names}
                yield Case(f"without {', '.join(gone)}", files, _what_is_left(ground, oracle, gone))

    run(cases(), counted=MOVED)


# -- doubled and exchanged ---------------------------------------------------------------------------------------------


def test_a_segment_under_a_higher_number(ground: Ground, oracle: Oracle, run: Run) -> None:
    """Behind the log's end it is refused; where the canonical has everything, nobody reads it."""

    def cases() -> Iterator[Case]:
        for kind in LOG:
            for number in (1, 2, 6, 7, 8, 1_000_000):
                files = ground.files | {_segment_name(number): ground.files[ground.corpus.named[kind]]}
                yield Case(f"{kind} as {number}", files, (oracle.sound if number < 3 else None,))

    run(cases(), counted=MOVED)


@pytest.mark.parametrize("touched", [False, True], ids=["same time", "other time"])
def test_two_files_exchanged(ground: Ground, oracle: Oracle, run: Run, touched: bool) -> None:
    def cases() -> Iterator[Case]:
        for one, other in permutations(KINDS, 2):
            names = ground.corpus.named[one], ground.corpus.named[other]
            files = dict(ground.files)
            files[names[0]] = ground.files[names[1]]
            yield Case(f"{other} for {one}", files, allowed_of(ground, oracle, one, files[names[0]]), touched=touched)
            files[names[1]] = ground.files[names[0]]
            yield Case(f"{one} and {other} exchanged", files, (None,), touched=touched)

    run(cases(), counted=MOVED)


# -- another manifest's ------------------------------------------------------------------------------------------------


def test_a_file_of_another_manifest(ground: Ground, oracle: Oracle, relatives: dict[str, Corpus], run: Run) -> None:
    """Of one with another name, of one with another birth, and of one that differs in nothing but chance."""

    def cases() -> Iterator[Case]:
        for owner, corpus in relatives.items():
            for kind in KINDS:
                for theirs in KINDS:
                    data = corpus.files[corpus.named[theirs]]
                    yield case_of(ground, oracle, kind, data, f"the {theirs} of {owner}", foreign=True)

    run(cases(), counted=MOVED)


def test_several_files_of_another_manifest(
    ground: Ground, oracle: Oracle, relatives: dict[str, Corpus], run: Run
) -> None:
    """Only all of them together, or the index alone, is anything but damage."""

    def cases() -> Iterator[Case]:
        for owner, corpus in relatives.items():
            theirs = renamed(corpus.files, corpus.named[CANONICAL])
            for number in (2, 3, 4):
                for kinds in combinations(KINDS, number):
                    if {CANONICAL, *LOG} <= set(kinds):
                        continue
                    names = [ground.corpus.named[kind] for kind in kinds]
                    files = ground.files | {name: theirs[name] for name in names}
                    yield Case(f"{', '.join(kinds)} of {owner}", files, (None,))

    run(cases(), counted=MOVED)


# -- older -------------------------------------------------------------------------------------------------------------


def test_an_earlier_version_of_a_file(ground: Ground, oracle: Oracle, run: Run) -> None:
    """An old canonical or segment brought back: refused, or a log that ends early, or nothing that anybody reads."""

    def cases() -> Iterator[Case]:
        for moment, earlier in enumerate(ground.corpus.earlier):
            for name, data in earlier.items():
                what = f"{name} of moment {moment}"
                kind = next((kind for kind in KINDS if ground.corpus.named[kind] == name), None)
                if kind is None:
                    yield Case(what, ground.files | {name: data}, (oracle.sound,))
                else:
                    yield case_of(ground, oracle, kind, data, what)

    run(cases(), counted=MOVED)


def test_covered_segments_brought_back(ground: Ground, oracle: Oracle, run: Run) -> None:
    """Their changes are in the canonical: replaying them would bring back what was forgotten since."""
    run([Case("covered", ground.files | ground.corpus.covered, (oracle.sound,))], counted=MOVED)


def test_covered_segments_behind_an_old_canonical(ground: Ground, run: Run) -> None:
    """The log has said which canonical counts from then on."""

    def cases() -> Iterator[Case]:
        for moment, earlier in enumerate(ground.corpus.earlier):
            if earlier[NAME] != ground.files[NAME]:
                files = ground.files | ground.corpus.covered | {NAME: earlier[NAME]}
                yield Case(f"canonical of moment {moment} with its log", files, (None,))

    assert run(cases(), counted=MOVED)["refused"] > 0


def test_an_earlier_index_that_seems_to_fit(
    ground: Ground, oracle: Oracle, relatives: dict[str, Corpus], run: Run
) -> None:
    """Made for another canonical that had, by chance, the same size, time and inode: found by its CRC, by the log."""

    def cases() -> Iterator[Case]:
        index = ground.corpus.named[INDEX]
        others = [(f"moment {n}", files) for n, files in enumerate(ground.corpus.earlier) if index in files]
        others += [(owner, renamed(c.files, c.named[CANONICAL])) for owner, c in relatives.items()]
        for what, files in others:
            other = stamped(files[index], ground.path)
            allowed = (oracle.sound,) if other == ground.index else (None, oracle.sound)
            yield Case(f"index of {what}", ground.files | {index: other}, allowed)

    run(cases(), counted=MOVED, write_every=0)
