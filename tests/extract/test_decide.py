"""What responses mean, as tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from manifestlog import ManifestRecord
from manifestlog.extract.decide import (
    BACKOFF_MAX_S,
    RETRY_AFTER_MAX_S,
    Action,
    Part,
    Step,
    build_request,
    decide,
    pause_s,
)
from manifestlog.extract.fetchers.protocol import FetchRequest, ResponseHead
from support.records import make_record

MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"
TUESDAY = "Tue, 02 Jan 2024 00:00:00 GMT"


def record(etag: str | None = None, last_modified: str | None = None, size: int = 100) -> ManifestRecord:
    return make_record(1).model_copy(update={"etag": etag, "last_modified": last_modified, "file_size": size})


def part(length: int = 40, etag: str | None = None, last_modified: str | None = None, total: int | None = 100) -> Part:
    return Part(length, etag, last_modified, total)


def step_of(head: ResponseHead, known: ManifestRecord | None = None, begun: Part | None = None) -> Step:
    """Return the step for this response to the request of `build_request`."""
    return decide(build_request(known, begun), known, begun, head).step


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "begun", "ask"),
    [
        pytest.param(None, None, FetchRequest(), id="nothing known"),
        pytest.param(record('"a"'), None, FetchRequest(etag='"a"'), id="an ETag"),
        pytest.param(record('W/"a"'), None, FetchRequest(etag='W/"a"'), id="a weak ETag as it came"),
        pytest.param(record(None, MONDAY), None, FetchRequest(last_modified=MONDAY), id="a date"),
        pytest.param(record('"a"', MONDAY), None, FetchRequest(etag='"a"'), id="an ETag is better than a date"),
        pytest.param(record(), None, FetchRequest(), id="a record without validators"),
        pytest.param(None, part(40, '"a"'), FetchRequest(start=40, if_range='"a"'), id="a part with an ETag"),
        pytest.param(None, part(40, None, MONDAY), FetchRequest(start=40, if_range=MONDAY), id="a part with a date"),
        pytest.param(None, part(40, '"a"', MONDAY), FetchRequest(start=40, if_range='"a"'), id="a part with both"),
        pytest.param(None, part(40, 'W/"a"'), FetchRequest(), id="a weak ETag names no bytes"),
        pytest.param(None, part(40, 'W/"a"', MONDAY), FetchRequest(), id="nor does a date beside a weak ETag"),
        pytest.param(None, part(40), FetchRequest(), id="a part without validators"),
        pytest.param(None, part(0, '"a"'), FetchRequest(), id="an empty part"),
        pytest.param(record('"a"'), part(40, '"b"'), FetchRequest('"a"', None, 40, '"b"'), id="both"),
        pytest.param(record(None, MONDAY), part(40, '"b"'), FetchRequest(None, MONDAY, 40, '"b"'), id="both, by date"),
    ],
)
def test_the_request(known: ManifestRecord | None, begun: Part | None, ask: FetchRequest) -> None:
    assert build_request(known, begun) == ask


def test_a_date_that_may_be_of_another_address_is_not_asked_by() -> None:
    assert build_request(record(None, MONDAY), None, by_date=False) == FetchRequest()


def test_an_etag_is_asked_by_whatever_the_address() -> None:
    assert build_request(record('"a"', MONDAY), None, by_date=False) == FetchRequest(etag='"a"')


def test_the_rest_of_a_part_is_requested_by_its_own_date() -> None:
    assert build_request(record(None, MONDAY), part(40, None, TUESDAY), by_date=False) == FetchRequest(
        start=40, if_range=TUESDAY
    )


# -- responses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "head", "step"),
    [
        pytest.param(None, ResponseHead(200), Step.WHOLE, id="a body of unknown length"),
        pytest.param(None, ResponseHead(200, length_bytes=1), Step.WHOLE, id="a body"),
        pytest.param(None, ResponseHead(200, length_bytes=0), Step.FAIL, id="an empty body"),
        pytest.param(record('"a"'), ResponseHead(304), Step.UNCHANGED, id="nothing new"),
        pytest.param(None, ResponseHead(304), Step.FAIL, id="304 to an unconditional request"),
        pytest.param(record('"a"'), ResponseHead(200, '"a"'), Step.UNCHANGED, id="a condition ignored"),
        pytest.param(record('W/"a"'), ResponseHead(200, 'W/"a"'), Step.UNCHANGED, id="a condition ignored, weak"),
        pytest.param(record('"a"'), ResponseHead(200, '"b"'), Step.WHOLE, id="another ETag"),
        pytest.param(record('W/"a"'), ResponseHead(200, '"a"'), Step.WHOLE, id="a weak ETag that became strong"),
        pytest.param(
            record('"a"', MONDAY), ResponseHead(200, None, MONDAY, 100), Step.WHOLE, id="no ETag in the response"
        ),
        pytest.param(
            record(None, MONDAY), ResponseHead(200, '"a"', MONDAY, 100), Step.WHOLE, id="an ETag is there now"
        ),
        pytest.param(
            record(None, MONDAY), ResponseHead(200, None, MONDAY, 100), Step.UNCHANGED, id="same date, same length"
        ),
        pytest.param(
            record(None, MONDAY), ResponseHead(200, None, MONDAY, 101), Step.WHOLE, id="same date, other length"
        ),
        pytest.param(record(None, MONDAY), ResponseHead(200, None, MONDAY), Step.WHOLE, id="same date, unknown length"),
        pytest.param(record(None, MONDAY), ResponseHead(200, None, TUESDAY, 100), Step.WHOLE, id="another date"),
        pytest.param(record(), ResponseHead(200, None, None, 100), Step.WHOLE, id="no validators"),
        pytest.param(None, ResponseHead(206, length_bytes=100), Step.FAIL, id="an unrequested range"),
        pytest.param(None, ResponseHead(416), Step.FAIL, id="416 to a request without a range"),
    ],
)
def test_the_meaning_of_a_response_to_a_full_request(
    known: ManifestRecord | None, head: ResponseHead, step: Step
) -> None:
    assert step_of(head, known) is step


@pytest.mark.parametrize(
    ("begun", "head", "step"),
    [
        pytest.param(part(40, '"a"'), ResponseHead(206, '"a"', None, 100, 40), Step.RESUME, id="the rest"),
        pytest.param(
            part(40, '"a"'), ResponseHead(206, None, None, 100, 40), Step.RESUME, id="the rest, without its ETag"
        ),
        pytest.param(
            part(40, '"a"'), ResponseHead(206, '"a"', None, None, 40), Step.RESUME, id="the rest, of unknown length"
        ),
        pytest.param(
            part(40, '"a"', total=None), ResponseHead(206, '"a"', None, 100, 40), Step.RESUME, id="a length now known"
        ),
        pytest.param(
            part(40, '"a"'), ResponseHead(206, '"b"', None, 100, 40), Step.RESTART, id="the rest of another ETag"
        ),
        pytest.param(
            part(40, '"a"'), ResponseHead(206, '"a"', None, 101, 40), Step.RESTART, id="the rest of another length"
        ),
        pytest.param(part(40, '"a"'), ResponseHead(206, '"a"', None, 100, 39), Step.RESTART, id="too early"),
        pytest.param(part(40, '"a"'), ResponseHead(206, '"a"', None, 100, 41), Step.RESTART, id="too late"),
        pytest.param(part(40, '"a"'), ResponseHead(206, '"a"', None, None, -1), Step.RESTART, id="no position"),
        pytest.param(
            part(40, None, MONDAY), ResponseHead(206, None, MONDAY, 100, 40), Step.RESUME, id="the rest, by date"
        ),
        pytest.param(
            part(40, None, MONDAY), ResponseHead(206, None, TUESDAY, 100, 40), Step.RESTART, id="of another date"
        ),
        pytest.param(part(40, '"a"'), ResponseHead(200, '"b"', None, 50), Step.WHOLE, id="it has changed: all of it"),
        pytest.param(part(40, '"a"'), ResponseHead(200, '"a"', None, 100), Step.WHOLE, id="a range ignored"),
        pytest.param(part(100, '"a"'), ResponseHead(416, None, None, 100), Step.COMPLETE, id="nothing after the part"),
        pytest.param(
            part(100, '"a"'), ResponseHead(416, '"a"', None, 100), Step.COMPLETE, id="nothing after the part, same ETag"
        ),
        pytest.param(
            part(100, '"a"', total=None), ResponseHead(416, None, None, 100), Step.COMPLETE, id="that was all"
        ),
        pytest.param(part(100, '"a"'), ResponseHead(416, '"b"', None, 100), Step.RESTART, id="no more of another"),
        pytest.param(part(100, '"a"'), ResponseHead(416, None, None, 90), Step.RESTART, id="it has become shorter"),
        pytest.param(part(100, '"a"'), ResponseHead(416, None, None, None, -1), Step.RESTART, id="no length"),
    ],
)
def test_the_meaning_of_a_response_to_a_range_request(begun: Part, head: ResponseHead, step: Step) -> None:
    assert step_of(head, None, begun) is step


def test_not_modified_is_accepted_even_with_a_part() -> None:
    assert step_of(ResponseHead(304), record('"a"'), part(40, '"b"')) is Step.UNCHANGED


def test_a_part_does_not_cause_a_download_of_the_recorded_content() -> None:
    assert step_of(ResponseHead(200, '"a"', None, 100), record('"a"'), part(40, '"b"')) is Step.UNCHANGED


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 530, 598, 599])
def test_a_status_that_may_pass_is_retried(status: int) -> None:
    assert decide(FetchRequest(), None, None, ResponseHead(status)) == Action(Step.RETRY, f"HTTP {status}")


@pytest.mark.parametrize("status", [100, 204, 300, 305, 400, 401, 403, 404, 405, 410, 411, 451, 999])
def test_any_other_status_is_final(status: int) -> None:
    action = decide(FetchRequest(), None, None, ResponseHead(status))
    assert (action.step, action.reason.partition(":")[0]) == (Step.FAIL, f"HTTP {status}")


@pytest.mark.parametrize("status", [501, 505, 506, 508, 510, 511])
def test_a_status_of_the_server_that_is_about_the_request_is_final(status: int) -> None:
    assert decide(FetchRequest(), None, None, ResponseHead(status)).step is Step.FAIL


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "credentials"), (403, "headers"), (404, "url"), (410, "configuration"), (451, "url")],
)
def test_a_final_status_comes_with_advice(status: int, advice: str) -> None:
    assert advice in decide(FetchRequest(), None, None, ResponseHead(status)).reason


@pytest.mark.parametrize("status", [202, 403, 500, 501, 505, 506, 508, 510, 511, 599])
def test_a_status_with_a_time_to_wait_is_retried(status: int) -> None:
    assert decide(FetchRequest(), None, None, ResponseHead(status, retry_after_s=2.0)) == Action(
        Step.RETRY, f"HTTP {status}", 2.0
    )


@pytest.mark.parametrize("status", [400, 401, 404, 410, 451])
def test_a_status_that_waiting_does_not_change_is_final(status: int) -> None:
    assert decide(FetchRequest(), None, None, ResponseHead(status, retry_after_s=2.0)).step is Step.FAIL


def test_a_file_in_preparation_is_reported() -> None:
    assert "still preparing" in decide(FetchRequest(), None, None, ResponseHead(202)).reason


@pytest.mark.parametrize("after_s", [0.0, 1.0, RETRY_AFTER_MAX_S])
def test_the_servers_retry_after_is_passed_on(after_s: float) -> None:
    assert decide(FetchRequest(), None, None, ResponseHead(429, retry_after_s=after_s)).after_s == after_s


def test_a_server_that_asks_for_a_long_pause_is_reported() -> None:
    action = decide(FetchRequest(), None, None, ResponseHead(503, retry_after_s=RETRY_AFTER_MAX_S + 1))
    assert (action.step, "601 s" in action.reason) == (Step.FAIL, True)


# -- arbitrary responses -----------------------------------------------------------------------------------------------

LENGTHS = st.none() | st.sampled_from([0, 1, 40, 99, 100, 101]) | st.integers(0, 2**63)
ETAGS = st.none() | st.sampled_from(['"a"', 'W/"a"', '"b"', "", "a"]) | st.text(max_size=5)
DATES = st.none() | st.sampled_from([MONDAY, TUESDAY, ""])
STATUSES = st.sampled_from([200, 206, 304, 416, 404, 429, 503]) | st.integers(-1, 1000)
STARTS = st.sampled_from([-1, 0, 39, 40, 41, 100]) | st.integers(-1, 2**63)
WAITS = st.none() | st.floats(0, allow_nan=False)

HEADS = st.builds(ResponseHead, STATUSES, ETAGS, DATES, LENGTHS, STARTS, WAITS, st.none() | st.just("gzip"))
PARTS = st.none() | st.builds(Part, st.sampled_from([0, 40, 100]) | st.integers(0, 2**63), ETAGS, DATES, LENGTHS)
RECORDS = st.none() | st.builds(record, ETAGS, DATES, st.sampled_from([1, 100]))


@given(known=RECORDS, begun=PARTS, head=HEADS)
def test_there_is_an_action_for_whatever_a_server_sends(
    known: ManifestRecord | None, begun: Part | None, head: ResponseHead
) -> None:
    action = decide(build_request(known, begun), known, begun, head)
    if action.step is Step.WHOLE:
        assert head.status == 200
    if action.step is Step.RESUME:
        assert head.status == 206
        assert begun is not None
        assert head.start == begun.length_bytes > 0
    if action.step is Step.COMPLETE:
        assert head.status == 416
        assert begun is not None
        assert head.length_bytes == begun.length_bytes
    if action.step is Step.UNCHANGED:
        assert known is not None


@given(known=RECORDS, begun=PARTS)
def test_a_range_is_never_requested_without_a_validator(known: ManifestRecord | None, begun: Part | None) -> None:
    ask = build_request(known, begun)
    assert (ask.start > 0) == (ask.if_range is not None)


@given(known=RECORDS, begun=PARTS, head=HEADS)
def test_an_action_that_ends_the_attempt_says_why(
    known: ManifestRecord | None, begun: Part | None, head: ResponseHead
) -> None:
    action = decide(build_request(known, begun), known, begun, head)
    assert bool(action.reason) == (action.step in (Step.FAIL, Step.RETRY, Step.RESTART))


# -- pauses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "backoff_s", "after_s", "chance", "expected"),
    [
        pytest.param(1, 0.5, None, 1.0, 0.5, id="first, longest"),
        pytest.param(1, 0.5, None, 0.0, 0.25, id="first, shortest"),
        pytest.param(2, 0.5, None, 1.0, 1.0, id="twice as long"),
        pytest.param(4, 0.5, None, 1.0, 4.0, id="and again"),
        pytest.param(100, 0.5, None, 1.0, BACKOFF_MAX_S, id="at most the maximum"),
        pytest.param(100, 86_400.0, None, 0.0, BACKOFF_MAX_S / 2, id="at most the maximum, whatever is configured"),
        pytest.param(3, 0.0, None, 1.0, 0.0, id="no back-off"),
        pytest.param(3, 0.5, 7.0, 0.0, 7.0, id="the delay of the server"),
        pytest.param(3, 0.5, 0.0, 1.0, 2.0, id="no less, though the server says at once"),
        pytest.param(1, 0.5, 0.0, 0.0, 0.5, id="no less than the back-off, whatever the chance"),
        pytest.param(1, 86_400.0, 0.0, 0.0, BACKOFF_MAX_S, id="at most the maximum, with a delay of 0"),
        pytest.param(3, 0.0, 0.0, 1.0, 0.0, id="at once, when both want that"),
    ],
)
def test_how_long_to_wait(
    failures: int, backoff_s: float, after_s: float | None, chance: float, expected: float
) -> None:
    assert pause_s(failures, backoff_s, after_s, chance) == expected


@given(st.integers(1, 101), st.floats(0, 86_400), st.floats(0, 1))
def test_a_pause_is_in_the_upper_half_of_its_longest(failures: int, backoff_s: float, chance: float) -> None:
    longest = pause_s(failures, backoff_s, None, 1.0)
    assert longest / 2 <= pause_s(failures, backoff_s, None, chance) <= longest <= BACKOFF_MAX_S


def test_every_step_is_reached_by_some_answer() -> None:
    answers: list[tuple[Any, Any, ResponseHead]] = [
        (record('"a"'), None, ResponseHead(304)),
        (None, None, ResponseHead(200)),
        (None, part(40, '"a"'), ResponseHead(206, '"a"', None, 100, 40)),
        (None, part(100, '"a"'), ResponseHead(416, '"a"', None, 100)),
        (None, part(40, '"a"'), ResponseHead(206, '"b"', None, 100, 40)),
        (None, None, ResponseHead(503)),
        (None, None, ResponseHead(404)),
    ]
    assert {step_of(head, known, begun) for known, begun, head in answers} == set(Step)
