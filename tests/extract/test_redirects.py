"""Redirects: followed, but not for ever, and with the secrets of a source to its own server only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Result
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from extract.running import Here
    from support.badserver import BadServer

BODY = pattern(1000)
OTHER = pattern(900, 1)
ETAG = '"a"'
AUTHORIZATION = {"Authorization": "Bearer 0123456789"}


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(here: Here, bad: BadServer, code: int) -> None:
    bad.script("/b", answers.whole(BODY))
    here.fetch(bad.script("/a", answers.redirect(f"{bad.url}/b", code)))
    assert here.body() == BODY


@pytest.mark.parametrize(
    ("start", "to"), [("/x/a", "/b"), ("/x/a", "../b"), ("/a", "b"), ("/a", "./x/../b"), ("/a", "b#c")]
)
def test_a_relative_redirect_is_followed(here: Here, bad: BadServer, start: str, to: str) -> None:
    bad.script("/b", answers.whole(BODY))
    here.fetch(bad.script(start, answers.redirect(to)))
    assert here.body() == BODY


def test_a_redirect_without_scheme_is_followed(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    here.fetch(bad.script("/a", answers.redirect(f"//127.0.0.1:{bad.port}/b")))
    assert here.body() == BODY


def test_the_name_of_the_file_is_that_of_the_source_and_not_of_the_target(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    here.fetch(bad.script("/a", answers.redirect("/b")))
    assert here.files == ["systems/a"]


def test_conditions_are_asked_of_the_target(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY, ETAG))
    url = bad.script("/a", answers.redirect("/b"))
    here.fetch(url)
    assert (here.fetch(url).result, bad.requests[-1].headers["if-none-match"]) == (Result.UNCHANGED, ETAG)


def test_a_cut_body_is_gone_on_with_behind_a_redirect(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.cut_at(400, BODY, ETAG), answers.whole(BODY, ETAG))
    here.fetch(bad.script("/a", answers.redirect("/b")))
    assert (here.body(), bad.bodies["/b"]) == (BODY, len(BODY))


def test_a_redirect_to_itself_fails(here: Here, bad: BadServer) -> None:
    outcome = here.fetch(bad.script("/a", answers.redirect_loop()), redirects_max=3)
    assert (outcome.result, len(bad.requests)) == (Result.FAILED, 4)


def test_too_many_redirects_fail(here: Here, bad: BadServer) -> None:
    for number in range(4):
        bad.script(f"/{number}", answers.redirect(f"/{number + 1}"))
    bad.script("/4", answers.whole(BODY))
    assert here.fetch(f"{bad.url}/0", redirects_max=3).result is Result.FAILED


def test_as_many_redirects_as_allowed_are_followed(here: Here, bad: BadServer) -> None:
    for number in range(3):
        bad.script(f"/{number}", answers.redirect(f"/{number + 1}"))
    bad.script("/3", answers.whole(BODY))
    assert here.fetch(f"{bad.url}/0", redirects_max=3).result is Result.NEW


def test_no_redirect_is_followed_when_none_is_allowed(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    outcome = here.fetch(bad.script("/a", answers.redirect("/b")), redirects_max=0)
    assert (outcome.result, len(bad.requests)) == (Result.FAILED, 1)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://host/x", "http://[::1", "http://a b/", "javascript:1"])
def test_a_redirect_to_nowhere_fails_at_once(here: Here, bad: BadServer, to: str) -> None:
    outcome = here.fetch(bad.script("/a", answers.redirect(to)))
    assert (outcome.result, len(bad.requests), here.files) == (Result.FAILED, 1, [])


def test_headers_follow_a_redirect_to_the_same_server(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    here.one(source(bad.script("/a", answers.redirect(f"{bad.url}/b")), headers=AUTHORIZATION))
    assert bad.requests[-1].headers["authorization"] == AUTHORIZATION["Authorization"]


@pytest.mark.parametrize("to", ["/b", "{url}/b"], ids=["relative", "absolute"])
def test_userinfo_follows_a_redirect_to_the_same_server(here: Here, bad: BadServer, to: str) -> None:
    bad.script("/b", answers.whole(BODY))
    url = bad.script("/a", answers.redirect(to.format(url=bad.url)))
    here.fetch(url.replace("//", "//user:password@"))
    first, second = (request.headers.get("authorization") for request in bad.requests)
    assert first == second is not None


@pytest.mark.parametrize("where", ["source", "defaults"])
@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Cookie"])
def test_headers_do_not_follow_a_redirect_to_another_server(here: Here, bad: BadServer, name: str, where: str) -> None:
    headers = {name: "0123456789"}
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        of_source, of_all = (headers, {}) if where == "source" else ({}, headers)
        here.one(source(url, headers=of_source), headers=of_all)
        assert name.lower() in bad.requests[0].headers
        assert "0123456789" not in str(other.requests[0].headers)


def test_userinfo_does_not_follow_a_redirect_to_another_server(here: Here, bad: BadServer) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        here.fetch(url.replace("//", "//user:password@"))
        assert "authorization" not in other.requests[0].headers


def test_headers_do_not_come_back_with_a_redirect_from_another_server(here: Here, bad: BadServer) -> None:
    bad.script("/c", answers.whole(BODY))
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.redirect(f"{bad.url}/c"))))
        here.one(source(url, headers=AUTHORIZATION))
    assert "authorization" not in bad.requests[-1].headers


def test_a_configured_authorization_is_stronger_than_netrc(
    here: Here, bad: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    here.one(source(bad.script("/a", answers.whole(BODY)), headers=AUTHORIZATION))
    assert bad.requests[-1].headers["authorization"] == AUTHORIZATION["Authorization"]


def test_a_cookie_of_one_source_is_not_sent_for_another(here: Here, bad: BadServer) -> None:
    first = bad.script("/a", answers.whole(BODY, headers={"Set-Cookie": "session=0123456789"}))
    here.run(source(first, source_id="a"), source(bad.script("/b", answers.whole(OTHER)), source_id="b"))
    assert "cookie" not in bad.asked("/b")[0].headers


def test_a_cookie_that_comes_with_a_redirect_is_sent_to_its_target(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    redirect = answers.exactly(
        302, {"Location": "/b", "Set-Cookie": "seen=yes", "Content-Length": "0", "Connection": "close"}
    )
    here.fetch(bad.script("/a", redirect))
    assert bad.requests[-1].headers.get("cookie") == "seen=yes"


def test_the_headers_of_a_source_are_stronger_than_the_defaults(here: Here, bad: BadServer) -> None:
    here.one(source(bad.script("/a", answers.whole(BODY)), headers={"x-key": "own"}), headers={"X-Key": "default"})
    assert bad.requests[-1].headers["x-key"] == "own"
