"""`verify` of a manifest in a database: the next run continues, as with one in files, though no file is beside the manifest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import Program, records_of
from contract.builders import META
from manifestlog import DownloadManifestManager, audit

if TYPE_CHECKING:
    from .places import Place

FILES = 6


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache directory."""
    found = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(found))
    return found


@pytest.fixture
def url(place: Place, tmp_path: Path) -> str:
    """A manifest of some files, which are all there."""
    tree = tmp_path / "data"
    tree.mkdir()
    for number in range(FILES):
        (tree / f"{number}.txt").write_text(f"{number}", encoding="ascii")
    with DownloadManifestManager(place.url(), META) as manifest:
        manifest.add_many(records_of(tree))
    return place.url()


def verified(journal: Path) -> list[str]:
    """The files in the order in which they were verified."""
    return [Path(json.loads(line)["file_path"]).name for line in journal.read_text("utf-8").splitlines()]


def test_the_next_run_begins_with_what_the_last_one_left(url: str, cache: Path) -> None:
    audit.run(url, audit.VerifyOptions(sample=2), jobs=1)
    audit.run(url, jobs=1)
    (journal,) = (cache / "manifestlog").iterdir()
    order = verified(journal)
    assert (len(order), set(order[:2]) & set(order[2:FILES])) == (FILES + 2, set())


def test_the_report_names_the_journal(url: str, cache: Path) -> None:
    report = audit.run(url, jobs=1)
    (journal,) = (cache / "manifestlog").iterdir()
    assert (report.journal, report.journal_error) == (str(journal), None)


def test_a_journal_that_is_named_is_used(url: str, cache: Path, tmp_path: Path) -> None:
    found = Program(tmp_path).here("verify", url, "--journal", "kept.jsonl", "--quiet")
    assert (found.code, len(verified(tmp_path / "kept.jsonl")), cache.exists()) == (0, FILES, False)


def test_without_a_home_it_verifies_and_says_what_is_missing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = Program(tmp_path).here("verify", url)
    assert (found.code, found.out[: len("6 ok")]) == (0, "6 ok")
    assert re.search("Not a directory; .*; the next run will verify these files again", found.err)
