"""Decides what a response means: a pure function from the known facts and the response's head to the next action.

Invariants:

- The same inputs give the same action; this module does no I/O and reads no clock.
- A part is resumed only if the server confirms that it is the beginning of the current content.
- A source is unchanged only if all validators that both sides have agree. An empty ETag counts as none.
- Every response has an action.

`download` carries out the actions.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

from manifestlog.extract.fetchers.protocol import FetchRequest, ResponseHead
from manifestlog.model.models import ManifestRecord

BACKOFF_MAX_S = 120.0
RETRY_AFTER_MAX_S = 600.0
UNRELIABLE_ETAG = '""'
"""Recorded in place of an ETag that this source has sent for different contents; from then on, its ETags are ignored."""
EMPTY = "the server sent an empty file; a record needs at least one byte: check the source"
_NOT_MODIFIED = 304
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)} - {501, 505, 506, 508, 510, 511})
"""Statuses that may differ next time, including those of proxies and CDNs (520 to 530). The others concern the request."""
_RETRY_IF_ASKED = frozenset({202, 403, *range(500, 600)})
"""Final by themselves, but retried if the server says how long to wait."""
_HINTS = {
    202: "the server is still preparing the file: run extract again later",
    400: "the server rejects the request: check the source's url, headers and body, and cert if the server requires one",
    401: "the server rejects the credentials: check the source's headers",
    403: "the server denies access: check the source's headers and url",
    404: "the server has no such file: check the source's url",
    405: "the server rejects this method: set method for the source to GET or POST",
    407: "the proxy rejects the credentials: correct proxy, or the variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
    410: "the server no longer has the file: remove the source from the configuration",
    415: "the server rejects this type of body: check body, and set Content-Type in the source's headers",
    **dict.fromkeys((300, 301, 302, 303, 307, 308), "the server redirects without a target: report it to its operator"),
}


class Part(NamedTuple):
    """A partial content on the local disk, with the validators the server sent for it."""

    length_bytes: int
    etag: str | None
    last_modified: str | None
    total_bytes: int | None
    strong_date: bool | None = None
    encoding: str | None = None
    content_type: str | None = None


class Step(StrEnum):
    """What to do with a response."""

    UNCHANGED = "unchanged"
    """The content is the recorded one: skip the body."""
    WHOLE = "whole"
    """Take the body from the beginning."""
    RESUME = "resume"
    """Append the body to the part."""
    COMPLETE = "complete"
    """The part is the whole content."""
    RESTART = "restart"
    """The part is unusable: discard it and send another request."""
    RETRY = "retry"
    """Send the request again later."""
    FAIL = "fail"
    """Give up."""


class Action(NamedTuple):
    """A step, its reason, and for `RETRY` the delay the server asked for, in seconds."""

    step: Step
    reason: str = ""
    after_s: float | None = None


def build_request(
    record: ManifestRecord | None, part: Part | None, *, by_date: bool = True, pinned: bool = False
) -> FetchRequest:
    """Return the request for a source, given its record and the part of an earlier attempt.

    A date is sent only if `by_date`. It asks for a newer file, so a server with an older file answers "not modified"
    too. Without a date, `decide` compares the head of the full response with the record. A part without a validator is
    resumed only if the content is `pinned`, since the checksum then decides.
    """
    etag = usable_etag(record.etag) if record else None
    last_modified = record.last_modified if record and etag is None and by_date else None
    validator = range_validator(part, record)
    if part is None or part.length_bytes == 0 or (validator is None and not pinned):
        return FetchRequest(etag, last_modified)
    return FetchRequest(etag, last_modified, part.length_bytes, validator)


def range_validator(part: Part | None, record: ManifestRecord | None) -> str | None:
    """Return the validator that identifies the part's content byte for byte (RFC 9110, 13.1.5).

    A weak ETag does not. Beside a weak ETag a date qualifies if it is known to be strong (8.8.2.2); without an ETag it
    qualifies unless it is known to be weak.
    """
    if part is None:
        return None
    etag = None if _has_unreliable_etags(record) else usable_etag(part.etag)
    if etag is not None and not etag.startswith("W/"):
        return etag
    is_strong = part.strong_date is not False if etag is None else part.strong_date is True
    return part.last_modified if is_strong else None


def usable_etag(etag: str | None) -> str | None:
    """Return the ETag, or None if it is empty and therefore the same for every content."""
    return None if etag is None or etag.removeprefix("W/").strip('"') == "" else etag


def _has_unreliable_etags(record: ManifestRecord | None) -> bool:
    return record is not None and record.etag is not None and usable_etag(record.etag) is None


def etag_to_record(before: ManifestRecord | None, checksum: str, etag: str | None) -> str | None:
    """Return the ETag to record for this content; `before` is the source's previous record.

    An ETag that came with two contents is unreliable, and so are all later ETags of this source.
    """
    if usable_etag(etag) is None:
        return None
    proven = before is not None and before.checksum != checksum and before.etag == etag
    return UNRELIABLE_ETAG if proven or _has_unreliable_etags(before) else etag


def decide(request: FetchRequest, record: ManifestRecord | None, part: Part | None, head: ResponseHead) -> Action:
    """Return the action for this response to `request`."""
    if head.status == _NOT_MODIFIED:
        if record is None:
            return Action(Step.FAIL, "unexpected HTTP 304 to an unconditional request: check the source's url")
        return Action(Step.UNCHANGED)
    if head.status == 200:
        return _decide_full(record, head)
    if head.status == 206:
        return _decide_partial(request, part, head)
    if head.status == 416 and request.start:
        return _decide_unsatisfiable(part, head)
    if head.status in _TRANSIENT or (head.status in _RETRY_IF_ASKED and head.retry_after_s is not None):
        return _decide_retry(head)
    hint = _HINTS.get(head.status, "check the source's url")
    return Action(Step.FAIL, f"HTTP {head.status}: {hint}")


def _decide_full(record: ManifestRecord | None, head: ResponseHead) -> Action:
    if head.length_bytes == 0:
        return Action(Step.FAIL, EMPTY)
    if record is not None and _is_recorded(record, head):
        return Action(Step.UNCHANGED)
    return Action(Step.WHOLE)


def _is_recorded(record: ManifestRecord, head: ResponseHead) -> bool:
    """Return whether a full response has the recorded content, from a server that ignores conditions."""
    if contradicts(record, head):
        return False
    ours, theirs = usable_etag(record.etag), usable_etag(head.etag)
    if not _has_unreliable_etags(record) and (ours is not None or theirs is not None):
        return ours == theirs
    same_time = head.last_modified is not None and head.last_modified == record.last_modified
    return same_time and head.length_bytes == record.file_size


def contradicts(record: ManifestRecord, head: ResponseHead) -> bool:
    """Return whether any validator that both sides have differs; then the source has changed, whatever the status says.

    For "not modified", ETags are compared weakly, as the server compared them (RFC 9110, 13.1.2).
    """
    ours, theirs = usable_etag(record.etag), usable_etag(head.etag)
    if head.status == _NOT_MODIFIED:
        ours, theirs = (etag and etag.removeprefix("W/") for etag in (ours, theirs))
    if ours is not None and theirs is not None and ours != theirs:
        return True
    if head.length_bytes is not None and head.encoding is None and head.length_bytes != record.file_size:
        return True
    dates = (record.last_modified, head.last_modified)
    return None not in dates and _timestamp(dates[0]) != _timestamp(dates[1])


def contradicts_not_modified(record: ManifestRecord | None, head: ResponseHead) -> bool:
    """Return whether "not modified" comes with a validator that differs: then send an unconditional request."""
    return head.status == _NOT_MODIFIED and record is not None and contradicts(record, head)


def _timestamp(date: str | None) -> object:
    """Return the timestamp of an HTTP date; an invalid date is compared as text."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return date


