"""The corpus and its relatives, made once; a ground for each test; one place where cases are run and counted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from contract.builders import META

from .corpus import NAME, Corpus, build
from .ground import Ground, WrongError, fast_directory
from .model import Oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from support.counts import Count

    from .ground import Case

    Run = Callable[..., dict[str, int]]

SHOWN = 5


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("corpus") / "manifests")


@pytest.fixture(scope="session")
def relatives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    """Manifests like it: another name, another birth, and one that differs in nothing but chance."""
    place = tmp_path_factory.mktemp("relatives")
    return {
        "other": build(place / "other", "other_download.manifest.json", seed=2),
        "namesake": build(
            place / "namesake",
            NAME,
            seed=3,
            born=META.model_copy(update={"ts_created": META.ts_created.replace(year=2022)}),
        ),
        "twin": build(place / "twin", NAME, seed=4),
    }


@pytest.fixture(scope="session")
def oracle(corpus: Corpus) -> Oracle:
    return Oracle(corpus)


@pytest.fixture
def ground(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Iterator[Ground]:
    with fast_directory(tmp_path_factory.mktemp("ground")) as directory:
        yield Ground(directory, corpus)


@pytest.fixture
def run(ground: Ground, count: Count) -> Iterator[Run]:
    """Judge cases, one after the other; give how often each way to come out was met.

    Every one is read, and each `write_every`-th written to as well (0: none): a write takes three times as long.
    """
    # Thousands of warnings are expected, and pytest would keep them all.
    log = logging.getLogger("manifestlog")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)

    def run_all(cases: Iterable[Case], *, counted: str, write_every: int = 1) -> dict[str, int]:
        outcomes: dict[str, int] = {}
        wrong = []
        for number, case in enumerate(cases):
            try:
                outcome = ground.judge(case, write=write_every > 0 and number % write_every == 0)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
            except WrongError as error:
                wrong.append(str(error))
        count(counted, sum(outcomes.values()))
        assert wrong == [], f"{len(wrong)} cases came out wrong, the first of them:\n" + "\n".join(wrong[:SHOWN])
        return outcomes

    yield run_all
    log.setLevel(level)
