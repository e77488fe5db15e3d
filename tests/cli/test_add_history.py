"""`add` of what an earlier script has fetched: its time decides what is current, and `extract` asks conditionally."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from extract.running import NOON, Put
from support.nginx import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.program import Program

SOURCE = ("--source", "systems", "--dataset", "star_systems")
MANIFEST = "systems_download"


def old(path: Path, body: bytes, seconds: int = NOON) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (seconds, seconds))
    return path


def current(run: Program) -> Any:
    return run("get", MANIFEST, "--source", "systems", "--json").json


@pytest.fixture
def put(home: Path) -> Iterator[Put]:
    """Put a file on a real server: `put(name, body)` gives its url."""
    folder = home / "served"
    folder.mkdir()
    with serving(folder) as real:
        yield Put(folder, real)


@pytest.fixture
def config(run: Program) -> Path:
    return run.home / "etl.config.json"


def extract(run: Program, config: Path, url: str) -> Any:
    source = {"source_id": "systems", "dataset": "star_systems", "url": url}
    head = {"etl_version": "1.0.0", "manifests_dir": "manifests", "data_dir": "raw", "manifest": MANIFEST}
    config.write_text(json.dumps(head | {"sources": [source]}))
    found = run("extract", config, "--json", no_proxy="127.0.0.1").json
    return {
        name: value
        for name, value in found.items()
        if value and name in {"new", "changed", "reverted", "unchanged", "bytes_fetched"}
    }


ETAG = f'"{NOON:x}-3"'
"""As nginx makes it, of time and size."""


def test_with_its_etag_a_file_is_not_fetched_again(run: Program, put: Put, config: Path) -> None:
    url = put("systems.json.gz", b"abc")
    run("add", MANIFEST, *SOURCE, "--etag", ETAG, old(run.home / "old" / "systems-1.gz", b"abc"))
    assert extract(run, config, url) == {"unchanged": 1}


def test_with_its_time_a_file_is_not_fetched_again(run: Program, home: Path, config: Path) -> None:
    at = old(home / "site" / "a.gz", b"abc")
    run("add", MANIFEST, *SOURCE, "--last-modified", "2024-01-01T12:00:00+00:00", old(home / "old" / "b.gz", b"abc"))
    assert extract(run, config, at.as_uri()) == {"unchanged": 1}


def test_files_of_an_index_are_not_fetched_again(run: Program, home: Path, put: Put, config: Path) -> None:
    url = put("systems.json.gz", b"abc")
    old(home / "old" / "a.gz", b"abc")
    index = home / "old" / "index.csv"
    index.write_text(
        "file_path,source_id,dataset,etag\na.gz,systems,star_systems," + f'"{ETAG}"'.replace('"', '""')[1:-1] + "\n"
    )
    run("add", MANIFEST, "--index", index)
    assert extract(run, config, url) == {"unchanged": 1}


def test_an_index_of_json_lines_may_be_what_list_prints(run: Program, home: Path) -> None:
    run("add", MANIFEST, *SOURCE, "--etag", '"v1"', old(home / "old" / "a.gz", b"abc"))
    (home / "all.jsonl").write_text(run("list", MANIFEST, "--jsonl").out)
    assert run("add", "other_download", "--index", home / "all.jsonl").code == 0
    assert run("list", "other_download", "--jsonl").out == run("list", MANIFEST, "--jsonl").out


def test_an_old_file_does_not_become_current(run: Program, home: Path) -> None:
    run("add", MANIFEST, *SOURCE, old(home / "new.gz", b"new", NOON + 60))
    run("add", MANIFEST, *SOURCE, old(home / "old.gz", b"old"))
    assert current(run)["file_path"] == str(home / "new.gz")


def test_an_old_content_that_extract_has_replaced_stays_old(run: Program, home: Path, put: Put, config: Path) -> None:
    extract(run, config, put("a.gz", b"old"))
    extract(run, config, put("a.gz", b"newer"))
    result = run("add", MANIFEST, *SOURCE, home / "raw" / "star_systems" / "a.gz", "--json").json
    assert (result["reverted"], extract(run, config, f"{put.real.url}/a.gz")) == (0, {"unchanged": 1})


def test_a_newer_file_becomes_current(run: Program, home: Path) -> None:
    run("add", MANIFEST, *SOURCE, old(home / "old.gz", b"old"))
    run("add", MANIFEST, *SOURCE, old(home / "new.gz", b"new", NOON + 60))
    assert current(run)["file_path"] == str(home / "new.gz")


def test_a_given_time_decides_which_file_is_current(run: Program, home: Path) -> None:
    run("add", MANIFEST, *SOURCE, old(home / "one.gz", b"one", NOON))
    run("add", MANIFEST, *SOURCE, old(home / "two.gz", b"two", NOON + 60), "--time", "2023-01-01T00:00:00Z")
    assert current(run)["file_path"] == str(home / "one.gz")


def test_the_newest_of_many_files_of_a_source_is_current(run: Program, home: Path) -> None:
    for number in range(40):
        old(home / "all" / f"{number}.gz", b"%d" % number, NOON + (number * 7) % 40)
    run("add", MANIFEST, *SOURCE, home / "all", "--jobs", 2)
    assert current(run)["ts_downloaded"] == "2024-01-01T12:00:39Z"


def test_a_file_that_replaces_the_current_one_is_current_whatever_its_time(run: Program, home: Path) -> None:
    run("add", MANIFEST, *SOURCE, old(home / "a.gz", b"new", NOON + 60))
    run("add", MANIFEST, *SOURCE, old(home / "a.gz", b"restored"))
    assert current(run)["file_size"] == len(b"restored")


def test_a_file_time_in_the_future_is_recorded_as_now(run: Program, home: Path) -> None:
    run("add", MANIFEST, *SOURCE, old(home / "a.gz", b"a", 4_000_000_000))
    assert current(run)["ts_downloaded"] < "2096"


def test_a_known_etag_is_not_lost(run: Program, home: Path) -> None:
    path = old(home / "a.gz", b"a")
    run("add", MANIFEST, *SOURCE, path, "--etag", '"v1"')
    run("add", MANIFEST, *SOURCE, old(home / "b.gz", b"a", NOON + 60))
    assert current(run)["etag"] == '"v1"'


def test_an_etag_can_be_given_later(run: Program, home: Path) -> None:
    path = old(home / "a.gz", b"a")
    run("add", MANIFEST, *SOURCE, path)
    run("add", MANIFEST, *SOURCE, path, "--etag", '"v1"', "--time", "2020-01-01")
    assert current(run)["etag"] == '"v1"'


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--etag", '"v1"', "data"),
        ("--etag", '"v1"', "data/a.txt", "data/sub/b.txt"),
        ("--etag", "a\nb", "data/a.txt"),
        ("--time", "yesterday", "data/a.txt"),
        ("--time", "2999-01-01", "data/a.txt"),
        ("--index", "nowhere.csv"),
    ],
)
def test_contradictory_options_are_a_usage_error(run: Program, tree: Path, arguments: tuple[str, ...]) -> None:
    result = run("add", MANIFEST, *arguments)
    assert (result.code, (run.home / "manifests").exists()) == (2, False)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("i.csv", "file_path,Etag\na.txt,x\n", "line 2: unknown name 'Etag'"),
        ("i.csv", "source_id\nx\n", "line 2: file_path is missing"),
        ("i.csv", "file_path\na,b\n", "line 2: more fields"),
        ("i.csv", "file_path,ts_downloaded\na.txt,soon\n", "'soon' is not a time"),
        ("i.jsonl", "[1]\n", "line 1: expected one JSON object"),
        ("i.jsonl", '{"file_path": 1}\n', "file_path: expected a string"),
        ("i.jsonl", "{\n", "i.jsonl"),
    ],
)
def test_an_invalid_index_is_reported_with_the_line(run: Program, tree: Path, name: str, text: str, said: str) -> None:
    (tree / name).write_text(text)
    result = run("add", MANIFEST, "--index", tree / name, COLUMNS="1000")
    assert (result.code, said in result.err) == (2, True), result.err


def test_an_index_that_is_not_utf_8_is_reported(run: Program, tree: Path) -> None:
    (tree / "i.csv").write_text("file_path\na.txt\n", encoding="utf-16")
    result = run("add", MANIFEST, "--index", tree / "i.csv", COLUMNS="1000")
    assert (result.code, "not UTF-8; save the file as UTF-8" in result.err) == (2, True), result.err


def test_a_file_that_differs_from_its_index_fails(run: Program, tree: Path) -> None:
    (tree / "i.csv").write_text(f"file_path,checksum\na.txt,{'0' * 64}\n")
    result = run("add", MANIFEST, "--index", tree / "i.csv", "--json")
    assert (result.code, result.json["failed"], "the index says" in result.err) == (1, 1, True)
