"""`safe_text`: what is named or placed as a credential is hidden, and the words around it stay."""

from __future__ import annotations

import time

import pytest

from manifestlog.model.safe_urls import safe_text

HIDDEN = [
    # userinfo without a scheme
    ("cannot reach user:s3cret@host/path?token=abc", "cannot reach ***@host/path?token=***"),
    ("user:s3cret@[::1]:22/x", "***@[::1]:22/x"),
    ("(me:p@ss.word@db.example.org:5432)", "(***@db.example.org:5432)"),
    ("ssh: connect to 'bob:s3cret@host'", "ssh: connect to '***@host'"),
    # headers
    ("Authorization: Bearer abc.def", "Authorization: ***"),
    ("Authorization: Bearer abc.def failed with 401", "Authorization: *** failed with 401"),
    ("{'Authorization': 'Basic dTpw', 'Accept': '*/*'}", "{'Authorization': '***', 'Accept': '*/*'}"),
    ('"Proxy-Authorization": "s3cret"', '"Proxy-Authorization": "***"'),
    ("Cookie: sid=1; theme=dark", "Cookie: ***"),
    ("Set-Cookie: sid=1; Path=/", "Set-Cookie: ***"),
    ("rejected bearer eyJhbGciOi.J9", "rejected bearer ***"),
    ("sent Basic dXNlcjpwYXNz", "sent Basic dXNlcjpwYXNz"),
    ("sent Basic dXNlcjpwYXNzMQ==", "sent Basic ***"),
    ("X-Api-Key: 5ecret", "X-Api-Key: ***"),
    # names
    ("password=hunter2", "password=***"),
    ("password=hunter", "password=***"),
    ("login(user='me', password='hunter 2')", "login(user='me', password='***')"),
    ("PASSWORD = hunter2;host=db", "PASSWORD = ***;host=db"),
    ("host=db pwd=x sslmode=require", "host=db pwd=*** sslmode=require"),
    ('{"access_token": "abc", "expires": 3}', '{"access_token": "***", "expires": 3}'),
    ("accessToken=abc&page=2", "accessToken=***&page=2"),
    ("client_secret=abc", "client_secret=***"),
    ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
    ("api-key=abc", "api-key=***"),
    ("sig=abc%3D", "sig=***"),
    ("password: hunter2", "password: ***"),
    # in addresses, as before
    ("GET https://u:p@h/?k=v refused", "GET https://***@h/?k=*** refused"),
]

KEPT = [
    "HTTP 404: the server has no such file: check the source's url",
    "the server rejects the credentials",
    "Expecting value: line 1 column 1 (char 0)",
    "Unexpected token: '<' at 3",
    "unknown token: expected ','",
    "wrong password: check the secrets",
    "the secret: none was given",
    "password=None",
    "max_tokens=5, token_count=7",
    "author=me, compass=3, bypass=1, design=4, oauthlib==3.2",
    "key=prices, keys=3",
    "KeyError: 'token'",
    "Basic authentication is required",
    "Bearer authentication is required",
    "write to me@example.org or mailto:me@example.org",
    "git@github.com:owner/project.git",
    "python:3.12@sha256:0123456789abcdef",
    "at 12:30:45, in /srv/a:b/file.py:12",
    "127.0.0.1:8080 refused the connection",
    "[Errno 2] No such file or directory: '/srv/etl/x'",
    "C:\\data\\x@1",
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_a_credential_is_hidden(text: str, shown: str) -> None:
    assert safe_text(text) == shown


@pytest.mark.parametrize("text", KEPT)
def test_the_words_of_an_error_stay(text: str) -> None:
    assert safe_text(text) == text


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_what_is_hidden_is_hidden_once(text: str, shown: str) -> None:
    assert safe_text(safe_text(text)) == shown


@pytest.mark.parametrize(
    "part", ["a", "a:", "token", "a:b", "Bearer ", "cookie=a;", "password", "?a", " x:y", "a=", '"']
)
def test_a_long_text_takes_no_longer_than_its_length(part: str) -> None:
    began = time.process_time()
    safe_text(part * (100_000 // len(part)))
    assert time.process_time() - began < 5
