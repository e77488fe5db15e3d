"""Messages that name the setting that is wrong: proxies, certificates, links that lead nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import finish
from extract.runs import Home, entry
from support import answers

if TYPE_CHECKING:
    from pathlib import Path

    from extract.running import Here, Put
    from support.badserver import BadServer, Step


WITHOUT_PYSOCKS = """
import sys
sys.modules["socks"] = None
from manifestlog.cli.app import main
sys.exit(main(["extract", "etl.config.json"]))
"""


@pytest.mark.parametrize("where", ["environment", "source"])
def test_a_socks_proxy_without_its_package_is_named(
    tmp_path: Path, bad: BadServer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    address = "socks5h://user:s3cret@127.0.0.1:9"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    home = Home(tmp_path)
    home.configure(entry(bad.script("/a", answers.whole(b"a")), **({"proxy": address} if where == "source" else {})))
    done = finish(home.start_python("-c", WITHOUT_PYSOCKS))
    assert (
        "PySocks is not installed: pip install PySocks, or correct proxy for the source, or the variables" in done.err
    )
    assert (done.code, "s3cret" in done.err) == (1, False)


def test_a_proxy_that_is_no_address_is_named(here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert "address of the proxy cannot be used: correct proxy for the source, or the variables" in (
        here.fetch(bad.script("/a", answers.whole(b"a"))).error or ""
    )


def test_missing_certificates_are_named(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    error = here.fetch("https://127.0.0.1:9/a").error or ""
    assert "REQUESTS_CA_BUNDLE" in error
    assert "or set ca for the source" in error


def test_more_headers_than_are_read_are_named(here: Here, bad: BadServer) -> None:
    headers = {f"X-{n}": "x" for n in range(120)} | {"Content-Length": "1"}
    error = here.fetch(bad.script("/a", answers.exactly(200, headers, b"a"))).error or ""
    assert "more than 100 header lines" in error


@pytest.mark.parametrize("name", ["data", "data/systems"])
def test_a_link_that_leads_nowhere_is_named(here: Here, bad: BadServer, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir() if "/" in name else None
    (tmp_path / name).symlink_to("nowhere")
    try:
        said = here.fetch(bad.script("/a", answers.whole(b"a"))).error or ""
    except Exception as error:
        said = str(error)
    assert said.startswith(f"{tmp_path / name}: this link leads nowhere")
    (tmp_path / name).unlink()


def test_a_server_without_tls_is_named(here: Here, put: Put) -> None:
    error = here.fetch(put("a", b"a").replace("http:", "https:")).error or ""
    assert "does not speak TLS" in error


TWO_LENGTHS = answers.exactly(200, {"Content-Length": "1", "content-length": "2"}, b"a")
CUT_CHUNKS = answers.exactly(200, {"Transfer-Encoding": "chunked", "Connection": "close"}, b"1\r\na\r\n")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (TWO_LENGTHS, "names two lengths for one answer"),
        (CUT_CHUNKS, "was cut in the middle of the file"),
        (answers.redirect("file:///etc/passwd"), "redirects to file:///etc/passwd, away from HTTP"),
        (answers.exactly(302, {"Content-Length": "0"}), "HTTP 302: the server redirects, but does not say where"),
    ],
)
def test_what_is_wrong_with_an_answer_is_named(here: Here, bad: BadServer, step: Step, said: str) -> None:
    error = here.fetch(bad.script("/a", step), retries=0).error or ""
    assert (said in error, here.files) == (True, [name for name in here.files if "part" in name])
