"""What an answer means: a pure function from what is known and what the server says to what to do next.

Invariants:

- The same inputs give the same action; nothing is read, written, timed or asked here.
- A part is gone on with only if the server vouches that it is the beginning of what it would send now.
- A source is unchanged only while every validator that both sides name agrees. An ETag that says nothing counts as none.
- Whatever a server sends, there is an action for it.

The loop that performs the actions is `download`.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

from manifestlog.extract.fetch import Ask, Head
from manifestlog.models import ManifestRecord

BACKOFF_MAX_S = 120.0
RETRY_AFTER_MAX_S = 600.0
WORTHLESS_ETAG = '""'
"""What is recorded in place of an ETag that this source has sent for different contents: from then on it counts as none."""
EMPTY = "the server sent an empty file, and a record is of at least one byte: check the source"
_NOT_MODIFIED = 304
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)} - {501, 505, 506, 508, 510, 511})
"""What may be better next time: also what stands before a server says of it (520 to 530). The rest is about the request."""
_PATIENT = frozenset({202, 403, *range(500, 600)})
"""What is final by itself, but not when the server says how long to wait."""
_HINTS = {
    202: "the server is still preparing it: run it again later",
    400: "the server does not take the request: check the source's url, headers and body, and cert if it wants one",
    401: "the server wants other credentials: check the source's headers",
    403: "the server refuses it: check the source's headers and address",
    404: "the server has no such file: check the source's url",
    405: "the server wants to be asked in another way: set method for the source, GET or POST",
    407: "the proxy wants other credentials: correct proxy, or the variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
    410: "the server has it no longer: take the source out of the configuration",
    415: "the server wants another kind of body: check body, and set Content-Type in the source's headers",
    **dict.fromkeys(
        (300, 301, 302, 303, 307, 308), "the server redirects, but does not say where: tell whoever runs it"
    ),
}


class Part(NamedTuple):
    """The beginning of a content on our disk, and what the server called that content."""

    length_bytes: int
    etag: str | None
    last_modified: str | None
    total_bytes: int | None
    strong_date: bool | None = None
    encoding: str | None = None
    content_type: str | None = None


class Step(StrEnum):
    """What to do with an answer."""

    UNCHANGED = "unchanged"
    """The content is the recorded one: leave the body."""
    WHOLE = "whole"
    """Take the body from the beginning."""
    RESUME = "resume"
    """Take the body behind what the part holds."""
    COMPLETE = "complete"
    """The part is all there is."""
    RESTART = "restart"
    """The part is no good: drop it and ask again."""
    RETRY = "retry"
    """Ask again later."""
    FAIL = "fail"
    """Give up."""


class Action(NamedTuple):
    """A step, why, and for `RETRY` how long the server wants us to wait."""

    step: Step
    reason: str = ""
    after_s: float | None = None


def ask_for(record: ManifestRecord | None, part: Part | None, *, by_date: bool = True, pinned: bool = False) -> Ask:
    """What to ask, given the source's record and the part of an earlier attempt.

    A date is sent only if `by_date`. It asks for what is newer, so "not modified" is also the answer of a server that has
    an older file there; without it the whole answer's head is compared with the record (`decide`). The rest of a part
    that nothing names is asked for only if the content is `pinned`: then its checksum decides.
    """
    etag = telling(record.etag) if record else None
    last_modified = record.last_modified if record and etag is None and by_date else None
    validator = _range_validator(part, worthless=_has_worthless_etags(record))
    if part is None or part.length_bytes == 0 or (validator is None and not pinned):
        return Ask(etag, last_modified)
    return Ask(etag, last_modified, part.length_bytes, validator)


def _range_validator(part: Part | None, *, worthless: bool) -> str | None:
    """What names the part's content byte for byte (RFC 9110, 13.1.5).

    A weak ETag does not; the date beside it does if it is known to be strong (8.8.2.2), and without an ETag unless it is
    known to be weak.
    """
    if part is None:
        return None
    etag = None if worthless else telling(part.etag)
    if etag is not None and not etag.startswith("W/"):
        return etag
    is_strong = part.strong_date is not False if etag is None else part.strong_date is True
    return part.last_modified if is_strong else None


def telling(etag: str | None) -> str | None:
    """The ETag, or None when it is empty and so the same for whatever content."""
    return None if etag is None or etag.removeprefix("W/").strip('"') == "" else etag


def _has_worthless_etags(record: ManifestRecord | None) -> bool:
    return record is not None and record.etag is not None and telling(record.etag) is None


def etag_to_record(before: ManifestRecord | None, checksum: str, etag: str | None) -> str | None:
    """What to record as the ETag of this content; `before` is what the source had so far.

    An ETag that came with two contents is worthless, and so are this source's others from then on.
    """
    if telling(etag) is None:
        return None
    proven = before is not None and before.checksum != checksum and before.etag == etag
    return WORTHLESS_ETAG if proven or _has_worthless_etags(before) else etag


def decide(ask: Ask, record: ManifestRecord | None, part: Part | None, head: Head) -> Action:
    """What to do with this answer to `ask`."""
    if head.status == _NOT_MODIFIED:
        if record is None:
            return Action(
                Step.FAIL, "the server says that nothing has changed, but was not asked: check the source's url"
            )
        return Action(Step.UNCHANGED)
    if head.status == 200:
        return _whole(record, head)
    if head.status == 206:
        return _rest(ask, part, head)
    if head.status == 416 and ask.start:
        return _nothing_behind(part, head)
    if head.status in _TRANSIENT or (head.status in _PATIENT and head.retry_after_s is not None):
        return _later(head)
    hint = _HINTS.get(head.status, "check the source's url")
    return Action(Step.FAIL, f"HTTP {head.status}: {hint}")


def _whole(record: ManifestRecord | None, head: Head) -> Action:
    if head.length_bytes == 0:
        return Action(Step.FAIL, EMPTY)
    if record is not None and _is_recorded(record, head):
        return Action(Step.UNCHANGED)
    return Action(Step.WHOLE)


def _is_recorded(record: ManifestRecord, head: Head) -> bool:
    """Whether a server that ignores conditions has answered them nevertheless."""
    if contradicts(record, head):
        return False
    ours, theirs = telling(record.etag), telling(head.etag)
    if not _has_worthless_etags(record) and (ours is not None or theirs is not None):
        return ours == theirs
    same_time = head.last_modified is not None and head.last_modified == record.last_modified
    return same_time and head.length_bytes == record.file_size


def contradicts(record: ManifestRecord, head: Head) -> bool:
    """Whether any validator that both name differs: then there is news, whatever the others or the status say.

    To "not modified" ETags are compared as the server has compared them, weakly (RFC 9110, 13.1.2).
    """
    ours, theirs = telling(record.etag), telling(head.etag)
    if head.status == _NOT_MODIFIED:
        ours, theirs = (etag and etag.removeprefix("W/") for etag in (ours, theirs))
    if ours is not None and theirs is not None and ours != theirs:
        return True
    if head.length_bytes is not None and head.encoding is None and head.length_bytes != record.file_size:
        return True
    dates = (record.last_modified, head.last_modified)
    return None not in dates and _moment(dates[0]) != _moment(dates[1])


def is_denied(record: ManifestRecord | None, head: Head) -> bool:
    """Whether "not modified" comes with a validator that says otherwise: ask again without conditions then."""
    return head.status == _NOT_MODIFIED and record is not None and contradicts(record, head)


def _moment(date: str | None) -> object:
    """What a date of HTTP means; what is none is compared as text."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return date


