"""What the fuzzer has kept is fed to its targets again: every branch that it has found, and every bug that it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.children import time_limit
from support.counts import Count

from .targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUT_LIMIT_S = 10
BYTES_MAX = 200_000


def _inputs(name: str) -> list[Path]:
    return sorted((CORPUS / name).iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_passes(name: str, count: Count) -> None:
    wrong = []
    for path in _inputs(name):
        try:
            with time_limit(INPUT_LIMIT_S):
                TARGETS[name](path.read_bytes())
        except Exception as error:
            wrong.append(f"{path.name}: {error!r:.300}")
    count("fuzz inputs replayed", len(_inputs(name)))
    assert wrong == []


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_a_corpus(name: str) -> None:
    assert len(_inputs(name)) >= 10


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < BYTES_MAX


def test_every_folder_has_its_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
