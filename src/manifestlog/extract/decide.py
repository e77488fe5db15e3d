"""What an answer means: a pure function from what is known and what the server says to what to do next.

Invariants:

- The same inputs give the same action; nothing is read, written, timed or asked here.
- A part is gone on with only if the server vouches that it is the beginning of what it would send now.
- Whatever a server sends, there is an action for it.

The loop that performs the actions is `download`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from manifestlog.extract.fetch import Ask, Head
from manifestlog.models import ManifestRecord

BACKOFF_MAX_S = 120.0
RETRY_AFTER_MAX_S = 600.0
EMPTY = "the server sent an empty file, and a record is of at least one byte: check the source"
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)} - {501, 505, 506, 508, 510, 511})
"""What may be better next time: also what stands before a server says of it (520 to 530). The rest is about the request."""
_HINTS = {
    401: "the server wants other credentials: check the source's headers",
    403: "the server refuses it: check the source's headers and address",
    404: "the server has no such file: check the source's url",
    410: "the server has it no longer: take the source out of the configuration",
}


class Part(NamedTuple):
    """The beginning of a content on our disk, and what the server called that content."""

    length_bytes: int
    etag: str | None
    last_modified: str | None
    total_bytes: int | None


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


def ask_for(record: ManifestRecord | None, part: Part | None, *, by_date: bool = True) -> Ask:
    """What to ask, given the source's record and the part of an earlier attempt.

    A date is sent only if `by_date`. It asks for what is newer, so "not modified" is also the answer of a server that has
    an older file there; without it the whole answer's head is compared with the record (`decide`).
    """
    etag = record.etag if record else None
    last_modified = record.last_modified if record and etag is None and by_date else None
    validator = _range_validator(part)
    if part is None or validator is None:
        return Ask(etag, last_modified)
    return Ask(etag, last_modified, part.length_bytes, validator)


def _range_validator(part: Part | None) -> str | None:
    """What names the part's content byte for byte: a weak ETag does not (RFC 9110, 13.1.5)."""
    if part is None or part.length_bytes == 0:
        return None
    if part.etag is not None and not part.etag.startswith("W/"):
        return part.etag
    return part.last_modified if part.etag is None else None


def decide(ask: Ask, record: ManifestRecord | None, part: Part | None, head: Head) -> Action:
    """What to do with this answer to `ask`."""
    if head.status == 304:
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
    if head.status in _TRANSIENT:
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
    if head.etag is not None or record.etag is not None:
        return head.etag == record.etag
    same_time = head.last_modified is not None and head.last_modified == record.last_modified
    return same_time and head.length_bytes == record.file_size


def _rest(ask: Ask, part: Part | None, head: Head) -> Action:
    if part is None or not ask.start:
        return Action(Step.FAIL, "the server sent a part of the file, but was asked for all: check the source's url")
    if head.start != part.length_bytes or _is_another(part, head):
        return Action(Step.RESTART, "the server went on with something else")
    return Action(Step.RESUME)


def _is_another(part: Part, head: Head) -> bool:
    pairs = [(part.etag, head.etag), (part.total_bytes, head.length_bytes)]
    if part.etag is None or head.etag is None:
        pairs.append((part.last_modified, head.last_modified))
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
    """How long to wait after so many failures in a row: what the server wants, else twice as long each time.

    `chance`, from 0 to 1, spreads those who failed together over the upper half ("equal jitter").
    """
    if after_s is not None:
        return after_s
    longest = min(backoff_s * 2.0 ** (failures - 1), BACKOFF_MAX_S)
    return longest * (0.5 + chance / 2)
