"""Client certificates and authorities of a source, against a real server over TLS that demands them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import PipelineOrchestrator, Result, plan_all
from support import answers
from support.badserver import misbehaving
from support.certificates import Authority, Issued

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from extract.running import Here
    from manifestlog.extract import ETLSource
    from support.badserver import BadServer

BODY = pattern(1000)
OTHER = pattern(900, 1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Issued:
    return authority.issue("etl")


@pytest.fixture(scope="module")
def demanding(authority: Authority) -> ssl.SSLContext:
    return authority.context(wants_clients=True)


@pytest.fixture
def server(demanding: ssl.SSLContext) -> Iterator[BadServer]:
    """A server that nobody vouches for but the authority, and that wants to know who asks."""
    with misbehaving(demanding) as found:
        yield found


def shown(authority: Authority, client: Issued, url: str, **more: Any) -> ETLSource:
    """A source that shows its certificate."""
    return source(url, source_id="a", dataset="systems", ca=authority.ca, cert=client.cert, key=client.key, **more)


# -- the right ones ----------------------------------------------------------------------------------------------------


def test_a_client_certificate_is_shown(here: Here, server: BadServer, authority: Authority, client: Issued) -> None:
    outcome = here.one(shown(authority, client, server.script("/a", answers.whole(BODY))))
    assert (outcome.result, outcome.error, server.requests[0].client) == (Result.NEW, None, "etl")


def test_the_defaults_count_where_a_source_says_nothing(
    here: Here, server: BadServer, authority: Authority, client: Issued
) -> None:
    url = server.script("/a", answers.whole(BODY))
    defaults: Any = {"ca": authority.ca, "cert": client.cert, "key": client.key}
    assert (here.fetch(url, **defaults).result, server.requests[0].client) == (Result.NEW, "etl")


def test_the_certificate_of_a_source_is_stronger_than_the_defaults(
    here: Here, server: BadServer, authority: Authority, client: Issued
) -> None:
    other = authority.issue("other")
    url = server.script("/a", answers.whole(BODY))
    outcome = here.one(shown(authority, client, url), cert=other.cert, key=other.key, ca="/nowhere")
    assert (outcome.error, server.requests[0].client) == (None, "etl")


def test_one_file_may_hold_both(
    here: Here, server: BadServer, authority: Authority, client: Issued, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(client.cert.read_bytes() + client.key.read_bytes())
    url = server.script("/a", answers.whole(BODY))
    # The key of the defaults belongs to another certificate.
    one = source(url, source_id="a", dataset="systems", ca=authority.ca, cert=both)
    assert here.one(one, cert=authority.ca, key=authority.key).result is Result.NEW


def test_ca_is_stronger_than_the_environment(
    here: Here, server: BadServer, authority: Authority, client: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority.make(authority.folder / "other")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca))
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere/ca.pem")
    assert here.one(shown(authority, client, server.script("/a", answers.whole(BODY)))).result is Result.NEW


def test_a_source_without_a_certificate_never_uses_the_connection_of_one_that_has(
    here: Here, server: BadServer, authority: Authority, client: Issued
) -> None:
    first = shown(authority, client, server.script("/a", answers.whole(BODY)))
    second = source(server.script("/b", answers.whole(OTHER)), source_id="b", dataset="systems", ca=authority.ca)
    outcomes = here.run(first, second).outcomes
    assert [outcome.result for outcome in outcomes] == [Result.NEW, Result.FAILED]
    assert [request.path for request in server.requests] == ["/a"]


def test_a_worker_shows_it_too(here: Here, server: BadServer, authority: Authority, client: Issued) -> None:
    one = shown(authority, client, server.script("/a", answers.whole(BODY)))
    report = PipelineOrchestrator(here.manifest, data_dir=here.data_dir).run([one], asked_to_stop=int)
    assert [outcome.result for outcome in report.outcomes] == [Result.NEW]


def test_a_plan_shows_it_too(here: Here, server: BadServer, authority: Authority, client: Issued) -> None:
    one = shown(authority, client, server.script("/a", answers.whole(BODY)))
    (plan,) = plan_all(here.manifest, [one])
    assert (plan.action, server.requests[0].method, server.requests[0].client) == ("fetch", "HEAD", "etl")


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_a_certificate_follows_a_redirect_to_the_same_server(
    here: Here, server: BadServer, authority: Authority, client: Issued
) -> None:
    server.script("/b", answers.whole(BODY))
    outcome = here.one(shown(authority, client, server.script("/a", answers.redirect("/b"))))
    assert (outcome.result, server.requests[-1].client) == (Result.NEW, "etl")


def test_a_certificate_does_not_follow_a_redirect_to_another_server(
    here: Here, server: BadServer, authority: Authority, client: Issued, demanding: ssl.SSLContext
) -> None:
    with misbehaving(demanding) as other:
        url = server.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        outcome = here.one(shown(authority, client, url))
        assert (outcome.result, other.requests) == (Result.FAILED, [])


def test_a_certificate_does_not_come_back_from_another_server(
    here: Here, server: BadServer, authority: Authority, client: Issued
) -> None:
    server.script("/c", answers.whole(BODY))
    with misbehaving(authority.context()) as other:
        url = server.script("/a", answers.redirect(other.script("/b", answers.redirect(f"{server.url}/c"))))
        outcome = here.one(shown(authority, client, url))
        assert (outcome.result, other.requests[0].client, len(server.requests)) == (Result.FAILED, None, 1)


def test_ca_counts_behind_a_redirect(here: Here, server: BadServer, authority: Authority, client: Issued) -> None:
    with misbehaving(authority.context()) as other:
        url = server.script("/a", answers.redirect(other.script("/b", answers.whole(BODY))))
        assert here.one(shown(authority, client, url)).result is Result.NEW


# -- the wrong ones ----------------------------------------------------------------------------------------------------


def test_a_server_that_wants_a_certificate_is_named(here: Here, server: BadServer, authority: Authority) -> None:
    outcome = here.fetch(server.script("/a", answers.whole(BODY)), ca=authority.ca)
    assert outcome.error == "the server wants a client certificate: set cert, and key, for the source"
    assert here.waits == []


def test_a_certificate_that_the_server_refuses_is_named(
    here: Here, server: BadServer, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority.make(tmp_path / "strangers").issue("stranger")
    outcome = here.one(shown(authority, stranger, server.script("/a", answers.whole(BODY))))
    assert "the server refuses the client certificate (unknown ca): correct cert and key" in (outcome.error or "")
    assert (here.waits, server.requests) == ([], [])


def test_a_server_that_speaks_an_older_tls_is_named_as_well(here: Here, authority: Authority, tmp_path: Path) -> None:
    context = authority.context(wants_clients=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # it refuses within the handshake
    stranger = Authority.make(tmp_path / "strangers").issue("stranger")
    with misbehaving(context) as server:
        url = server.script("/a", answers.whole(BODY))
        assert "set cert, and key" in (here.fetch(url, ca=authority.ca).error or "")
        assert "refuses the client certificate" in (here.one(shown(authority, stranger, url)).error or "")
    assert here.waits == []


def test_a_server_of_another_authority_is_not_trusted(
    here: Here, server: BadServer, client: Issued, tmp_path: Path
) -> None:
    other = Authority.make(tmp_path / "other")
    outcome = here.one(shown(other, client, server.script("/a", answers.whole(BODY))))
    assert "is not trusted" in (outcome.error or "")
    assert "ca for the source" in (outcome.error or "")


def test_an_encrypted_key_is_named_and_nobody_is_asked_for_its_password(
    here: Here, server: BadServer, authority: Authority
) -> None:
    one = authority.issue("encrypted", encrypted=True)
    outcome = here.one(shown(authority, one, server.script("/a", answers.whole(BODY))))
    assert (outcome.error or "").startswith("key: it is encrypted")
    assert (here.waits, server.requests) == ([], [])


def test_an_encrypted_key_within_the_certificate_s_file_is_named(
    here: Here, server: BadServer, authority: Authority, tmp_path: Path
) -> None:
    one, both = authority.issue("encrypted", encrypted=True), tmp_path / "both.pem"
    both.write_bytes(one.cert.read_bytes() + one.key.read_bytes())
    outcome = here.one(source(server.script("/a", answers.whole(BODY)), ca=authority.ca, cert=both))
    assert (outcome.error or "").startswith("key: it is encrypted")


def test_a_key_of_another_certificate_is_named(
    here: Here, server: BadServer, authority: Authority, client: Issued
) -> None:
    one = Issued(client.cert, authority.issue("other").key)
    outcome = here.one(shown(authority, one, server.script("/a", answers.whole(BODY))))
    assert outcome.error == "key: it is not the key of the certificate: correct cert or key"


@pytest.mark.parametrize("field", ["cert", "key", "ca"])
@pytest.mark.parametrize("content", [b"", b"no PEM", None], ids=["empty", "no PEM", "gone"])
def test_a_file_that_cannot_be_used_is_named(
    here: Here,
    server: BadServer,
    authority: Authority,
    client: Issued,
    tmp_path: Path,
    field: str,
    content: bytes | None,
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    files: Any = {"ca": authority.ca, "cert": client.cert, "key": client.key} | {field: path}
    outcome = here.one(source(server.script("/a", answers.whole(BODY)), **files))
    assert (outcome.error or "").startswith("ca: " if field == "ca" else "cert: ")
    assert (here.waits, server.requests) == ([], [])


def test_one_source_that_cannot_show_its_certificate_stops_nobody(
    here: Here, server: BadServer, authority: Authority, client: Issued
) -> None:
    right = shown(authority, client, server.script("/a", answers.whole(BODY)))
    wrong = source(server.url, source_id="b", ca=authority.ca, cert=authority.issue("encrypted", encrypted=True).cert)
    results = {outcome.source_id: outcome.result for outcome in here.run(wrong, right).outcomes}
    assert results == {"a": Result.NEW, "b": Result.FAILED}
