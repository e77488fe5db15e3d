"""A history that is lost, cut, unreadable: each verb that asks it says so in one line, with one exit code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import Program, Result
from contract.test_history_damage import _pack_all
from manifestlog import DownloadManifestManager
from support.records import MANUAL, NAME, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.children import Link, Start

NOBODY = 65534
FIRST = "systems_download.manifest.history-000001-000002.jsonl.zst"
LAST = "systems_download.manifest.history-000003-000004.jsonl.zst"


@pytest.fixture
def path() -> Iterator[Path]:
    """A manifest that everybody may read, with two packs and a failed attempt in the first."""
    with tempfile.TemporaryDirectory(prefix="manifestlog-") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / NAME
        with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
            for number in range(4):
                manifest.fail(make_record(number + 10), "HTTP 503")
                manifest.add(make_record(number))
                manifest.compact()
                if number == 1:
                    _pack_all(path)
                    # A small pack is packed again with the next segments; this one shall stay.
                    (path.parent / "history" / FIRST).rename(path.parent / FIRST)
            _pack_all(path)
            (path.parent / FIRST).rename(path.parent / "history" / FIRST)
            manifest.add(make_record(5))
        assert sorted(file.name for file in (path.parent / "history").iterdir()) == [FIRST, LAST]
        for file in (path.parent, *path.parent.rglob("*")):
            file.chmod(0o755 if file.is_dir() else 0o644)
        yield path


def _deleted(place: Path) -> None:
    place.unlink()


def _truncated(place: Path) -> None:
    os.truncate(place, place.stat().st_size // 2)


def _emptied(place: Path) -> None:
    os.truncate(place, 0)


def _unreadable(place: Path) -> None:
    place.chmod(0o000)


def _folder_unreadable(place: Path) -> None:
    place.parent.chmod(0o000)


DAMAGED, UNAVAILABLE, REACH = ("DamagedManifestError", 12), ("HistoryUnavailableError", 1), ("HistoryReachError", 1)
FINE = ("", 0)

TABLE = {
    # what became of which pack: what log, runs, failures say; what as-of and undo say of a time in the first pack
    "first deleted": (_deleted, FIRST, FINE, REACH),
    "last deleted": (_deleted, LAST, DAMAGED, REACH),
    "first truncated": (_truncated, FIRST, DAMAGED, DAMAGED),
    "last truncated": (_truncated, LAST, DAMAGED, DAMAGED),
    "last emptied": (_emptied, LAST, DAMAGED, DAMAGED),
    "first unreadable": (_unreadable, FIRST, UNAVAILABLE, UNAVAILABLE),
    "last unreadable": (_unreadable, LAST, UNAVAILABLE, UNAVAILABLE),
    "folder unreadable": (_folder_unreadable, LAST, UNAVAILABLE, UNAVAILABLE),
}


def _ask(link: Link, home: Path, arguments: list[str]) -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    link.send(tuple(Program(home).here("--dir", home, "--json", *arguments)))


@pytest.mark.parametrize("verb", ["log", "runs", "failures", "as-of", "undo"])
@pytest.mark.parametrize("case", TABLE)
def test_a_question_to_a_history_that_is_not_whole_has_one_answer(
    path: Path, start: Start, case: str, verb: str
) -> None:
    spoil: Callable[[Path], None]
    spoil, name, reading, looking_back = TABLE[case]
    with DownloadManifestManager(path, read_only=True) as manifest:
        moment = [event.ts for event in manifest.history(reverse=False)][1]
    spoil(path.parent / "history" / name)
    asked = {
        "as-of": ["list", "systems_download", "--as-of", moment],
        "undo": ["undo", "systems_download", "--to", moment, "--dry-run"],
    }
    arguments = asked.get(verb, [verb, "systems_download"])
    try:
        result = Result(*start(_ask, path.parent, arguments).receive())
    finally:
        (path.parent / "history").chmod(0o755)
    wanted = looking_back if verb in asked else reading
    assert (result.error["error"] if result.err else "", result.code) == wanted, result.err
    assert len(result.err.splitlines()) <= 1


@pytest.mark.parametrize("case", TABLE)
def test_records_are_read_whatever_became_of_the_history(path: Path, start: Start, case: str) -> None:
    spoil, name, *_ = TABLE[case]
    spoil(path.parent / "history" / name)
    try:
        result = Result(*start(_ask, path.parent, ["list", "systems_download"]).receive())
    finally:
        (path.parent / "history").chmod(0o755)
    assert (result.code, len(result.json)) == (0, 5)


def test_check_names_a_pack_that_it_may_not_read(path: Path, start: Start) -> None:
    (path.parent / "history" / LAST).chmod(0o000)
    result = Result(*start(_ask, path.parent, ["check", "systems_download"]).receive())
    assert (result.code, LAST in result.out, "Permission denied" in result.out) == (12, True, True)
