"""URLs as they are sent, and the proxies of the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Defaults, FetchError, FetchRequest
from manifestlog.extract.fetchers.addresses import Address, address_of, basic_auth, is_same_server
from manifestlog.extract.fetchers.http import HttpFetcher
from manifestlog.extract.fetchers.proxies import proxy_of_environment, with_scheme
from support import answers

if TYPE_CHECKING:
    from support.badserver import BadServer

HOST = "http://host"


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("?q=1", "/?q=1"),
        ("/a b", "/a%20b"),
        ("/é", "/%C3%A9"),
        ("/a?q=é b", "/a?q=%C3%A9%20b"),
        ("/a#part", "/a"),
        ("/a/./b/../c", "/a/c"),
        ("/%7Euser", "/~user"),
        ("/a%2Fb", "/a%2Fb"),
        ("/100%", "/100%25"),
        ("/a?b=c?d", "/a?b=c?d"),
        ('/"<>|\\^`{}', "/%22%3C%3E%7C%5C%5E%60%7B%7D"),
        ("//a", "//a"),
        ("/;v=1,2", "/;v=1,2"),
    ],
)
def test_the_target_is_normalised(path: str, target: str) -> None:
    assert address_of(HOST + path).target == target


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://HOST/", "host", None),
        ("http://user:password@host:8080/", "host", 8080),
        ("http://bücher.example/", "xn--bcher-kva.example", None),
        ("http://[::1]:80/", "::1", 80),
        ("HTTP://127.0.0.1/", "127.0.0.1", None),
    ],
)
def test_the_server_is_found(url: str, host: str, port: int | None) -> None:
    address = address_of(url)
    assert (address.scheme, address.host, address.port) == ("http", host, port)


def test_the_absolute_form_names_no_user() -> None:
    assert address_of("http://user:password@HOST:8080/a b?q#part").absolute == "http://host:8080/a%20b?q"


@pytest.mark.parametrize("url", ["http://*.host/", "http://.host/", "http://[::1/", "http:///a"])
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(FetchError, match="check the source's url") as caught:
        address_of(url)
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("userinfo", "header"),
    [
        ("user:password@", "Basic dXNlcjpwYXNzd29yZA=="),
        ("us%40er:p%3A@", "Basic dXNAZXI6cDo="),
        ("%C3%BC:%C3%B6@", "Basic /Dr2"),  # ü:ö in Latin-1
        ("user@", None),
        ("", None),
    ],
)
def test_userinfo_becomes_basic_authentication(userinfo: str, header: str | None) -> None:
    assert basic_auth(f"http://{userinfo}host/") == header


@pytest.mark.parametrize(
    ("url", "target", "same"),
    [
        ("http://host/a", "http://host/b", True),
        ("http://host/a", "http://HOST:80/b", True),
        ("http://host/a", "https://host/b", True),
        ("http://host:80/a", "https://host:443/b", True),
        ("https://host/a", "https://host:443/b", True),
        ("https://host/a", "http://host/b", False),
        ("http://host:8080/a", "https://host/b", False),
        ("http://host/a", "https://host:8443/b", False),
        ("http://host/a", "http://host:8080/b", False),
        ("http://host:8080/a", "http://host:8080/b", True),
        ("http://host/a", "http://other/b", False),
        ("http://host/a", "http://sub.host/b", False),
    ],
)
def test_credentials_stay_with_their_server(url: str, target: str, same: bool) -> None:
    assert is_same_server(url, target) is same


def test_the_request_names_its_program(bad: BadServer) -> None:
    sent(bad)
    assert bad.requests[0].headers["user-agent"].startswith("manifestlog/")


def test_a_header_is_sent_in_latin_1(bad: BadServer) -> None:
    sent(bad, headers={"X-Name": "Größe"})
    assert bad.requests[0].headers["x-name"] == "Größe"


def test_nothing_is_taken_from_netrc(bad: BadServer, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.path.join(str(tmp_path), "netrc")
    with open(path, "w", encoding="ascii") as file:
        file.write("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", path)
    sent(bad)
    assert "authorization" not in bad.requests[0].headers


def sent(bad: BadServer, **more: object) -> None:
    one = source(bad.script("/a", answers.whole(pattern(10))), **more)
    HttpFetcher(Defaults()).probe(one, FetchRequest())


# -- proxies of the environment ----------------------------------------------------------------------------------------

PROXY = "http://proxy:3128"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


def address(host: str = "data.example.org", port: int | None = None, scheme: str = "https") -> Address:
    return Address(scheme, host, port, "/", f"{scheme}://{host}/")


def test_there_is_no_proxy_without_a_variable(environ: pytest.MonkeyPatch) -> None:
    assert proxy_of_environment(address()) == ""


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_proxy_of_a_scheme_or_of_all_is_used(environ: pytest.MonkeyPatch, name: str) -> None:
    environ.setenv(name, PROXY)
    assert proxy_of_environment(address()) == PROXY


def test_the_proxy_of_another_scheme_is_not_used(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("http_proxy", PROXY)
    assert proxy_of_environment(address()) == ""


def test_the_proxy_of_the_scheme_is_stronger_than_that_of_all(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("all_proxy", "http://other:3128")
    environ.setenv("https_proxy", PROXY)
    assert proxy_of_environment(address()) == PROXY


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize(
    ("entries", "host", "port"),
    [
        ("data.example.org", "data.example.org", None),
        ("example.org", "data.example.org", 8080),
        (".example.org", "data.example.org", None),
        ("a, example.org", "data.example.org", None),
        ("data.example.org:8080", "data.example.org", 8080),
        ("*", "data.example.org", None),
        ("10.1.2.3", "10.1.2.3", None),
        ("10.0.0.0/8", "10.1.2.3", 80),
        ("10.1.2.2/31", "10.1.2.3", None),
        ("::1", "::1", None),
    ],
)
def test_an_exempt_server_has_no_proxy(
    environ: pytest.MonkeyPatch, name: str, entries: str, host: str, port: int | None
) -> None:
    environ.setenv("https_proxy", PROXY)
    environ.setenv(name, entries)
    assert proxy_of_environment(address(host, port)) == ""


@pytest.mark.parametrize(
    ("entries", "host", "port"),
    [
        ("ample.org", "data.example.org", None),
        ("data.example.org:8080", "data.example.org", 8081),
        ("example.com", "data.example.org", None),
        ("10.0.0.0/8", "11.1.2.3", None),
        ("10.1.2.2/32", "10.1.2.3", None),
        ("10.0.0.0/33", "10.0.0.1", None),
    ],
)
def test_another_server_keeps_its_proxy(environ: pytest.MonkeyPatch, entries: str, host: str, port: int | None) -> None:
    environ.setenv("https_proxy", PROXY)
    environ.setenv("no_proxy", entries)
    assert proxy_of_environment(address(host, port)) == PROXY


@pytest.mark.parametrize(
    ("proxy", "url"),
    [
        (PROXY, PROXY),
        ("//proxy:3128", PROXY),
        ("127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("http://user:p%40ss@proxy:3128", "http://user:p%40ss@proxy:3128"),
        ("socks5h://proxy:1080", "socks5h://proxy:1080"),
    ],
)
def test_a_proxy_without_a_scheme_speaks_http(proxy: str, url: str) -> None:
    assert with_scheme(proxy) == url
