"""Whatever fails, no secret of a source appears in any output or file."""

from __future__ import annotations

import base64
import json
import logging
import socket
import ssl
import subprocess
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import finish
from extract.builders import source
from extract.running import pattern
from extract.runs import Home, entry
from manifestlog.extract import (
    Defaults,
    ExtractConfig,
    FetchError,
    FetchRequest,
    PipelineOrchestrator,
    RemoteFetcher,
    Result,
    plan_all,
)  # fmt: skip
from support import answers
from support.badserver import misbehaving
from support.proxy import proxying

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from extract.running import Here
    from manifestlog.extract import ETLSource, Outcome
    from support.badserver import BadServer, Exchange, Step
    from support.nginx import Nginx

BODY = pattern(1000)
ETAG = '"a"'

MARK = "5ecret"
"""In every secret."""
USERINFO = f"user-{MARK}:pass-{MARK}"
QUERY = f"token=query-{MARK}&{MARK}"
HEADERS = {"X-Api-Key": f"key-{MARK}", "Cookie": f"session={MARK}"}
DEFAULTS = {"X-Default": f"default-{MARK}"}
ENVIRONMENT = f"environment-{MARK}"
BODIES: dict[str, str | dict[str, Any]] = {
    "text": f"user=somebody&token=body-{MARK}&{MARK}",
    "object": {"auth": {"token": f"body-{MARK}", "scopes": [f"scope-{MARK}"]}},
}

HIDDEN = (
    MARK,
    base64.b64encode(USERINFO.encode()).decode(),
    base64.b64encode(f"pass-{MARK}".encode()).decode(),
)

# On Python 3.13 urllib3 leaves the socket of an unparsable response to the garbage collector, which warns about it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def secretive(url: str, **more: Any) -> ETLSource:
    """A source at this URL with the mark in every secret; its path is the server's `/a` with the query."""
    return source(url.replace("://", f"://{USERINFO}@"), source_id="a", dataset="systems", headers=HEADERS, **more)


def scripted(bad: BadServer, *steps: Step) -> ETLSource:
    return secretive(bad.script(f"/a?{QUERY}", *steps))


def run(here: Here, one: ETLSource, **more: Any) -> Outcome:
    wanted = {"headers": DEFAULTS, "retries": 1, "timeout_read_s": 2.0} | more
    (outcome,) = here.run(one, secrets=[ENVIRONMENT], **wanted).outcomes
    return outcome


def shown(here: Here, outcome: Outcome, caplog: pytest.LogCaptureFixture) -> str:
    """Return all output, and everything on the disk except contents."""
    said = [repr(outcome), repr(here.events), str(here.events), caplog.text]
    said += [repr(vars(record)) for record in caplog.records]
    said += [repr(here.manifest), repr(dict(here.manifest.records)), repr(here.manifest.metadata)]
    said += [path.read_text(encoding="utf-8") for path in here.data_dir.rglob("*.part.json")]
    said += [str(path) for path in here.data_dir.rglob("*")]
    folder = here.manifest.path.parent
    said += [path.read_bytes().decode(errors="replace") for path in folder.iterdir() if path.is_file()]
    return "\n".join(said)


def found_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(secret in line for secret in HIDDEN)]


