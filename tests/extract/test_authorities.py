"""Whom `extract` trusts without `ca`, and connections that show a certificate."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Result
from support import answers
from support.badserver import misbehaving
from support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.running import Here
    from support.badserver import BadServer

BODY = pattern(1000)
OTHER = pattern(900, 1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority) -> Iterator[BadServer]:
    """A server that takes clients with and without a certificate."""
    context = authority.context(wants_clients=True)
    context.verify_mode = ssl.CERT_OPTIONAL
    with misbehaving(context) as found:
        yield found


@pytest.fixture(autouse=True)
def _without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def test_an_unknown_authority_is_not_trusted(here: Here, server: BadServer) -> None:
    assert "is not trusted" in (here.fetch(server.script("/a", answers.whole(BODY))).error or "")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_authorities_of_the_environment_are_trusted(
    here: Here, server: BadServer, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(authority.ca))
    assert here.fetch(server.script("/a", answers.whole(BODY))).error is None


def test_the_first_variable_is_stronger(
    here: Here, server: BadServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere/ca.pem")
    assert here.fetch(server.script("/a", answers.whole(BODY))).error is None


def test_a_directory_of_authorities_is_trusted(
    here: Here, server: BadServer, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(authority.ca)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "authorities").mkdir()
    (tmp_path / "authorities" / f"{name}.0").symlink_to(authority.ca)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authorities"))
    assert here.fetch(server.script("/a", answers.whole(BODY))).error is None


def test_a_file_that_holds_no_certificate_is_reported(
    here: Here, server: BadServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nothing", encoding="ascii")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    outcome = here.fetch(server.script("/a", answers.whole(BODY)))
    assert ("your certificates" in (outcome.error or ""), here.waits) == (True, [])


def test_a_connection_that_shows_a_certificate_serves_no_source_without_it(
    here: Here, server: BadServer, authority: Authority
) -> None:
    one = authority.issue("etl")
    shows = source(server.script("/a", answers.whole(BODY)), source_id="a", ca=authority.ca, cert=one.cert, key=one.key)
    hides = source(server.script("/b", answers.whole(OTHER)), source_id="b", ca=authority.ca)
    assert [outcome.result for outcome in here.run(shows, hides).outcomes] == [Result.NEW, Result.NEW]
    assert [asked.client for asked in server.requests] == ["etl", None]
