"""Sources that use POST: what is sent, what is not, and how responses are compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from extract.builders import raw_config, raw_source, source
from extract.running import pattern
from manifestlog.extract import Result, load_config, plan_all
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from typing import Any

    from extract.builders import Write
    from extract.running import Here
    from manifestlog.extract import ETLSource
    from support.badserver import BadServer, Exchange

BODY = pattern(1000)
OTHER = pattern(900, 1)
ETAG = '"a"'
MONDAY = "Mon, 01 Jan 2024 12:00:00 GMT"
QUESTION = {"query": "{ systems { id } }", "first": 10}
NEVER_SENT = {"if-none-match", "if-modified-since", "range", "if-range"}


def posted(url: str, **more: Any) -> ETLSource:
    wanted = {"source_id": "a", "dataset": "systems", "method": "POST", "body": QUESTION} | more
    return source(url, **wanted)


def echo(exchange: Exchange) -> None:
    """Respond differently to each request body."""
    answers.whole(b"the answer to " + exchange.request.body, ETAG, MONDAY)(exchange)


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_an_object_is_sent_as_json(here: Here, bad: BadServer) -> None:
    assert here.one(posted(bad.script("/a", answers.whole(BODY)))).result is Result.NEW
    (asked,) = bad.requests
    assert (asked.method, asked.headers["content-type"], json.loads(asked.body)) == (
        "POST",
        "application/json",
        QUESTION,
    )


def test_a_text_is_sent_as_a_form(here: Here, bad: BadServer) -> None:
    here.one(posted(bad.script("/a", answers.whole(BODY)), body="year=2024&name=Größe"))
    (asked,) = bad.requests
    assert (asked.headers["content-type"], asked.body.decode()) == (
        "application/x-www-form-urlencoded",
        "year=2024&name=Größe",
    )


@pytest.mark.parametrize("where", ["source", "defaults"])
def test_a_configured_content_type_is_sent_instead(here: Here, bad: BadServer, where: str) -> None:
    headers = {"Content-Type": "application/sparql-query"}
    of_source, of_all = (headers, {}) if where == "source" else ({}, headers)
    here.one(posted(bad.script("/a", answers.whole(BODY)), body="ASK {}", headers=of_source), headers=of_all)
    assert bad.requests[0].headers["content-type"] == "application/sparql-query"


def test_a_post_without_a_body_says_so(here: Here, bad: BadServer) -> None:
    here.one(posted(bad.script("/a", answers.whole(BODY)), body=None))
    (asked,) = bad.requests
    assert (asked.method, asked.headers["content-length"], "content-type" in asked.headers) == ("POST", "0", False)


def test_method_and_body_of_the_defaults_count_where_a_source_says_nothing(here: Here, bad: BadServer) -> None:
    first = source(bad.script("/a", answers.whole(BODY)), source_id="a")
    second = source(bad.script("/b", answers.whole(OTHER)), source_id="b", method="GET")
    here.run(first, second, method="POST", body="x=1")
    assert [(request.path, request.method, request.body) for request in bad.requests] == [
        ("/a", "POST", b"x=1"),
        ("/b", "GET", b""),
    ]


def test_get_sends_neither_body_nor_content_type(here: Here, bad: BadServer) -> None:
    here.fetch(bad.script("/a", answers.whole(BODY)))
    (asked,) = bad.requests
    assert (asked.method, asked.body, "content-type" in asked.headers) == ("GET", b"", False)


# -- how responses are compared ----------------------------------------------------------------------------------------


def test_the_same_content_is_unchanged_and_requested_without_conditions(here: Here, bad: BadServer) -> None:
    one = posted(bad.script("/a", answers.whole(BODY, ETAG, MONDAY)))
    assert [here.one(one).result for _ in range(3)] == [Result.NEW, Result.UNCHANGED, Result.UNCHANGED]
    assert {request.method for request in bad.requests} == {"POST"}
    assert not NEVER_SENT & {name for request in bad.requests for name in request.headers}
    assert here.files == ["systems/a"]


def test_other_content_with_the_same_validators_is_changed(here: Here, bad: BadServer) -> None:
    one = posted(bad.script("/a", answers.whole(BODY, ETAG, MONDAY), answers.whole(OTHER, ETAG, MONDAY)))
    assert [here.one(one).result for _ in range(2)] == [Result.NEW, Result.CHANGED]
    assert here.body() == OTHER


def test_the_same_content_with_other_validators_is_unchanged(here: Here, bad: BadServer) -> None:
    one = posted(bad.script("/a", answers.etag_of_its_own(BODY)))
    assert [here.one(one).result for _ in range(2)] == [Result.NEW, Result.UNCHANGED]


def test_the_validators_of_an_answer_are_not_recorded(here: Here, bad: BadServer) -> None:
    here.one(posted(bad.script("/a", answers.whole(BODY, ETAG, MONDAY))))
    assert (here.record().etag, here.record().last_modified) == (None, None)


def test_a_source_that_was_asked_by_get_is_asked_by_post_without_conditions(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG, MONDAY), answers.whole(OTHER, ETAG, MONDAY))
    assert here.fetch(url).result is Result.NEW
    assert here.one(posted(url)).result is Result.CHANGED


def test_a_cut_answer_is_requested_from_its_beginning(here: Here, bad: BadServer) -> None:
    one = posted(bad.script("/a", answers.cut_at(400, BODY, ETAG), answers.whole(BODY, ETAG)))
    assert (here.one(one).result, here.body()) == (Result.NEW, BODY)
    assert not NEVER_SENT & {name for request in bad.requests for name in request.headers}


def test_a_part_of_an_earlier_run_is_not_resumed(here: Here, bad: BadServer) -> None:
    one = posted(bad.script("/a", answers.cut_at(400, BODY, ETAG), answers.whole(OTHER, ETAG)))
    assert (here.one(one, retries=0).result, here.one(one).result, here.body()) == (Result.FAILED, Result.NEW, OTHER)


def test_a_pinned_content_that_is_recorded_is_not_requested(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY))
    here.one(posted(url))
    outcome = here.one(posted(url, checksum=here.record().checksum))
    assert (outcome.result, len(bad.requests)) == (Result.UNCHANGED, 1)


def test_a_busy_server_is_retried(here: Here, bad: BadServer) -> None:
    one = posted(bad.script("/a", answers.status(503), answers.whole(BODY)))
    assert here.one(one).result is Result.NEW
    assert [json.loads(request.body) for request in bad.requests] == [QUESTION, QUESTION]


def test_not_modified_to_an_unconditional_request_fails(here: Here, bad: BadServer) -> None:
    one = posted(bad.script("/a", answers.whole(BODY), answers.exactly(304, {})))
    assert [here.one(one).result for _ in range(2)] == [Result.NEW, Result.FAILED]


# -- several request bodies for one URL --------------------------------------------------------------------------------


def test_two_questions_to_one_address_are_not_confused(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", echo)
    pair = [posted(url, source_id=name, body={"name": name}) for name in ("a", "b")]
    assert [outcome.result for outcome in here.run(*pair).outcomes] == [Result.NEW, Result.NEW]
    assert [outcome.result for outcome in here.run(*pair).outcomes] == [Result.UNCHANGED, Result.UNCHANGED]
    assert [here.body(name) for name in ("a", "b")] == [b'the answer to {"name": "a"}', b'the answer to {"name": "b"}']


def test_two_questions_with_one_answer_share_its_file(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY))
    pair = [posted(url, source_id=name, body={"name": name}) for name in ("a", "b")]
    assert {outcome.result for outcome in here.run(*pair).outcomes} == {Result.NEW, Result.ALIAS}
    assert here.files == ["systems/a"]


def test_another_question_of_the_same_source_is_compared_by_content(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", echo)
    results = [here.one(posted(url, body={"page": page})).result for page in (1, 2, 2)]
    assert results == [Result.NEW, Result.CHANGED, Result.UNCHANGED]


# -- a dry run ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_sends_no_post(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", answers.whole(BODY))
    (plan,) = plan_all(here.manifest, [posted(url)])
    assert (plan.action, plan.why, bad.requests) == (
        "fetch",
        "it is requested by POST, so only its content can be compared",
        [],
    )


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303])
def test_after_a_redirect_it_is_a_get_without_a_body(here: Here, bad: BadServer, code: int) -> None:
    bad.script("/b", answers.whole(BODY))
    outcome = here.one(posted(bad.script("/a", answers.redirect("/b", code)), headers={"Content-Language": "en"}))
    asked = bad.requests[-1]
    assert (outcome.result, asked.method, asked.body) == (Result.NEW, "GET", b"")
    assert not [name for name in asked.headers if name.startswith("content-")]


@pytest.mark.parametrize("code", [307, 308])
def test_after_these_redirects_it_stays_a_post(here: Here, bad: BadServer, code: int) -> None:
    bad.script("/b", answers.whole(BODY))
    outcome = here.one(posted(bad.script("/a", answers.redirect("/b", code))))
    asked = bad.requests[-1]
    assert (outcome.result, asked.method, json.loads(asked.body)) == (Result.NEW, "POST", QUESTION)
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize("code", [301, 302, 303])
def test_to_another_server_it_is_a_get_without_a_body(here: Here, bad: BadServer, code: int) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY)), code))
        assert here.one(posted(url)).result is Result.NEW
        assert (other.requests[0].method, other.requests[0].body) == ("GET", b"")


@pytest.mark.parametrize("code", [307, 308])
def test_a_body_does_not_go_to_another_server(here: Here, bad: BadServer, code: int) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b?token=5ecret", answers.whole(BODY)), code))
        outcome = here.one(posted(url))
        assert (outcome.result, other.requests, here.waits) == (Result.FAILED, [], [])
        assert f"{other.url}/b?token=*** (HTTP {code}); the body is not sent there" in (outcome.error or "")


def test_a_post_without_a_body_may_go_to_another_server(here: Here, bad: BadServer) -> None:
    with misbehaving() as other:
        url = bad.script("/a", answers.redirect(other.script("/b", answers.whole(BODY)), 307))
        assert here.one(posted(url, body=None)).result is Result.NEW
        assert other.requests[0].method == "POST"


# -- variables ---------------------------------------------------------------------------------------------------------


def body_of(write: Write, body: object, **environ: str) -> object:
    (one,) = load_config(write(raw_config(raw_source(method="POST", body=body))), environ).sources
    return one.body


def test_variables_are_expanded_in_every_string_of_a_body(write: Write) -> None:
    body = {"key": "${KEY}", "inner": {"list": ["a ${KEY}", 1, None, True]}, "${KEY}": 1}
    expected = {"key": 'a"b', "inner": {"list": ['a a"b', 1, None, True]}, "${KEY}": 1}
    assert body_of(write, body, KEY='a"b') == expected
    assert body_of(write, "key=${KEY}", KEY="v") == "key=v"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("query ($id: ID) { s(id: $id, at: {date: $d}) }", "query ($id: ID) { s(id: $id, at: {date: $d}) }"),
        ("$${KEY} $$ ${KEY}", "${KEY} $$ v"),
        ("day={date:%Y%m%d}&since=${DAY}", "day=20240501&since=2024-05-01"),
        ('{"query":"{date:\\"50%\\"}"}', '{"query":"{date:\\"50%\\"}"}'),
    ],
)
def test_other_signs_of_a_body_are_sent_as_they_are(write: Write, body: str, expected: str) -> None:
    assert body_of(write, body, KEY="v", DAY="2024-05-01") == expected


def test_the_values_of_a_body_are_known_as_secrets(write: Write) -> None:
    config = load_config(write(raw_config(raw_source(method="POST", body={"key": "${KEY}"}))), {"KEY": "v4lue"})
    assert config.from_environment == {"v4lue"}


@pytest.mark.parametrize("where", ["source", "defaults"])
def test_the_files_of_a_question_that_names_a_day_tell_the_days_apart(
    here: Here, bad: BadServer, write: Write, where: str
) -> None:
    asks = {"method": "POST", "body": "day=${DAY}"}
    one = raw_source(url=bad.script("/a", echo), source_id="a", dataset="systems")
    raw = raw_config(one | asks) if where == "source" else raw_config(one, defaults=asks)
    for day in ("2024-05-01", "2024-05-02"):
        config = load_config(write(raw), {}, day=day)
        wanted: Any = {"method": config.defaults.method, "body": config.defaults.body}
        here.one(*config.sources, **wanted)
    assert here.files == ["systems/a-2024-05-01", "systems/a-2024-05-02"]