def header_without_colon(exchange: Exchange) -> None:
    exchange.frame(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nno colon here\r\n\r\n")
    exchange.body(BODY)
    exchange.hang_up()


FAILING: dict[str, tuple[Step, ...]] = {
    "401": (answers.status(401),),
    "403": (answers.status(403),),
    "404": (answers.status(404),),
    "503": (answers.status(503),),
    "429, later": (answers.status(429, 100_000),),
    "999": (answers.status(999),),
    "304": (answers.exactly(304, {}),),
    "cut": (answers.cut_at(400, BODY, ETAG),),
    "cut, chunked": (answers.chunked_cut(BODY, 400, ETAG),),
    "cut, then 404": (answers.cut_at(400, BODY, ETAG), answers.status(404)),
    "too short": (answers.wrong_length(BODY, 2000),),
    "two lengths": (answers.exactly(200, {"Content-Length": "5, 6"}),),
    "reset": (answers.reset(),),
    "reset in the middle": (answers.reset_at(400, BODY, ETAG),),
    "hung up": (answers.hangs_up(),),
    "no answer": (answers.never_answers(),),
    "empty": (answers.whole(b""),),
    "another range": (answers.cut_at(400, BODY, ETAG), answers.wrong_range(BODY, 7, ETAG)),
    "long headers": (answers.oversized_headers(),),
    "no HTTP": (lambda exchange: exchange.frame(b"\xff\xff\r\n\r\n"),),
    "redirect loop": (answers.redirect_loop(),),
    "redirect loop with a token": (answers.redirect(f"/a?{QUERY}"),),
    "redirect to nobody": (answers.redirect(f"http://nobody:{MARK}@127.0.0.1:1/x?{QUERY}"),),
    "redirect to an unknown name": (answers.redirect(f"http://nowhere.invalid/x?{QUERY}"),),
    "redirect to another scheme": (answers.redirect(f"ftp://nobody:{MARK}@host/x?{QUERY}"),),
    "redirect to no address": (answers.redirect(f"http://[::1/x?{QUERY}"),),
    "redirect to an impossible name": (answers.redirect(f"http://{'a' * 70}.example/x?{QUERY}"),),
}


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


# -- sources that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", FAILING.values(), ids=FAILING)
def test_a_source_that_fails_shows_no_secret(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture, steps: tuple[Step, ...]
) -> None:
    timeout = {"timeout_read_s": 0.1} if steps is FAILING["no answer"] else {}
    outcome = run(here, scripted(bad, *steps), **timeout)
    assert outcome.result is Result.FAILED
    assert found_in(shown(here, outcome, caplog)) == []


@pytest.mark.parametrize("steps", FAILING.values(), ids=FAILING)
def test_a_plan_that_fails_shows_no_secret(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture, steps: tuple[Step, ...]
) -> None:
    defaults = Defaults(headers=DEFAULTS, timeout_read_s=0.1)
    plans = list(plan_all(here.manifest, [scripted(bad, *steps)], defaults=defaults, secrets=[ENVIRONMENT]))
    assert found_in(repr(plans) + caplog.text) == []


@pytest.mark.parametrize("steps", FAILING.values(), ids=FAILING)
def test_an_error_of_the_fetcher_shows_no_secret(bad: BadServer, steps: tuple[Step, ...]) -> None:
    fetcher = RemoteFetcher(Defaults(headers=DEFAULTS, timeout_read_s=0.1))
    told = ""
    try:
        with fetcher.open(scripted(bad, *steps), FetchRequest()) as response:
            list(response.blocks())
    except FetchError as error:
        told = f"{error!r} {error} {vars(error)} {''.join(traceback.format_exception(error))}"
    assert found_in(told) == []


def test_a_refused_connection_shows_no_secret(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = run(here, secretive(f"http://127.0.0.1:{port}/a?{QUERY}"))
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


@pytest.mark.parametrize("host", ["nowhere.invalid", f"{'a' * 70}.example", "exa_mple..com", "[::1]:1", "xn--a"])
def test_an_invalid_host_shows_no_secret(here: Here, caplog: pytest.LogCaptureFixture, host: str) -> None:
    outcome = run(here, secretive(f"http://{host}/a?{QUERY}"))
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


def test_a_proxy_that_refuses_shows_no_secret(
    here: Here, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://proxy:{MARK}@127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    outcome = run(here, secretive(f"http://host.example/a?{QUERY}"))
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


@contextmanager
def self_signed(folder: Path) -> Iterator[int]:
    """A server with a self-signed certificate; yield its port."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=_shake_hands, args=(server, context))
        serving.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            serving.join()


def _shake_hands(server: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                continue


def test_a_certificate_that_is_not_trusted_fails_at_once_and_shows_no_secret(
    here: Here, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with self_signed(tmp_path) as port:
        outcome = run(here, secretive(f"https://127.0.0.1:{port}/a?{QUERY}"))
    assert outcome.error is not None
    assert ("certificate" in outcome.error, here.waits) == (True, [])
    assert found_in(shown(here, outcome, caplog)) == []


def test_encryption_that_the_server_does_not_speak_shows_no_secret(
    here: Here, real: Nginx, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = run(here, secretive(f"https://127.0.0.1:{real.port}/a?{QUERY}"))
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


@pytest.mark.parametrize(
    "url",
    [
        f"nobody://host/a?{QUERY}",
        f"s3://bucket/a?{QUERY}",
        f"sftp://host/a?{QUERY}",
        f"ftp://127.0.0.1:1/a?{QUERY}",
        f"memory://none?{QUERY}",
        f"file:///none?{QUERY}",
        f"simplecache::https://127.0.0.1:1/a?{QUERY}",
        f"zip://a::file:///none?{QUERY}",
    ],
)
def test_a_store_that_fails_shows_no_secret(here: Here, caplog: pytest.LogCaptureFixture, url: str) -> None:
    caplog.set_level(logging.INFO)  # debug messages of a store's own library are out of scope
    outcome = run(here, secretive(url))
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


def test_a_content_that_is_not_the_pinned_one_shows_no_secret(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture
) -> None:
    one = secretive(bad.script(f"/a?{QUERY}", answers.whole(BODY)), checksum="0" * 64)
    outcome = run(here, one)
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


def test_a_value_from_the_environment_is_in_no_error(here: Here, bad: BadServer, tmp_path: Path) -> None:
    here.data_dir = tmp_path / ENVIRONMENT
    here.data_dir.mkdir()
    (here.data_dir / "systems").write_bytes(b"")
    outcome = run(here, source(bad.script("/a", answers.whole(BODY)), source_id="a", dataset="systems/sub"))
    assert outcome.error is not None
    assert (MARK in outcome.error, "***" in outcome.error) == (False, True)


# -- sources that do not fail ------------------------------------------------------------------------------------------

RIGHT: dict[str, tuple[Step, ...]] = {
    "new": (answers.whole(BODY, ETAG),),
    "resumed": (answers.cut_at(400, BODY, ETAG), answers.whole(BODY, ETAG)),
    "after a redirect": (answers.redirect(f"/b?{QUERY}"),),
    "a header without colon": (header_without_colon,),
    "encoded": (answers.unasked_encoding(BODY),),
    "after a pause": (answers.status(503), answers.whole(BODY)),
}


@pytest.mark.parametrize("steps", RIGHT.values(), ids=RIGHT)
def test_a_source_that_is_fetched_shows_no_secret(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture, steps: tuple[Step, ...]
) -> None:
    bad.script(f"/b?{QUERY}", answers.whole(BODY))
    outcome = run(here, scripted(bad, *steps))
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.NEW, [])


def test_an_unchanged_source_shows_no_secret(here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture) -> None:
    one = scripted(bad, answers.whole(BODY, ETAG))
    run(here, one)
    outcome = run(here, one)
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.UNCHANGED, [])


def test_a_source_that_moved_to_another_server_shows_it_no_secret(here: Here, bad: BadServer) -> None:
    with misbehaving() as other:
        run(here, scripted(bad, answers.redirect(other.script("/b", answers.whole(BODY)))))
        (asked,) = other.requests
    assert found_in(repr(asked)) == []


def test_secrets_reach_their_own_server(here: Here, bad: BadServer) -> None:
    run(here, scripted(bad, answers.whole(BODY)))
    (asked,) = bad.requests
    assert (asked.path, asked.headers["x-api-key"]) == (f"/a?{QUERY}", HEADERS["X-Api-Key"])
    assert asked.headers["x-default"] == DEFAULTS["X-Default"]
    assert asked.headers["authorization"] == f"Basic {HIDDEN[1]}"


# -- proxies and bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("steps", (FAILING | RIGHT).values(), ids=FAILING | RIGHT)
def test_a_source_that_is_asked_by_post_through_a_proxy_shows_no_secret(
    here: Here,
    bad: BadServer,
    caplog: pytest.LogCaptureFixture,
    steps: tuple[Step, ...],
    body: str | dict[str, Any],
) -> None:
    bad.script(f"/b?{QUERY}", answers.whole(BODY))
    timeout = {"timeout_read_s": 0.1} if steps is FAILING["no answer"] else {}
    with proxying(USERINFO) as proxy:
        one = secretive(
            bad.script(f"/a?{QUERY}", *steps),
            method="POST",
            body=body,
            proxy=proxy.url.replace("://", f"://{USERINFO}@"),
        )
        outcome = run(here, one, **timeout)
        assert {asked.userinfo for asked in proxy.asked} == {USERINFO}
    assert found_in(shown(here, outcome, caplog)) == []


@pytest.mark.parametrize("proxy", ["http://{}@127.0.0.1:1", "https://{}@nowhere.invalid:1", "socks5h://{}@127.0.0.1:1"])
@pytest.mark.parametrize("where", ["source", "defaults"])
@pytest.mark.parametrize("url", ["http://host.example/a", "https://host.example/a"])
def test_a_proxy_that_is_not_there_shows_no_secret(
    here: Here, caplog: pytest.LogCaptureFixture, proxy: str, where: str, url: str
) -> None:
    proxy = proxy.format(USERINFO)
    of_source, of_all = ({"proxy": proxy}, {}) if where == "source" else ({}, {"proxy": proxy})
    outcome = run(here, secretive(f"{url}?{QUERY}", **of_source), **of_all)
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


@pytest.mark.parametrize("where", ["source", "defaults"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_server_that_tells_a_body_s_secret_is_not_quoted(
    here: Here, bad: BadServer, caplog: pytest.LogCaptureFixture, where: str, body: str | dict[str, Any]
) -> None:
    with misbehaving() as other, proxying(USERINFO) as proxy:
        asks = {"method": "POST", "body": body, "proxy": proxy.url.replace("://", f"://{USERINFO}@")}
        of_source, of_all = (asks, {}) if where == "source" else ({}, asks)
        url = bad.script("/a", answers.redirect(f"{other.url}/body-{MARK}/pass-{MARK}", 307))
        outcome = run(here, source(url, source_id="a", **of_source), **of_all)
    assert "/***/***" in (outcome.error or "")
    assert (outcome.result, found_in(shown(here, outcome, caplog))) == (Result.FAILED, [])


@pytest.mark.parametrize("verbose", [(), ("--verbose",), ("--dry-run",), ("--dry-run", "--verbose")])
def test_the_command_shows_no_secret_of_a_proxy_or_a_body(
    tmp_path: Path, bad: BadServer, monkeypatch: pytest.MonkeyPatch, verbose: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SECRET", ENVIRONMENT)
    home = Home(tmp_path)
    sources = [
        entry(bad.script("/right", answers.whole(BODY)), method="POST", body={"token": "${SECRET}"}),
        entry(bad.script("/wrong", answers.status(404)), method="POST", body=f"token={MARK}"),
        entry("http://127.0.0.1:1/nowhere", proxy="http://user:${SECRET}@127.0.0.1:1"),
    ]
    home.configure(*sources, retries=0)
    done = finish(home.start_python("-m", "manifestlog", "extract", "etl.config.json", "--json", *verbose))
    assert (done.code, found_in(done.out + done.err)) == (1, [])
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "etl.config.json"]
    assert found_in("".join(path.read_bytes().decode(errors="replace") for path in files)) == []


# -- what is public ----------------------------------------------------------------------------------------------------


def test_nothing_public_shows_a_secret(here: Here) -> None:
    asks: Any = {"proxy": f"http://{USERINFO}@host:1", "method": "POST", "body": BODIES["object"]}
    one = secretive(f"http://host/a?{QUERY}", **asks)
    defaults = Defaults(headers=DEFAULTS, **asks)
    config = ExtractConfig.model_validate(
        {"etl_version": "1", "manifests_dir": "/m", "data_dir": "/d", "manifest": "a_download", "sources": [one],
         "defaults": defaults},
        context={"directory": "/", "from_environment": {ENVIRONMENT}},
    )  # fmt: skip
    fetcher = RemoteFetcher(defaults)
    orchestrator = PipelineOrchestrator(
        here.manifest, fetcher, data_dir=here.data_dir, defaults=defaults, secrets=[ENVIRONMENT]
    )
    public = (one, defaults, config, fetcher, orchestrator, orchestrator.report)
    assert found_in(" ".join(f"{thing!r} {thing}" for thing in public)) == []


def test_a_report_shows_no_secret(here: Here, bad: BadServer) -> None:
    report = here.run(scripted(bad, answers.status(404)), headers=DEFAULTS)
    assert found_in(f"{report!r} {json.dumps(report.as_json())}") == []
