"""Secrets: safe URLs, and redacted texts."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from extract.builders import source
from manifestlog.extract.config.redaction import Redactor
from manifestlog.model.safe_urls import safe_url

SECRET = "s3cret-value"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a/b.csv", "https://host/a/b.csv"),
        ("https://host", "https://host"),
        ("https://host:8080/", "https://host:8080/"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("https://user:pass@host/x", "https://***@host/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://@host/x", "https://***@host/x"),
        ("https://a:b@c@host/x", "https://***@host/x"),
        ("https://host/x?a=1&b=2", "https://host/x?a=***&b=***"),
        ("https://host?a=1", "https://host?a=***"),
        ("https://host/x?a=", "https://host/x?a=***"),
        ("https://host/x?a=b=c?d=e/f", "https://host/x?a=***"),
        ("https://host/x?a=1;b=2", "https://host/x?a=***"),
        ("https://host/x?s3cret", "https://host/x?***"),
        ("https://host/x?", "https://host/x?"),
        ("https://host/x?a=1&&", "https://host/x?a=***&&"),
        ("https://host/x#access_token=1", "https://host/x"),
        ("https://host/x?a=1#b", "https://host/x?a=***"),
        ("https://host#b", "https://host"),
        ("https://host/@scope/x", "https://host/@scope/x"),
        ("HTTPS://Host/x", "HTTPS://Host/x"),
        ("https://høst/ä", "https://høst/ä"),
        ("file:///data/x", "file:///data/x"),
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("simplecache::https://u:p@host/x?t=1", "simplecache::https://***@host/x?t=***"),
    ],
)
def test_an_address_shows_no_secret(url: str, shown: str) -> None:
    assert safe_url(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host/x",
        "user:pass@host",
        "//user:pass@host/x",
        "https:user:pass@host",
        "https://user:pa/ss@host/x",
        "https://user:pa?ss@host/x",
        "https://user:pa#ss@host/x",
        "https://[::1/x",
        "https://a]b/x",
        "https://host:port/",
        "zip://inner.csv::https://u:p@host/x",
        "https://host/a b",
        "https://host/\n",
        "https://host/\0",
        "data:text/plain,x",
        "://",
        "\ud800",
    ],
)
def test_an_invalid_url_is_not_shown(text: str) -> None:
    assert safe_url(text) == "***"


URLS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from([*"abc:/?#@&=;[]%*. \n1", "https://", "::", "://", "***", "x=1", "host", "\ud800"]), max_size=14
    ).map("".join),
).flatmap(lambda text: st.sampled_from([text, "https://" + text]))


@given(URLS)
def test_an_address_made_safe_stays_as_it_is(url: str) -> None:
    once = safe_url(url)
    assert safe_url(once) == once


WORDS = st.text("abcdefgh0123456789", min_size=6, max_size=12).map(lambda text: f"S{text}")


@given(WORDS, WORDS, WORDS, WORDS)
def test_no_secret_of_a_whole_address_is_shown(user: str, password: str, value: str, fragment: str) -> None:
    shown = safe_url(f"https://{user}:{password}@host/x?a={value}&{value}#{fragment}")
    assert [secret for secret in (user, password, value, fragment) if secret in shown] == []


def _redactor(url: str = "https://host/x", more: tuple[str, ...] = (), **headers: str) -> Redactor:
    return Redactor.of(source(url, headers=headers), {}, more)


BASIC = base64.b64encode(b"someone:s3cret").decode()


@pytest.mark.parametrize(
    ("redactor", "text", "expected"),
    [
        (_redactor("https://someone:s3cret@host/x"), "login someone, s3cret!", "login ***, ***!"),
        (_redactor("https://someone:p%40ssword@host/x"), "p%40ssword is p@ssword", "*** is ***"),
        (_redactor("https://someone:s3cret@host/x"), f"sent Basic {BASIC}", "sent Basic ***"),
        (_redactor("https://s3cret@host/x"), "no s3cret", "no ***"),
        (_redactor("https://host/x?a=s3cret&b=0ther"), "s3cret, 0ther", "***, ***"),
        (_redactor("https://host/x?s3cret"), "s3cret", "***"),
        (_redactor("https://host/x#s3cret"), "s3cret", "***"),
        (_redactor("https://host/x?a=1%2F2%2b3"), "1/2+3 or 1%2F2%2B3", "*** or ***"),
        (_redactor("https://host/x?a=two+words"), "two words", "***"),
        (_redactor("https://host/x?a=städte"), "st%C3%A4dte", "***"),
        (_redactor("zip://x::https://someone:s3cret@host/x"), "s3cret", "***"),
        (_redactor(Authorization="Bearer s3cret"), "got Bearer s3cret", "got ***"),
        (_redactor(Authorization="Bearer s3cret"), "got s3cret", "got ***"),
        (_redactor(Authorization=f"basic {BASIC}"), f"got {BASIC}", "got ***"),
        (_redactor(Authorization=f"Basic {BASIC}"), "got s3cret of someone", "got *** of ***"),
        (_redactor(Authorization="Basic no-base64!"), "got no-base64!", "got ***"),
        (_redactor(X_Key="s3cret"), "{'X_Key': 's3cret'}", "{'X_Key': '***'}"),
        (_redactor(X_Key="s3\"c\\ret'"), repr({"X_Key": "s3\"c\\ret'"}), "{'X_Key': '***'}"),
        (_redactor(more=("s3cret",)), "s3cret", "***"),
        (_redactor(more=("s3cret", "s3cret-long")), "s3cret-long s3cret", "*** ***"),
        (_redactor(more=("https://host/hidden",)), "at https://host/hidden?x=1", "at ***?x=***"),
        (_redactor(more=("https://host/x?s=abcd",)), "at https://host/x?s=abcd", "at ***"),
        (_redactor(more=('s3c"ret',)), 'at https://host/s3c#cut"ret', "at https://host/***"),
        (_redactor(more=("https",)), "to https://u:p@other/x?a=b", "to ***://***@other/x?a=***"),
        (_redactor(more=("",)), "nothing", "nothing"),
    ],
    ids=str,
)
def test_a_secret_is_removed(redactor: Redactor, text: str, expected: str) -> None:
    assert redactor.redact(text) == expected


def test_the_secrets_of_default_headers_are_removed() -> None:
    assert Redactor.of(source(), {"X-Key": SECRET}).redact(f"a {SECRET}") == "a ***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at https://u:p@other/x?a=b: refused", "at https://***@other/x?a=***: refused"),
        ("(https://other/x?a=b), then", "(https://other/x?a=***), then"),
        ("'https://other/x?a=b'", "'https://other/x?a=***'"),
        ("see https://other/x.", "see https://other/x."),
        ("error:https://other/x?a=b", "error:https://other/x?a=***"),
        (
            "Max retries exceeded with url: /x?sig=abc&b=c (Caused by X)",
            "Max retries exceeded with url: /x?sig=***&b=*** (Caused by X)",
        ),
        ("https://bad host", "https://bad host"),
        ("https://u:p/w@other/x?t=1", "***"),
        ("is it there? no", "is it there? no"),
        ("really?)", "really?)"),
        ("", ""),
    ],
)
def test_addresses_in_a_text_are_made_safe(text: str, expected: str) -> None:
    """Other URLs too, such as a redirect's target."""
    assert _redactor().redact(text) == expected


