"""One source on a server that behaves: each verdict, what is kept, what is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from extract.builders import source
from manifestlog.extract import Result

if TYPE_CHECKING:
    from extract.running import Here
    from support.nginx import Nginx


def _put(folder: Path, name: str, body: bytes, mtime: int = 1_700_000_000) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (mtime, mtime))


def test_what_is_not_recorded_is_new(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    assert here.fetch(f"{real.url}/a.json").result is Result.NEW


def test_the_file_lies_in_the_datasets_folder(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    here.fetch(f"{real.url}/a.json", dataset="galaxy/systems")
    assert here.files == ["galaxy/systems/a.json"]


def test_what_has_not_changed_is_not_sent_again(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    here.fetch(f"{real.url}/a.json")
    outcome = here.fetch(f"{real.url}/a.json")
    assert (outcome.result, outcome.bytes_fetched, outcome.bytes_saved) == (Result.UNCHANGED, 0, 5)
    assert [request.status for request in real.requests()] == [200, 304]


def test_what_has_changed_is_fetched_and_the_old_file_stays(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    here.fetch(f"{real.url}/a.json")
    _put(folder, "a.json", b"second", 1_700_000_100)
    assert here.fetch(f"{real.url}/a.json").result is Result.CHANGED
    assert len(here.files) == 2
    assert here.body() == b"second"


def test_what_was_there_before_is_reverted_and_kept_once(here: Here, real: Nginx, folder: Path) -> None:
    for number, body in enumerate((b"first", b"second", b"first")):
        _put(folder, "a.json", body, 1_700_000_000 + 100 * number)
        outcome = here.fetch(f"{real.url}/a.json")
    assert outcome.result is Result.REVERTED
    assert len(here.files) == 2


def test_the_same_content_under_a_new_etag_is_refreshed(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    here.fetch(f"{real.url}/a.json")
    _put(folder, "a.json", b"first", 1_700_000_100)
    assert here.fetch(f"{real.url}/a.json").result is Result.REFRESHED
    assert here.files == ["systems/a.json"]


def test_the_same_content_of_another_source_is_an_alias_kept_once(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    _put(folder, "b.json", b"first")
    here.fetch(f"{real.url}/a.json")
    assert here.fetch(f"{real.url}/b.json", source_id="b").result is Result.ALIAS
    assert here.files == ["systems/a.json"]
    assert here.record("b").file_path == here.record("a").file_path


def test_an_alias_is_not_sent_again_either(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    _put(folder, "b.json", b"first")
    here.fetch(f"{real.url}/a.json")
    here.fetch(f"{real.url}/b.json", source_id="b")
    assert here.fetch(f"{real.url}/b.json", source_id="b").result is Result.UNCHANGED


def test_two_sources_with_one_file_name_do_not_overwrite_each_other(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "x/a.json.gz", b"first")
    _put(folder, "y/a.json.gz", b"other")
    here.fetch(f"{real.url}/x/a.json.gz", source_id="x")
    here.fetch(f"{real.url}/y/a.json.gz", source_id="y")
    digits = here.record("y").checksum[:12]
    assert here.files == [f"systems/a-{digits}.json.gz", "systems/a.json.gz"]


def test_bytes_are_stored_as_they_are(here: Here, real: Nginx, folder: Path) -> None:
    """The server would compress for whoever lets it."""
    body = b'{"text": "' + b"a" * 5000 + b'"}'
    _put(folder, "a.json", body)
    here.fetch(f"{real.url}/a.json")
    assert here.body() == body


def test_the_record_has_what_the_server_said(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    here.fetch(f"{real.url}/a.json")
    record = here.record()
    assert record.last_modified == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert record.etag is not None
    assert record.etag.startswith('"')


def test_a_configured_name_is_taken(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    here.one(source(f"{real.url}/a.json", file_name="mine.json"))
    assert [Path(name).name for name in here.files] == ["mine.json"]


def test_a_file_that_somebody_else_put_there_is_left_alone(here: Here, real: Nginx, folder: Path) -> None:
    _put(folder, "a.json", b"first")
    _put(here.data_dir, "systems/a.json", b"not ours")
    here.fetch(f"{real.url}/a.json")
    assert (here.data_dir / "systems/a.json").read_bytes() == b"not ours"
    assert here.body() == b"first"
