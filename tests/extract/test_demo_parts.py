"""The programs of the demo: its dump files and its server."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import finish, wait_until
from extract.http_client import Answer, ask, ask_on, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = Path(__file__).parents[2] / "docs" / "demo"
TEXT = b"0123456789"


def dumps(*arguments: object) -> str:
    command = [sys.executable, str(DEMO / "dumps.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.json.gz"))}


# -- dumps -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    dumps("make", folder, "--files", 40)
    return folder


@pytest.fixture
def folder(tmp_path: Path, made: Path) -> Path:
    """A copy of the dumps, to be changed."""
    for name, data in contents(made).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_dumps_are_lists_of_rows_in_a_folder_for_each_dataset(made: Path) -> None:
    rows = {name: json.loads(gzip.decompress(data)) for name, data in contents(made).items()}
    assert Counter(name.split("/")[0] for name in rows) == dict.fromkeys(
        ("systems", "bodies", "stations", "prices"), 10
    )
    assert set(rows["systems/systems-000.json.gz"][0]) == {"id64", "name", "coords", "date"}


def test_one_dump_in_ten_is_a_copy(made: Path) -> None:
    found = contents(made)
    assert len(found) - len(set(found.values())) == 4


def test_dumps_have_mixed_sizes(made: Path) -> None:
    sizes = sorted(map(len, contents(made).values()))
    assert 1_500 < sizes[0] < 10_000 < 70_000 < sizes[-1] < 220_000


def test_making_dumps_again_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    dumps("make", tmp_path, "--files", 40)
    assert contents(tmp_path) == contents(made)


def test_another_seed_gives_other_bytes(made: Path, tmp_path: Path) -> None:
    dumps("make", tmp_path, "--files", 40, "--seed", 8)
    assert not set(contents(tmp_path).values()) & set(contents(made).values())


def test_change_grows_the_given_number_of_files(folder: Path) -> None:
    before = contents(folder)
    dumps("change", folder, "--files", 3)
    after = contents(folder)
    grown = [len(after[name]) - len(data) for name, data in before.items() if after[name] != data]
    assert len(grown) == 3
    assert min(grown) > 0


def test_change_leaves_copies_alone(folder: Path) -> None:
    before = contents(folder)
    copied = {data for data, count in Counter(before.values()).items() if count > 1}
    dumps("change", folder, "--files", 32)
    assert {data for data in before.values() if data in contents(folder).values()} == copied


def test_changing_twice_changes_twice(folder: Path) -> None:
    dumps("change", folder)
    once = contents(folder)
    dumps("change", folder)
    assert sum(once[name] != data for name, data in contents(folder).items()) == 3


def test_the_configuration_names_every_file(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "etl.config.json"
    dumps("config", made, "--file", file, "--url", "http://host:1/", "--manifests", "m", "--data", "d")
    document = json.loads(file.read_text(encoding="utf-8"))
    assert [source["url"] for source in document["sources"]] == [f"http://host:1/{name}" for name in contents(made)]
    assert document["sources"][0] == {
        "source_id": "bodies-001", "dataset": "bodies", "url": "http://host:1/bodies/bodies-001.json.gz",
    }  # fmt: skip
    assert {name: document[name] for name in document if name != "sources"} == {
        "etl_version": "1.0.0", "manifests_dir": "m", "data_dir": "d", "manifest": "galaxy_download",
        "defaults": {"jobs": 4},
    }  # fmt: skip


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A server that serves `served`; a file beside it is not served."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.txt").write_bytes(TEXT)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return tmp_path


@pytest.fixture
def server(home: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(DEMO / "serve.py"), str(home / "served")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def url(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip() + "/a.txt"


def test_the_demo_server_sends_a_file(url: str) -> None:
    answer = ask(url)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, TEXT, "10")


def test_the_demo_server_sends_no_body_for_head(url: str) -> None:
    answer = ask(url, "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "10")


def test_the_demo_server_answers_304_to_its_validators(url: str) -> None:
    told = ask(url).headers
    assert ask(url, if_none_match=told["etag"]).status == 304
    assert ask(url, if_modified_since=told["last-modified"]).status == 304


def test_the_demo_server_gives_a_replaced_file_another_etag(url: str, home: Path) -> None:
    before = ask(url).headers["etag"]
    file = home / "served" / "a.txt"
    moment = file.stat().st_mtime_ns + 1_000_000
    file.write_bytes(TEXT[::-1])
    os.utime(file, ns=(moment, moment))
    assert ask(url, if_none_match=before).body == TEXT[::-1]


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [("bytes=3-", 206, b"3456789"), ("bytes=3-5", 206, b"345"), ("bytes=-2", 206, b"89"), ("bytes=10-", 416, b"")],
)
def test_the_demo_server_sends_ranges(url: str, asked: str, status: int, body: bytes) -> None:
    answer = ask(url, range=asked)
    assert (answer.status, answer.body) == (status, body)


def test_the_demo_server_honours_if_range(url: str) -> None:
    etag = ask(url).headers["etag"]
    assert ask(url, range="bytes=3-", if_range=etag).status == 206
    assert ask(url, range="bytes=3-", if_range='"other"').status == 200


@pytest.mark.parametrize(
    "target", ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/", "/a%00", "/" + "n" * 300]
)
def test_the_demo_server_serves_files_of_its_folder_only(url: str, target: str) -> None:
    connection = connect(url)
    connection.request("GET", target)
    with connection.getresponse() as response:
        assert response.status == 404
    connection.close()


def test_the_demo_server_keeps_connections(url: str) -> None:
    connection = connect(url)
    connection.connect()
    first = connection.sock
    answers: list[Answer] = [ask_on(connection, url) for _ in range(3)]
    assert [answer.body for answer in answers] == [TEXT] * 3
    assert connection.sock is first
    connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_demo_server_ends_with_a_summary_line(
    server: subprocess.Popen[str], url: str, number: signal.Signals
) -> None:
    etag = ask(url).headers["etag"]
    ask(url, if_none_match=etag)
    ask(url, range="bytes=3-5")
    assert finish(server, number) == (0, "", "served 3 requests, 2 bodies, 13 bytes\n")


def test_the_demo_server_writes_its_url_to_a_file_when_it_is_ready(home: Path) -> None:
    file = home / "port"
    command = [sys.executable, str(DEMO / "serve.py"), str(home / "served"), "--port-file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(file.exists)
        assert ask(file.read_text(encoding="ascii").strip() + "/a.txt").body == TEXT
        finish(process, signal.SIGTERM)