def test_a_short_value_is_not_masked_in_other_text() -> None:
    redactor = _redactor("https://a:b@host/x?page=1&n=50", more=("1", "csv"))
    assert redactor.redact("1 of 150 in x.csv, absent") == "1 of 150 in x.csv, absent"


def test_a_short_value_is_hidden_in_its_address() -> None:
    redactor = _redactor("https://a:b@host/x?page=1")
    assert redactor.redact("at https://a:b@host/x?page=1") == "at https://***@host/x?page=***"


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_a_redactor_does_not_show_its_secrets(show: Any) -> None:
    assert SECRET not in show(_redactor(more=(SECRET,)))


def test_a_redactor_goes_to_another_process() -> None:
    sent = _redactor(more=(SECRET,))
    assert pickle.loads(pickle.dumps(sent)) == sent


def test_a_value_that_is_no_text_of_characters_is_removed() -> None:
    """An environment may contain any bytes."""
    assert _redactor(more=("caf\udce9s",)).redact("a caf\udce9s") == "a ***"


PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["*", "**", "***", "/", "?", "=", "&", "#", "@", ":", "https://", "https://u:p@h/?a=", " ", '"', ">"]
    ),
)
VALUES = st.lists(PIECES, min_size=1, max_size=4).map("".join).filter(lambda value: len(value) >= 4)


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
@example(["****"], None)
def test_no_secret_of_four_characters_is_left(secrets: list[str], data: Any) -> None:
    """Whatever surrounds it, and whatever a URL in the text becomes."""
    pieces = (
        ["********"] if data is None else data.draw(st.lists(st.one_of(PIECES, st.sampled_from(secrets)), max_size=12))
    )
    text = _redactor(more=tuple(secrets)).redact("".join(pieces))
    assert [secret for secret in secrets if secret in text] == []


TOKENS = st.text("abcdefgh-._~%2F+", min_size=4, max_size=12)


@given(TOKENS, TOKENS, TOKENS, TOKENS, st.text())
def test_no_secret_of_a_source_is_left(user: str, password: str, value: str, token: str, around: str) -> None:
    redactor = _redactor(f"https://{user}:{password}@host/x?a={value}", Authorization=f"Bearer {token}")
    text = redactor.redact(f"{around}{user}{around}{password} {value}{around}/x?a={value}{token}")
    assert [secret for secret in (user, password, value, token) if secret in text] == []
