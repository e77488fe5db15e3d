"""`derived`: whether an input is done, by which stage and version, from the history alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ManifestOptions, ProcessedManifestManager
from manifestlog.engines.filelog.history import keep

from .builders import META, QUIET, record, sha

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def made(directory: Path) -> Iterator[ProcessedManifestManager]:
    """The manifest of a stage that has made one output from `raw`, as version 2."""
    path = directory / "x_clean.manifest.json"
    with ProcessedManifestManager(path, META, options=QUIET) as manifest:
        with manifest.run("nightly", stage="clean"):
            manifest.add(record("out", 1, derived_from=(sha("raw"), sha("more")), version="2"))
        yield manifest


def test_an_input_that_was_processed_has_its_derivation(made: ProcessedManifestManager) -> None:
    found = made.derived(sha("raw"))
    assert found is not None
    assert (found.output, found.stage, found.version) == (sha("out"), "clean", "2")


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ({"stage": "clean"}, True),
        ({"version": "2"}, True),
        ({"stage": "clean", "version": "2"}, True),
        ({"stage": "other"}, False),
        ({"version": "1"}, False),
        ({"stage": "other", "version": "2"}, False),
    ],
)
def test_only_the_stage_and_version_that_are_asked_for_count(
    made: ProcessedManifestManager, asked: dict[str, str], done: bool
) -> None:
    assert (made.derived(sha("raw"), **asked) is not None) == done


def test_every_input_counts(made: ProcessedManifestManager) -> None:
    assert made.derived(sha("more").upper()) is not None


@pytest.mark.parametrize("other", ["out", "nowhere"])
def test_what_was_no_input_is_not_done(made: ProcessedManifestManager, other: str) -> None:
    assert made.derived(sha(other)) is None


def test_a_version_that_gives_the_same_output_counts_beside_the_first(made: ProcessedManifestManager) -> None:
    made.add(record("out", 2, derived_from=(sha("raw"),), version="3"))
    found = [made.derived(sha("raw"), version=version) for version in ("2", "3")]
    assert [one is not None and one.version for one in found] == ["2", "3"]


def test_the_latest_derivation_is_the_answer(made: ProcessedManifestManager) -> None:
    made.add(record("out", 2, derived_from=(sha("raw"),), version="3"))
    found = made.derived(sha("raw"))
    assert found is not None
    assert found.version == "3"


def test_a_failure_is_no_derivation(made: ProcessedManifestManager) -> None:
    made.fail(record("out"), "not JSON", inputs=[sha("bad")])
    assert made.derived(sha("bad")) is None


def test_a_forgotten_output_does_not_count(made: ProcessedManifestManager) -> None:
    made.forget(sha("out"))
    assert made.derived(sha("raw")) is None


def test_an_output_that_comes_back_from_another_input_does_not_bring_its_derivations_back(
    made: ProcessedManifestManager,
) -> None:
    made.forget(sha("out"))
    made.add(record("out", 2, derived_from=(sha("other"),), version="2"))
    assert [made.derived(sha(one)) is not None for one in ("raw", "other")] == [False, True]


def _made_anew(made: ProcessedManifestManager, *, minutes: int = 5) -> str:
    """Make the output once more, by version 3 in a run of its own; an earlier time leaves the record as it is."""
    with made.run("again", stage="clean") as run:
        made.add(record("out", minutes, derived_from=(sha("raw"), sha("new")), version="3"))
        made.add(record("beside", minutes))
    return str(run.id)


@pytest.mark.parametrize("minutes", [5, -5])
def test_a_derivation_by_another_version_counts(made: ProcessedManifestManager, minutes: int) -> None:
    _made_anew(made, minutes=minutes)
    assert [made.derived(sha("raw"), version=version) is not None for version in "23"] == [True, True]


@pytest.mark.parametrize("minutes", [5, -5])
def test_a_derivation_that_was_undone_does_not_count(made: ProcessedManifestManager, minutes: int) -> None:
    made.undo(run=_made_anew(made, minutes=minutes))
    assert [made.derived(sha("raw"), version=version) is not None for version in "23"] == [True, False]
    assert made.derived(sha("new")) is None


@pytest.mark.parametrize("minutes", [5, -5])
def test_an_undo_that_was_undone_takes_nothing_back(made: ProcessedManifestManager, minutes: int) -> None:
    undone = made.undo(run=_made_anew(made, minutes=minutes))
    made.undo(run=undone.run)
    assert [made.derived(sha("raw"), version=version) is not None for version in "23"] == [True, True]


def test_a_change_that_was_undone_does_not_count(made: ProcessedManifestManager) -> None:
    made.add(record("out", 5, derived_from=(sha("raw"),), version="3"))
    made.undo(change=made.cursor)
    assert [made.derived(sha("raw"), version=version) is not None for version in "23"] == [True, False]


def test_what_came_after_the_time_of_an_undo_does_not_count(made: ProcessedManifestManager) -> None:
    *_, last = made.history()
    made.add(record("out", 5, derived_from=(sha("raw"),), version="3"))
    made.undo(to=last.ts)
    assert [made.derived(sha("raw"), version=version) is not None for version in "23"] == [True, False]


@pytest.mark.parametrize("minutes", [5, -5])
def test_an_input_whose_derivation_was_undone_is_pending_again(
    made: ProcessedManifestManager, manifest: DownloadManifestManager, minutes: int
) -> None:
    manifest.add(record("new"))
    made.undo(run=_made_anew(made, minutes=minutes))
    assert [one.checksum for one in made.pending(manifest)] == [sha("new")]


def test_the_answer_survives_a_compaction_and_a_packing(
    made: ProcessedManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made.derived(sha("raw"))
    monkeypatch.setattr(keep, "LOOSE_BYTES_MAX", 1)
    made.compact()
    made.compact()
    assert made.derived(sha("raw")) == before


def test_what_the_history_no_longer_has_is_not_known(directory: Path) -> None:
    options = ManifestOptions(durability=QUIET.durability, auto_compact=False, compact_on_close=False, history="off")
    with ProcessedManifestManager(directory / "y_clean.manifest.json", META, options=options) as manifest:
        manifest.add(record("out", 1, derived_from=(sha("raw"),)))
        manifest.compact()
        assert manifest.derived(sha("raw")) is None


def test_a_text_that_is_no_checksum_is_refused(made: ProcessedManifestManager) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        made.derived("raw")