def _decide_partial(request: FetchRequest, part: Part | None, head: ResponseHead) -> Action:
    if part is None or not (request.start or request.end):
        return Action(Step.FAIL, "unexpected HTTP 206 to a request for the whole file: check the source's url")
    if head.start != part.length_bytes or is_other_content(part, head):
        return Action(Step.RESTART, "the server resumed with other content")
    return Action(Step.RESUME)


def is_other_content(part: Part, head: ResponseHead) -> bool:
    """Return whether a response says that it belongs to other content than the part."""
    pairs = [
        (usable_etag(part.etag), usable_etag(head.etag)),
        (part.total_bytes, head.length_bytes),
        (part.last_modified, head.last_modified),
    ]
    if head.encoding not in (None, part.encoding):
        return True
    return any(ours is not None and theirs is not None and ours != theirs for ours, theirs in pairs)


def _decide_unsatisfiable(part: Part | None, head: ResponseHead) -> Action:
    if part is not None and head.length_bytes == part.length_bytes and not is_other_content(part, head):
        return Action(Step.COMPLETE)
    return Action(Step.RESTART, "the server has no bytes after the part")


def _decide_retry(head: ResponseHead) -> Action:
    reason = f"HTTP {head.status}"
    if head.retry_after_s is not None and head.retry_after_s > RETRY_AFTER_MAX_S:
        wanted = f"{reason}: the server asks for a pause of {head.retry_after_s:.0f} s: run extract again after that"
        return Action(Step.FAIL, wanted)
    return Action(Step.RETRY, reason, head.retry_after_s)


def merged_head(part: Part, head: ResponseHead) -> ResponseHead:
    """Return the head of a resumed body, completed with what only the first response said."""
    return head._replace(
        etag=head.etag or part.etag,
        last_modified=head.last_modified or part.last_modified,
        length_bytes=head.length_bytes or part.total_bytes,
        encoding=part.encoding,
        content_type=head.content_type or part.content_type,
        strong_date=head.strong_date if part.last_modified is None else part.strong_date,
    )


def pause_s(failures: int, backoff_s: float, after_s: float | None, chance: float) -> float:
    """Return the pause before the next attempt in seconds: it doubles with each failure, or is longer if the server
    asks.

    A server's delay is never cut below `backoff_s`: some servers send 0 without meaning it. `chance`, from 0 to 1,
    spreads simultaneous failures over the upper half of the pause ("equal jitter").
    """
    pause = min(backoff_s * 2.0 ** (failures - 1), BACKOFF_MAX_S) * (0.5 + chance / 2)
    return pause if after_s is None else max(after_s, pause, min(backoff_s, BACKOFF_MAX_S))
