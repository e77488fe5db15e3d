"""Sources on a real FTP server: the file time is enough to fetch nothing twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from extract.running import NOON, pattern
from manifestlog.extract import Result
from support.ftp import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.running import Here

BODY = pattern(3_000_000)
OTHER = pattern(3_000_000, 1)
KINDS = {"MLSD": (), "MDTM": ("MLSD",), "LIST": ("MLSD", "MDTM")}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    put(folder, BODY, NOON)
    return folder


@pytest.fixture(params=KINDS)
def url(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    with serving(site, *KINDS[request.param]) as url:
        yield f"{url}/a.json"


def put(folder: Path, body: bytes, seconds: int) -> None:
    (folder / "a.json").write_bytes(body)
    os.utime(folder / "a.json", (seconds, seconds))


def test_a_file_is_fetched(here: Here, url: str) -> None:
    assert (here.fetch(url).result, here.body() == BODY) == (Result.NEW, True)


def test_a_second_run_fetches_nothing(here: Here, url: str) -> None:
    here.fetch(url)
    outcome = here.fetch(url)
    assert (outcome.result, outcome.bytes_fetched) == (Result.UNCHANGED, 0)


def test_a_file_of_another_day_is_fetched(here: Here, site: Path, url: str) -> None:
    here.fetch(url)
    put(site, OTHER, NOON + 86_400)
    assert here.fetch(url).result is Result.CHANGED


def test_a_file_of_another_length_is_fetched(here: Here, site: Path, url: str) -> None:
    here.fetch(url)
    put(site, OTHER[:-1], NOON)
    assert here.fetch(url).result is Result.CHANGED


@pytest.mark.parametrize("without", [KINDS["MLSD"], KINDS["MDTM"]])
def test_times_one_second_apart_differ(here: Here, site: Path, without: tuple[str, ...]) -> None:
    with serving(site, *without) as url:
        here.fetch(f"{url}/a.json")
        put(site, OTHER, NOON + 1)
        assert here.fetch(f"{url}/a.json").result is Result.CHANGED


def test_the_time_is_recorded_as_one(here: Here, site: Path) -> None:
    with serving(site) as url:
        here.fetch(f"{url}/a.json")
    assert here.record().last_modified == "2024-01-01T12:00:00+00:00"


def test_a_wrong_password_fails_at_once_and_says_so(here: Here, site: Path) -> None:
    with serving(site) as url:
        outcome = here.fetch(f"{url.replace('word@', 'wrong@')}/a.json")
    assert (outcome.error, here.waits) == (
        "the server rejects the credentials (FTP 530): check the source's url", [],
    )  # fmt: skip
