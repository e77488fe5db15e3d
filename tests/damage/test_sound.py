"""The corpus itself: the same every time, sound, and answering what it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.builders import sha

from .corpus import ACTIVE, KINDS, TORN, build
from .ground import Case

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Run
    from .corpus import Corpus
    from .ground import Ground
    from .model import Oracle


def test_the_corpus_is_the_same_every_time(corpus: Corpus, tmp_path: Path) -> None:
    again = build(tmp_path / "again")
    index = corpus.named["index"]
    assert {n: d for n, d in again.files.items() if n != index} == {n: d for n, d in corpus.files.items() if n != index}


def test_it_has_every_kind_of_file(corpus: Corpus) -> None:
    assert sorted(corpus.files) == sorted(corpus.named[kind] for kind in KINDS)


def test_undamaged_it_answers_what_its_files_say(ground: Ground, oracle: Oracle, run: Run) -> None:
    outcomes = run([Case("sound", ground.files, (oracle.sound,))], counted="damage cases")
    assert outcomes == {"answered": 1}


def test_its_last_lines_are_not_known_to_be_synced(corpus: Corpus, oracle: Oracle) -> None:
    lines = [line for _, line in oracle.active]
    assert [b'"synced"' in line for line in lines[-3:]] == [True, True, True]
    assert len({line[line.index(b'"synced":') : line.index(b',"record"')] for line in lines[-3:]}) == 1


def test_a_torn_tail_costs_nothing(ground: Ground, oracle: Oracle, run: Run) -> None:
    active = ground.corpus.named[ACTIVE]
    files = ground.files | {active: ground.files[active] + TORN}
    assert run([Case("torn", files, (oracle.sound,))], counted="damage cases") == {"answered": 1}


def test_it_has_aliases_ties_inputs_and_a_forgotten_record(oracle: Oracle) -> None:
    records = oracle.sound.records
    assert sha("forgotten") not in records
    assert [len(records[sha("shared")].also_seen), len(records[sha("made")].derived_from)] == [2, 2]
    assert oracle.sound.by_source["tied", None].checksum == sha("tied three")