def _rest(ask: Ask, part: Part | None, head: Head) -> Action:
    if part is None or not ask.start:
        return Action(Step.FAIL, "the server sent a part of the file, but was asked for all: check the source's url")
    if head.start != part.length_bytes or _is_another(part, head):
        return Action(Step.RESTART, "the server went on with something else")
    return Action(Step.RESUME)


def _is_another(part: Part, head: Head) -> bool:
    pairs = [
        (telling(part.etag), telling(head.etag)),
        (part.total_bytes, head.length_bytes),
        (part.last_modified, head.last_modified),
    ]
    if head.encoding not in (None, part.encoding):
        return True
    return any(ours is not None and theirs is not None and ours != theirs for ours, theirs in pairs)


def _nothing_behind(part: Part | None, head: Head) -> Action:
    if part is not None and head.length_bytes == part.length_bytes and not _is_another(part, head):
        return Action(Step.COMPLETE)
    return Action(Step.RESTART, "the server has nothing behind what we have")


def _later(head: Head) -> Action:
    reason = f"HTTP {head.status}"
    if head.retry_after_s is not None and head.retry_after_s > RETRY_AFTER_MAX_S:
        wanted = f"{reason}: the server wants to be left alone for {head.retry_after_s:.0f} s: run it again after that"
        return Action(Step.FAIL, wanted)
    return Action(Step.RETRY, reason, head.retry_after_s)


def pause_s(failures: int, backoff_s: float, after_s: float | None, chance: float) -> float:
    """How long to wait after so many failures in a row: twice as long each time, or longer when the server wants that.

    A server that names a time gets no less than `backoff_s`: some say 0 and mean nothing by it.
    `chance`, from 0 to 1, spreads those who failed together over the upper half ("equal jitter").
    """
    pause = min(backoff_s * 2.0 ** (failures - 1), BACKOFF_MAX_S) * (0.5 + chance / 2)
    return pause if after_s is None else max(after_s, pause, min(backoff_s, BACKOFF_MAX_S))
