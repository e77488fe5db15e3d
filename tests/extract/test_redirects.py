"""Redirects: followed up to a limit, with a source's secrets sent to its own server only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extract.builders import raw_config, raw_source, source
from extract.running import pattern
from manifestlog.extract import RemoteFetcher, Result, load_config
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from extract.builders import Write
    from extract.running import Here
    from support.badserver import BadServer, Exchange, Step

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


def test_a_cut_body_is_resumed_after_a_redirect(here: Here, bad: BadServer) -> None:
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


NO_CREDENTIALS = {
    "Accept": "text/csv", "User-Agent": "galaxy-etl/1.0", "X-Purpose": "nightly", "Accept-Language": "en-GB,en;q=0.9",
    "From": "etl1@example.org", "X-Api-Version": "2022-11-28", "X-Team": "number 12 of many",
}  # fmt: skip


@pytest.mark.parametrize("where", ["source", "defaults"])
@pytest.mark.parametrize("name", NO_CREDENTIALS)
def test_other_headers_follow_a_redirect_to_another_server(here: Here, bad: BadServer, name: str, where: str) -> None:
    headers = {name: NO_CREDENTIALS[name]}
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        of_source, of_all = (headers, {}) if where == "source" else ({}, headers)
        here.one(source(url, headers=of_source), headers=of_all)
        assert other.requests[0].headers[name.lower()] == NO_CREDENTIALS[name]


def test_other_headers_follow_a_redirect_to_another_name_of_the_server(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    url = bad.script("/a", answers.redirect(f"{bad.url.replace('127.0.0.1', 'localhost')}/b"))
    here.one(source(url, headers=NO_CREDENTIALS | AUTHORIZATION))
    assert (bad.requests[-1].headers["accept"], "authorization" in bad.requests[-1].headers) == ("text/csv", False)


CREDENTIALS = ["Proxy-Authorization", "X-Auth-Token", "PRIVATE-TOKEN", "Ocp-Apim-Subscription-Key", "X-Amz-Signature",
               "X-CSRFToken", "Session-Id", "Api_Secret", "Referer", "Host"]  # fmt: skip


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_header_named_like_a_credential_does_not_follow(here: Here, bad: BadServer, name: str) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        here.one(source(url, headers={name: "0123456789"}))
        assert "0123456789" not in str(other.requests[0].headers)


@pytest.mark.parametrize("where", ["source", "defaults"])
@pytest.mark.parametrize("value", ["${WHO}", "of ${WHO}, nightly"])
def test_a_header_from_the_environment_does_not_follow_whatever_its_name(
    here: Here, bad: BadServer, write: Write, where: str, value: str
) -> None:
    headers = {"X-Purpose": value, "Accept": "text/csv"}
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        raw = raw_config(raw_source(url=url, **({"headers": headers} if where == "source" else {})))
        config = load_config(
            write(raw | ({"defaults": {"headers": headers}} if where == "defaults" else {})), {"WHO": "t"}
        )
        here.run(*config.sources, fetcher=RemoteFetcher(config.defaults))
        assert "x-purpose" in bad.requests[0].headers
        assert ("x-purpose" in other.requests[0].headers, other.requests[0].headers["accept"]) == (False, "text/csv")


def test_a_header_from_the_environment_does_not_follow_in_a_worker(here: Here, bad: BadServer, write: Write) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        config = load_config(write(raw_config(raw_source(url=url, headers={"X-Purpose": "${WHO}"}))), {"WHO": "t"})
        here.run(*pickle.loads(pickle.dumps(config.sources)))
        assert "x-purpose" not in other.requests[0].headers


def test_a_value_that_looks_like_a_token_does_not_follow_under_an_unknown_name(here: Here, bad: BadServer) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        here.one(source(url, headers={"X-Purpose": "d3adbeef"}))
        assert "x-purpose" not in other.requests[0].headers


def test_a_secret_that_was_given_does_not_follow_whatever_its_name(here: Here, bad: BadServer) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        here.run(source(url, headers={"X-Purpose": "of 0123456789"}), secrets=["0123456789"])
        assert "x-purpose" not in other.requests[0].headers


def test_the_landing_page_is_not_registered_in_place_of_the_data(here: Here, bad: BadServer) -> None:
    def negotiates(exchange: Exchange) -> None:
        accepts = exchange.request.headers.get("accept") == "text/csv"
        answers.whole(BODY if accepts else b"<html>landing page</html>")(exchange)

    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", negotiates)))
        here.one(source(url, source_id="a", dataset="systems", headers={"Accept": "text/csv"}))
        assert here.body() == BODY


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
    here.fetch(bad.script("/a", with_cookie("/b")))
    assert bad.requests[-1].headers.get("cookie") == "seen=yes"


def with_cookie(to: str) -> Step:
    """A redirect that sets a cookie."""
    headers = {"Location": to, "Set-Cookie": "seen=yes", "Content-Length": "0", "Connection": "close"}
    return answers.exactly(302, headers)


def test_a_cookie_that_comes_with_a_redirect_is_not_sent_to_another_server(here: Here, bad: BadServer) -> None:
    target = bad.script("/b", answers.whole(BODY)).replace("127.0.0.1", "localhost")
    here.fetch(bad.script("/a", with_cookie(target)))
    assert (len(bad.requests), "cookie" in bad.requests[-1].headers) == (2, False)


def test_a_configured_cookie_is_stronger_than_one_that_comes_with_a_redirect(here: Here, bad: BadServer) -> None:
    bad.script("/b", answers.whole(BODY))
    here.one(source(bad.script("/a", with_cookie("/b")), headers={"Cookie": "own=yes"}))
    assert bad.requests[-1].headers["cookie"] == "own=yes"


def test_the_headers_of_a_source_are_stronger_than_the_defaults(here: Here, bad: BadServer) -> None:
    here.one(source(bad.script("/a", answers.whole(BODY)), headers={"x-key": "own"}), headers={"X-Key": "default"})
    assert bad.requests[-1].headers["x-key"] == "own"
