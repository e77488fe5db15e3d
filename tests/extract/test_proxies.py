"""The proxy of a source, a real one on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Result
from support import answers
from support.badserver import misbehaving
from support.certificates import Authority
from support.proxy import Asked, proxying

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.running import Here
    from support.badserver import BadServer
    from support.proxy import Proxy

BODY = pattern(1000)
USERINFO = "user:p@ss word"
ESCAPED = "user:p%40ss%20word"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxying() as found:
        yield found


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "authority")


def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose proxy is not there."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for one in (name, name.upper()):
            monkeypatch.setenv(one, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_source_is_fetched_through_its_proxy(here: Here, bad: BadServer, proxy: Proxy) -> None:
    url = bad.script("/a", answers.whole(BODY))
    assert here.one(source(url, proxy=proxy.url)).result is Result.NEW
    assert proxy.asked == [Asked("GET", url, None)]


def test_over_tls_it_is_a_tunnel(here: Here, proxy: Proxy, authority: Authority) -> None:
    with misbehaving(authority.context()) as server:
        url = server.script("/a", answers.whole(BODY))
        assert here.one(source(url, proxy=proxy.url, ca=authority.ca)).result is Result.NEW
    assert proxy.asked == [Asked("CONNECT", f"127.0.0.1:{server.port}", None)]


def test_a_certificate_is_shown_through_the_tunnel(here: Here, proxy: Proxy, authority: Authority) -> None:
    one = authority.issue("etl")
    with misbehaving(authority.context(wants_clients=True)) as server:
        url = server.script("/a", answers.whole(BODY))
        assert here.one(source(url, proxy=proxy.url, ca=authority.ca, cert=one.cert, key=one.key)).error is None
        assert server.requests[0].client == "etl"


def test_the_proxy_of_a_source_is_stronger_than_the_defaults(here: Here, bad: BadServer, proxy: Proxy) -> None:
    url = bad.script("/a", answers.whole(BODY))
    assert here.one(source(url, proxy=proxy.url), proxy="http://127.0.0.1:1").result is Result.NEW


def test_the_proxy_of_the_defaults_counts_for_all(here: Here, bad: BadServer, proxy: Proxy) -> None:
    assert here.fetch(bad.script("/a", answers.whole(BODY)), proxy=proxy.url).result is Result.NEW
    assert len(proxy.asked) == 1


def test_a_proxy_is_stronger_than_the_environment(
    here: Here, bad: BadServer, proxy: Proxy, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    assert here.one(source(bad.script("/a", answers.whole(BODY)), proxy=proxy.url)).result is Result.NEW
    with misbehaving(authority.context()) as server:
        url = server.script("/a", answers.whole(BODY[1:]))
        assert here.one(source(url, source_id="b", proxy=proxy.url, ca=authority.ca)).result is Result.NEW


def test_a_proxy_is_stronger_than_no_proxy_of_the_environment(
    here: Here, bad: BadServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    here.one(source(bad.script("/a", answers.whole(BODY)), proxy=proxy.url))
    assert len(proxy.asked) == 1


def test_none_means_no_proxy_whatever_the_environment_and_the_defaults_say(
    here: Here, bad: BadServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    one = source(bad.script("/a", answers.whole(BODY)), proxy="none")
    assert (here.one(one, proxy=proxy.url).result, proxy.asked) == (Result.NEW, [])


def test_an_empty_proxy_takes_back_the_defaults(
    here: Here, bad: BadServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    one = source(bad.script("/a", answers.whole(BODY)), proxy="")
    assert (here.one(one, proxy=proxy.url).result, proxy.asked) == (Result.NEW, [])


def test_the_proxy_stays_behind_a_redirect_to_another_server(here: Here, bad: BadServer, proxy: Proxy) -> None:
    with misbehaving() as other:
        target = other.script("/b", answers.whole(BODY))
        url = bad.script("/a", answers.redirect(target))
        here.one(source(url, proxy=proxy.url))
    assert [asked.target for asked in proxy.asked] == [url, target]


def test_credentials_go_to_the_proxy_and_not_to_the_server(here: Here, bad: BadServer, authority: Authority) -> None:
    with proxying(USERINFO) as proxy, misbehaving(authority.context()) as server:
        address = proxy.url.replace("://", f"://{ESCAPED}@")
        plain = source(bad.script("/a", answers.whole(BODY)), proxy=address)
        secure = source(server.script("/a", answers.whole(BODY[1:])), source_id="b", proxy=address, ca=authority.ca)
        assert [outcome.result for outcome in here.run(plain, secure).outcomes] == [Result.NEW, Result.NEW]
        assert [asked.userinfo for asked in proxy.asked] == [USERINFO, USERINFO]
        assert not [name for request in bad.requests + server.requests for name in request.headers if "auth" in name]


def test_a_proxy_that_refuses_the_credentials_is_named_at_once(
    here: Here, bad: BadServer, authority: Authority
) -> None:
    with proxying(USERINFO) as proxy:
        plain = here.one(source(bad.script("/a", answers.whole(BODY)), proxy=proxy.url))
        secure = here.one(source("https://127.0.0.1:9/a", proxy=proxy.url, ca=authority.ca))
    for outcome in (plain, secure):
        assert "the proxy wants other credentials: correct proxy" in (outcome.error or "")
    assert (here.waits, bad.requests) == ([], [])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_named(here: Here, scheme: str) -> None:
    outcome = here.one(source(f"{scheme}://127.0.0.1:9/a", proxy="http://127.0.0.1:1"), retries=0)
    assert "the proxy refuses or does not answer (Connection refused): correct proxy" in (outcome.error or "")


def test_a_proxy_whose_name_nobody_knows_is_named(here: Here) -> None:
    outcome = here.one(source("http://127.0.0.1:9/a", proxy="http://nowhere.invalid:3128"), retries=0)
    assert "the proxy refuses or does not answer" in (outcome.error or "")


def test_a_proxy_that_speaks_tls_sees_no_client_certificate(here: Here, bad: BadServer, authority: Authority) -> None:
    one = authority.issue("etl")
    with proxying(context=authority.context(wants_clients=True)) as proxy:
        url = bad.script("/a", answers.whole(BODY))
        outcome = here.one(source(url, proxy=proxy.url, ca=authority.ca), cert=one.cert, key=one.key, retries=0)
        assert (outcome.result, proxy.asked) == (Result.FAILED, [])


def test_a_proxy_that_speaks_tls_is_used(here: Here, bad: BadServer, authority: Authority) -> None:
    with proxying(context=authority.context()) as proxy:
        outcome = here.one(source(bad.script("/a", answers.whole(BODY)), proxy=proxy.url, ca=authority.ca))
        assert (outcome.result, len(proxy.asked)) == (Result.NEW, 1)


# -- SOCKS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("userinfo", [None, "user:password"])
def test_a_socks_proxy_is_used_with_and_without_tls(
    here: Here, bad: BadServer, authority: Authority, userinfo: str | None
) -> None:
    with proxying(userinfo, socks=True) as proxy, misbehaving(authority.context()) as server:
        address = proxy.url.replace("://", f"://{userinfo}@") if userinfo else proxy.url
        plain = source(bad.script("/a", answers.whole(BODY)), proxy=address)
        secure = source(server.script("/a", answers.whole(BODY[1:])), source_id="b", proxy=address, ca=authority.ca)
        assert [outcome.error for outcome in here.run(plain, secure).outcomes] == [None, None]
        targets = {f"127.0.0.1:{port}" for port in (bad.port, server.port)}
        assert {(asked.target, asked.userinfo) for asked in proxy.asked} == {(name, userinfo) for name in targets}


def test_a_socks_proxy_of_the_environment_is_used_over_tls(
    here: Here, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    with proxying(socks=True) as proxy, misbehaving(authority.context()) as server:
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
        assert here.fetch(server.script("/a", answers.whole(BODY))).error is None
        assert len(proxy.asked) == 1


def test_a_body_that_is_cut_behind_a_socks_proxy_fails(here: Here, authority: Authority) -> None:
    with proxying(socks=True) as proxy, misbehaving(authority.context()) as server:
        cut = answers.exactly(200, {"Connection": "close"}, BODY)  # without a length, and without TLS's end mark
        outcome = here.one(source(server.script("/a", cut), proxy=proxy.url, ca=authority.ca), retries=0)
        assert "without TLS's end mark" in (outcome.error or "")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_socks_proxy_that_is_not_there_is_named(here: Here, scheme: str) -> None:
    outcome = here.one(source(f"{scheme}://127.0.0.1:9/a", proxy="socks5h://127.0.0.1:1"), retries=0)
    assert "the proxy refuses or does not answer" in (outcome.error or "")


def test_a_socks_proxy_that_refuses_the_credentials_is_named_at_once(here: Here, bad: BadServer) -> None:
    with proxying("user:password", socks=True) as proxy:
        address = proxy.url.replace("://", "://user:wrong@")
        outcome = here.one(source(bad.script("/a", answers.whole(BODY)), proxy=address))
        assert "the proxy wants other credentials: correct proxy" in (outcome.error or "")
        assert (here.waits, proxy.asked) == ([], [])


def test_a_socks_proxy_that_cannot_reach_the_server_is_named(here: Here) -> None:
    with proxying(socks=True) as proxy:
        outcome = here.one(source("http://127.0.0.1:1/a", proxy=proxy.url), retries=0)
        assert ("the proxy refuses or does not answer" in (outcome.error or ""), len(proxy.asked)) == (True, 1)


# -- what servers say --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "words"), [(400, "cert if it wants one"), (405, "set method"), (415, "Content-Type")])
def test_a_status_that_a_setting_may_mend_names_it(here: Here, bad: BadServer, code: int, words: str) -> None:
    assert words in (here.fetch(bad.script("/a", answers.status(code))).error or "")
