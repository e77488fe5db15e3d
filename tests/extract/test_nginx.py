"""nginx as a test server: each of its behaviours once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extract.http_client import ask, ask_on, connect
from support import packages
from support.nginx import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.nginx import Nginx

DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
TEXT = b'{"name":"' + b"x" * 1000 + b'"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_bytes(TEXT)
    (tmp_path / "big.gz").write_bytes(bytes(20_000_000))
    return tmp_path


@pytest.fixture
def real(folder: Path) -> Iterator[Nginx]:
    with serving(folder) as server:
        yield server


def test_nginx_serves_a_file_with_its_length_and_a_strong_etag(real: Nginx) -> None:
    answer = ask(real.url + "/a.json")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, TEXT, str(len(TEXT)))
    assert answer.headers["etag"].startswith('"')


def test_nginx_answers_304_to_its_own_etag(real: Nginx) -> None:
    etag = ask(real.url + "/a.json").headers["etag"]
    assert ask(real.url + "/a.json", if_none_match=etag).status == 304


def test_nginx_answers_304_to_its_own_date(real: Nginx) -> None:
    date = ask(real.url + "/a.json").headers["last-modified"]
    assert ask(real.url + "/a.json", if_modified_since=date).status == 304


def test_nginx_resumes_with_if_range(real: Nginx) -> None:
    etag = ask(real.url + "/a.json").headers["etag"]
    answer = ask(real.url + "/a.json", range="bytes=5-", if_range=etag)
    assert (answer.status, answer.body) == (206, TEXT[5:])


def test_nginx_compresses_for_a_client_that_lets_it(real: Nginx) -> None:
    ask(real.url + "/a.json", accept_encoding="gzip")
    assert [request.content_encoding for request in real.requests()] == ["gzip"]


def test_nginx_serves_a_changed_file_at_once(real: Nginx, folder: Path) -> None:
    ask(real.url + "/a.json")
    (folder / "a.json").write_bytes(b"other")
    assert ask(real.url + "/a.json").body == b"other"


def test_nginx_logs_the_requests(real: Nginx) -> None:
    ask(real.url + "/a.json", range="bytes=0-4", if_none_match='"a"', if_modified_since=DATE)
    (asked,) = real.requests()
    assert (asked.method, asked.uri, asked.status, asked.body_bytes_sent) == ("GET", "/a.json", 206, 5)
    assert (asked.http_range, asked.http_if_none_match, asked.http_if_modified_since) == ("bytes=0-4", '"a"', DATE)


def test_nginx_writes_none_for_headers_that_were_not_sent(real: Nginx) -> None:
    ask(real.url + "/a.json")
    (asked,) = real.requests()
    assert (asked.http_range, asked.http_if_none_match, asked.content_encoding) == (None, None, None)


def test_nginx_counts_whole_bodies_only(real: Nginx) -> None:
    etag = ask(real.url + "/a.json").headers["etag"]
    ask(real.url + "/a.json", if_none_match=etag)
    ask(real.url + "/a.json", "HEAD")
    ask(real.url + "/a.json", range="bytes=0-4")
    ask(real.url + "/missing")
    assert real.bodies() == Counter({"/a.json": 1})


def test_nginx_counts_the_bytes_of_ranges_apart(real: Nginx) -> None:
    ask(real.url + "/a.json")
    ask(real.url + "/a.json", range="bytes=0-4")
    assert real.range_bytes() == Counter({"/a.json": 5})


def test_nginx_counts_the_bytes_of_all_bodies(real: Nginx) -> None:
    ask(real.url + "/a.json")
    ask(real.url + "/a.json", range="bytes=0-4")
    assert real.bytes_sent() == len(TEXT) + 5


def test_nginx_counts_no_body_for_a_client_that_left_in_the_middle(real: Nginx) -> None:
    connection = connect(real.url)
    connection.request("GET", "/big.gz")
    with connection.getresponse() as response:
        response.read(1000)
    connection.close()
    assert [(request.uri, request.completed) for request in real.requests()] == [("/big.gz", False)]
    assert real.bodies() == Counter()


def test_every_answered_request_is_in_the_log(real: Nginx) -> None:
    connection = connect(real.url)
    for number in range(1, 101):
        ask_on(connection, real.url + "/a.json")
        assert len(real.requests()) == number
    connection.close()


def test_a_limited_nginx_keeps_most_of_a_large_file_for_later(folder: Path) -> None:
    with serving(folder, limit_rate="10k") as server:
        connection = connect(server.url)
        connection.request("GET", "/big.gz")
        with connection.getresponse() as response:
            response.read(1000)
        connection.close()
        assert server.bytes_sent() < 1_000_000


def test_two_nginx_at_once_have_their_own_ports_and_logs(real: Nginx, folder: Path) -> None:
    with serving(folder) as other:
        ask(other.url + "/a.json")
        assert (len(real.requests()), len(other.requests())) == (0, 1)


def test_nginx_is_gone_afterwards(folder: Path) -> None:
    with serving(folder) as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        ask(server.url + "/a.json")


def test_an_nginx_that_does_not_start_says_why(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="limit_rate"), serving(folder, limit_rate="nonsense"):
        pass


def test_without_nginx_and_a_way_to_install_it_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(packages, "_find", lambda _name: None)
    with pytest.raises(RuntimeError, match="nginx-light"), serving(folder):
        pass
