"""The request options of a source: accepted values, and values refused before any request."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import config_error, raw_config, raw_source
from extract.runs import Home, entry
from manifestlog.extract import load_config
from manifestlog.extract.request_options import RequestOptions, effective_options, encoded_body
from support import answers

if TYPE_CHECKING:
    from pathlib import Path

    from extract.builders import Write
    from support.badserver import BadServer

FTP = "ftp://host/a.csv"
HTTPS = "https://host/a.csv"


def one(**more: Any) -> dict[str, Any]:
    return raw_config(raw_source(**more))


def beside(write: Write, *names: str) -> None:
    folder = write({}).parent
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no certificate": (one(cert="no.pem"), "sources[0].cert", "no such file"),
    "no key": (one(cert="here.pem", key="no.key"), "sources[0].key", "no such file"),
    "no authorities": (one(ca="no.pem"), "sources[0].ca", "correct the path"),
    "a folder": (one(ca="."), "sources[0].ca", "no such file"),
    "of the defaults": (raw_config(defaults={"ca": "no.pem"}), "defaults.ca", "no such file"),
    "a home": (one(cert="~/me.pem"), "sources[0].cert", "(~ is not expanded); write the path out"),
    "a variable in a path": (one(ca="${CA}"), "sources[0].ca", "variables are not expanded here"),
    "no path": (one(cert=5), "sources[0].cert", "expected the path of a file, a client certificate in PEM"),
    "a key alone": (one(key="here.pem"), "sources[0].key", "add cert, or remove key"),
    "a key alone in the defaults": (raw_config(defaults={"key": "here.pem"}), "defaults.key", "add cert"),
    "a certificate without TLS": (one(url="http://host/a", cert="here.pem"), "sources[0].cert", "an https url"),
    "a certificate over FTP": (one(url=FTP, cert="here.pem"), "sources[0].cert", "http and https only"),
    "authorities over FTP": (one(url=FTP, ca="here.pem"), "sources[0].ca", "http and https only"),
    "a proxy over FTP": (one(url=FTP, proxy="http://host:1"), "sources[0].proxy", "http and https only"),
    "POST over FTP": (one(url=FTP, method="POST"), "sources[0].method", "http and https only"),
    "POST of a file": (one(url="file:///a", method="POST"), "sources[0].method", "remove it"),
    "a body over FTP": (one(url=FTP, body="x"), "sources[0].body", "http and https only"),
    "a body without POST": (one(body="x"), "sources[0].body", "set method to POST"),
    "a body with GET": (one(body={"a": 1}, method="GET"), "sources[0].body", "set method to POST"),
    "a body of the defaults": (raw_config(defaults={"body": "x"}), "defaults.body", "set method to POST"),
    "another method": (one(method="PUT"), "sources[0].method", "expected GET or POST"),
    "a small method": (one(method="post"), "sources[0].method", "expected GET or POST"),
    "a list as body": (one(method="POST", body=["x"]), "sources[0].body", "expected a string, or an object"),
    "a number as body": (one(method="POST", body=5), "sources[0].body", "expected a string, or an object"),
    "no number of JSON": (one(method="POST", body={"a": math.nan}), "sources[0].body", "of JSON values"),
    "half a character": (one(method="POST", body="\ud800"), "sources[0].body", "expected a string"),
    "an unset variable": (one(method="POST", body={"a": ["${NO}"]}), "sources[0].body.a[0]", "NO is not set"),
    "an unset variable of a proxy": (one(proxy="http://u:${NO}@host:1"), "sources[0].proxy", "NO is not set"),
    "a proxy without a scheme": (one(proxy="host:3128"), "sources[0].proxy", "like http://proxy.example.org:3128"),
    "a proxy without a host": (one(proxy="http://"), "sources[0].proxy", "like http://proxy.example.org:3128"),
    "a proxy with a strange port": (one(proxy="http://host:x"), "sources[0].proxy", "correct it"),
    "a proxy of another scheme": (
        one(proxy="ftp://host:1"),
        "sources[0].proxy",
        "http, https, socks4, socks4a, socks5",
    ),
    "a proxy with a space": (one(proxy="http://ho st:1"), "sources[0].proxy", "correct it"),
    "no proxy": (one(proxy=5), "sources[0].proxy", "expected a URL like http://proxy.example.org:3128, or none"),
}


@pytest.mark.parametrize(("raw", "field", "words"), WRONG.values(), ids=WRONG)
def test_an_impossible_value_is_reported_with_its_place_and_remedy(
    write: Write, raw: dict[str, Any], field: str, words: str
) -> None:
    beside(write, "here.pem")
    found = config_error(write(raw))
    assert (found.field, found.exit_code) == (field, 2)
    assert words in found.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_must_not_be_read_is_named(write: Write) -> None:
    beside(write, "here.pem")
    (write({}).parent / "here.pem").chmod(0)
    assert "must not be read" in config_error(write(one(ca="here.pem"))).reason


def test_no_message_shows_a_proxy_or_a_body(write: Write) -> None:
    for wrong in ({"proxy": "ftp://u:5ecret@host"}, {"body": ["5ecret"], "method": "POST"}, {"body": "5ecret"}):
        assert "5ecret" not in str(config_error(write(one(**wrong))))


def test_paths_begin_at_the_configuration_s_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    beside(write, "tls/me.pem", "tls/me.key", "ca.pem")
    monkeypatch.chdir("/")
    path = write(one(cert="tls/me.pem", key="./tls/me.key", ca="ca.pem"))
    (found,) = load_config(path, {}).sources
    assert [found.cert, found.key, found.ca] == [
        str(path.parent / name) for name in ("tls/me.pem", "tls/me.key", "ca.pem")
    ]


def test_the_defaults_may_have_options_that_only_some_sources_use(write: Write) -> None:
    beside(write, "here.pem")
    defaults = {"cert": "here.pem", "ca": "here.pem", "proxy": "http://host:1", "method": "POST", "body": "x"}
    pair = [raw_source(url=FTP), raw_source(source_id="b", url="http://host/b")]
    assert len(load_config(write(raw_config(*pair, defaults=defaults)), {}).sources) == 2


def test_a_proxy_takes_variables(write: Write) -> None:
    config = load_config(write(one(proxy="http://${WHO}:p%40ss@host:3128")), {"WHO": "user"})
    assert config.sources[0].proxy == "http://user:p%40ss@host:3128"


@pytest.mark.parametrize("proxy", ["none", "", "http://host", "HTTP://host:3128/", "socks5h://u:p@[::1]:1080"])
def test_these_are_proxies(write: Write, proxy: str) -> None:
    assert load_config(write(one(proxy=proxy)), {}).sources[0].proxy == proxy


# -- effective options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "defaults", "expected"),
    [
        ({}, {"cert": "/d", "key": "/k"}, ("/d", "/k")),
        ({"cert": "/s"}, {"cert": "/d", "key": "/k"}, ("/s", None)),
        ({"cert": "/s", "key": "/sk"}, {"cert": "/d", "key": "/k"}, ("/s", "/sk")),
        ({"cert": ""}, {"cert": "/d", "key": "/k"}, ("", None)),
    ],
)
def test_a_key_belongs_to_the_certificate_beside_it(
    own: dict[str, str], defaults: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    found = effective_options(RequestOptions(**own), RequestOptions(**defaults))  # type: ignore[arg-type]
    assert (found.cert, found.key) == expected


def test_effective_options_are_stable() -> None:
    defaults = RequestOptions(cert="/d", key="/k", ca="/c", proxy="http://host", method="POST", body="x")
    for own in (
        RequestOptions(),
        RequestOptions(cert=""),
        RequestOptions(proxy="none", body=""),
        RequestOptions(method="GET"),
    ):
        found = effective_options(own, defaults)
        assert effective_options(found, defaults) == found


def test_nothing_is_sent_by_get() -> None:
    assert encoded_body(RequestOptions(body="x")) is None
    assert encoded_body(RequestOptions(body="", method="POST")) is None


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_wrong_setting_ends_the_run_before_anything_is_fetched(tmp_path: Path, bad: BadServer) -> None:
    home = Home(tmp_path)
    home.configure(entry(bad.script("/a", answers.whole(b"a"))), entry(f"{bad.url}/b", ca="no.pem"))
    done = home.run()
    assert (done.code, bad.requests, home.data.exists()) == (2, [], False)
    assert "etl.config.json: sources[1].ca: no such file" in done.err


def test_the_command_sends_a_post(tmp_path: Path, bad: BadServer) -> None:
    home = Home(tmp_path)
    home.configure(entry(bad.script("/a", answers.whole(b"a")), method="POST", body={"year": 2024}))
    assert [home.run().json[name] for name in ("new", "unchanged")] == [1, 1]
    assert [request.body for request in bad.requests] == [b'{"year": 2024}'] * 2
    home.check({"a": b"a"})
