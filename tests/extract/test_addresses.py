"""URLs of files: percent-encoding for any file name."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from extract.builders import source
from extract.running import NOON, pattern
from manifestlog.extract import Result
from support.ftp import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extract.running import Here, Put

BODY = pattern(1000)
NAMES = ["a dump.gz", "Größe.gz", "100%.gz", "#1.gz", "a%20b.gz", "what?.gz", "a::b.gz", "[1]*.gz", "%41.gz"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def write(path: Path) -> Path:
    path.write_bytes(BODY)
    os.utime(path, (NOON, NOON))
    return path


@pytest.fixture
def ftp(site: Path) -> Iterator[str]:
    with serving(site) as url:
        yield url


@pytest.mark.parametrize("name", NAMES)
def test_the_address_that_a_path_has_of_itself_is_fetched(here: Here, site: Path, name: str) -> None:
    assert here.fetch(write(site / name).as_uri()).result is Result.NEW


def test_a_name_that_is_no_text_is_fetched(here: Here, site: Path) -> None:
    assert here.fetch(write(site / os.fsdecode(b"a\xff.gz")).as_uri()).result is Result.NEW


@pytest.mark.parametrize(
    ("name", "kept"), [("a dump.gz", "a dump.gz"), ("a%20b.gz", "a%20b.gz"), ("#1.gz", "#1.gz"), ("100%.gz", "100%.gz")]
)
def test_the_file_is_kept_under_the_name_that_it_has(here: Here, site: Path, name: str, kept: str) -> None:
    here.fetch(write(site / name).as_uri())
    assert here.files == [f"systems/{kept}"]


@pytest.mark.parametrize("name", ["a dump.gz", "Größe.gz", "100%.gz", "#1.gz"])
def test_an_unambiguous_name_is_kept_as_is(here: Here, site: Path, name: str) -> None:
    write(site / name)
    assert here.fetch(f"file://{site}/{name}").result is Result.NEW


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_is_fetched_by_ftp(here: Here, site: Path, ftp: str, name: str) -> None:
    write(site / name)
    assert here.fetch(f"{ftp}/{quote(name)}").result is Result.NEW


def test_a_folder_of_an_odd_name_is_fetched_from_by_ftp(here: Here, site: Path, ftp: str) -> None:
    (site / "100% #1").mkdir()
    write(site / "100% #1" / "a b.gz")
    assert here.fetch(f"{ftp}/100%25%20%231/a%20b.gz").result is Result.NEW


def test_ftp_keeps_a_plain_space(here: Here, site: Path, ftp: str) -> None:
    write(site / "a dump.gz")
    assert here.fetch(f"{ftp}/a dump.gz").result is Result.NEW


def test_a_name_of_percent_signs_is_decoded_once_by_http(here: Here, put: Put) -> None:
    put("a%20b.gz", BODY)
    assert here.fetch(f"{put.real.url}/a%2520b.gz").result is Result.NEW


def test_a_file_within_an_archive_of_odd_names_is_fetched(here: Here, site: Path) -> None:
    archive = site / "all #1.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a %b.gz", BODY)
    assert here.fetch(f"zip://a%20%25b.gz::{archive.as_uri()}").result is Result.NEW


@pytest.mark.parametrize("url", ["file:///a ", "file:///a\tb", "file:///a\nb", "https://host/a b"])
def test_a_space_that_no_address_has_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        source(url)


def test_a_missing_file_with_a_percent_sign_says_how_to_write_it(here: Here, site: Path) -> None:
    assert here.fetch(f"file://{site}/a%20b.gz").error == (
        "no such file: check the source's url (%25 stands for a percent sign)"
    )
