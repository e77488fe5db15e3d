"""Takes one source from the state check to its record: the loop that carries out the actions of `decide`.

The four steps, by the names of the design::

    1 state check     look the source up in the manifest, and ask the server for changes since then
    2 fetch           download the body into a part while hashing it, or resume an interrupted part
    3 deduplication   keep each content once                                   (`register`, `landing`)
    4 completion      publish the part under its final name, then add a record (`landing`)

Invariants:

- A body is received under a claim on the source's part: no other thread or process works on the same source. The claim
  is taken before the request if the request has no condition, or if an earlier run has left a part. Otherwise it is
  taken when a body comes, and the request is repeated if another run has fetched the source meanwhile.
- An unchanged source costs no claim and no change on the disk.
- A crash at any point leaves a part that the next run resumes, or a file that the next run registers (`part_file`).

It does not know about processes or the display of a run.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifestlog.errors import ManifestError, RecordRejectedError
from manifestlog.extract.attempts import Attempts, Ended, Postponed, Task
from manifestlog.extract.config.source import Conditions, ETLSource
from manifestlog.extract.content_encoding import resolve_encoding
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.decide import (
    Action,
    Part as Begun,
    Step,
    build_request,
    contradicts_not_modified,
    decide,
    merged_head,
    pause_s,
)
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.protocol import FetchError, FetchRequest, Response
from manifestlog.extract.missing_file import missing_file_warning
from manifestlog.extract.paths import alternate_path, file_name_of
from manifestlog.extract.places.protocol import Part
from manifestlog.extract.receive import timeout_error
from manifestlog.extract.receive_ranges import receive_body
from manifestlog.extract.register import finish_interrupted, register
from manifestlog.extract.report import Outcome, Result, Started, Waiting
from manifestlog.extract.request_options import uses_post
from manifestlog.model.models import ManifestRecord
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.server_errors import ClaimLostError
from manifestlog.workers.stop import StopAskedError

log = logging.getLogger(__name__)

_CLAIMED_RUNS_MAX = 3
"""The number of runs in a row that may skip a claimed source before a warning."""
_BUSY = frozenset({429, 503})
"""Statuses by which a server asks everybody for fewer requests."""


class _PostponedError(Exception):
    """The next attempt is due after a pause, which the caller of `advance` schedules."""

    def __init__(self, pause_s: float, *, is_held: bool) -> None:
        super().__init__(pause_s)
        self.pause_s = pause_s
        self.is_held = is_held


def extract(context: WorkerContext, source: ETLSource) -> Outcome:
    """Fetch a source if it has changed, and register the result.

    A failure of the source becomes an outcome. Raises `ManifestError` if the manifest fails, and `StopAskedError` if
    the run is stopped; the bytes received so far are kept in both cases.
    """
    return _extract(context, source, Attempts.begin(context.defaults.timeout_total_s))


def advance(context: WorkerContext, source: ETLSource, task: Task) -> Ended | Postponed:
    """Like `extract`, but end with `Postponed` instead of a pause; the same task then continues, in any worker."""
    attempts = task.attempts or Attempts.begin(context.defaults.timeout_total_s)
    try:
        outcome = _extract(context, source, attempts)
    except _PostponedError as error:
        again = task._replace(attempts=attempts)
        return Postponed(again, error.pause_s, error.is_held, attempts.answered)
    return Ended(outcome, task.host, attempts.answered)


def _extract(context: WorkerContext, source: ETLSource, attempts: Attempts) -> Outcome:
    try:
        outcome = _run_steps(context, source, attempts)
    except (ExtractError, ObjectStoreError, RecordRejectedError) as error:
        if isinstance(error, FetchError) and not error.transient and not attempts.answered:
            attempts.answered = None  # it says nothing of the server
        outcome = context.failed(source, error)
    except ClaimLostError as error:  # another host has the source
        outcome = Outcome(source.source_id, source.dataset, Result.CLAIMED, warning=context.redacted(source, error))
    except ManifestError:
        raise  # before `OSError`, which some of them are too: without the manifest no source can continue
    except OSError as error:
        outcome = context.failed(source, error)
    if outcome.error is not None:
        context.manifest.fail(source, outcome.error, **_attempt_of(context, source, attempts))
    return outcome._replace(bytes_fetched=attempts.bytes, seconds=time.monotonic() - attempts.began)


def _attempt_of(context: WorkerContext, source: ETLSource, attempts: Attempts) -> dict[str, Any]:
    """Return what the history keeps of an attempt."""
    return {
        "url": context.safe_address(source),
        "status": attempts.status,
        "bytes": attempts.bytes or None,
        "seconds": round(time.monotonic() - attempts.began, 3),
    }


class _ClaimedError(Exception):
    """Another run has claimed the source."""


class _OutdatedError(Exception):
    """Another run has worked on the source since the request was made."""


@dataclass(slots=True)
class _Turn:
    """One turn of a source: what its steps share."""

    context: WorkerContext
    source: ETLSource
    attempts: Attempts
    part: Part
    claims: ExitStack
    """Releases the claim at the end of the turn."""
    is_claimed: bool = False

    def claim(self) -> None:
        """Claim the source for this turn; raises `_ClaimedError`."""
        if not self.claims.enter_context(self.context.claims.trying_source(self.source, self.part.path)):
            raise _ClaimedError
        self.is_claimed = True
        self.clear_skips()

    def clear_skips(self) -> None:
        """Forget the runs that skipped the source, since this one does not."""
        with suppress(OSError, ExtractError):  # without it only a warning is wrong
            self.context.claims.clear_skips(self.context.claims.name_of(self.part.path))

    def known(self) -> ManifestRecord | None:
        """Return the latest record of the source."""
        return self.context.manifest.get_record_by_source(self.source.source_id, self.source.dataset)


def _run_steps(context: WorkerContext, source: ETLSource, attempts: Attempts) -> Outcome:
    part = context.place.part(source)
    if context.shows_progress and attempts.failures == 0:
        context.emit(Started(source.source_id, source.dataset))
    with ExitStack() as claims:
        claims.callback(part.close)
        turn = _Turn(context, source, attempts, part, claims)
        try:
            before = turn.known()
            if not _asks_for_changes(context, source, before) or _may_be_left(part, attempts):
                turn.claim()
                before = _settle_left_over(turn)
            return _fetch_and_register(turn, before)
        except _OutdatedError:
            return _fetch_and_register(turn, _settle_left_over(turn))
        except _ClaimedError:
            return _skip_claimed(context, source, context.claims.name_of(part.path))
        except (ExtractError, OSError):
            context.claims.ensure_held()  # what another host has taken over fails for that reason, whatever went wrong
            raise


def _may_be_left(part: Part, attempts: Attempts) -> bool:
    """Return whether an earlier run, or an earlier attempt of this one, may have left something."""
    return part.load() if attempts.failures else part.may_be_left()


def _settle_left_over(turn: _Turn) -> ManifestRecord | None:
    """Register what an earlier run left complete; return the latest record, now that the source is claimed."""
    turn.part.load()
    turn.attempts.left = finish_interrupted(turn.context, turn.source, turn.part) or turn.attempts.left
    return turn.known()


def _asks_for_changes(context: WorkerContext, source: ETLSource, before: ManifestRecord | None) -> bool:
    """Return whether a body comes only if the source has changed."""
    record = comparable(before, source)
    if record is None or uses_post(source, context.defaults):
        return False
    request = build_request(record, None, by_date=has_recorded_name(record, source))
    return has_pinned(record, source) or request != FetchRequest()


def _fetch_and_register(turn: _Turn, before: ManifestRecord | None) -> Outcome:
    context, source, part, attempts = turn.context, turn.source, turn.part, turn.attempts
    record = comparable(before, source)
    if not has_pinned(record, source) and _download(turn, before, record):
        sha256 = part.decode() or attempts.sha256 or part.sha256()
        return register(context, source, part, sha256, before, _attempt_of(context, source, attempts))
    part.discard()
    if not turn.is_claimed:
        turn.clear_skips()
    if attempts.left is not None:
        return attempts.left
    assert record is not None
    path, size = context.locate(record), record.file_size
    warning = missing_file_warning(context, part.paths, record, path) if context.place.sees(path) else None
    return Outcome(source.source_id, source.dataset, Result.UNCHANGED, str(path), bytes_saved=size, warning=warning)


def _skip_claimed(context: WorkerContext, source: ETLSource, name: str) -> Outcome:
    """Skip a source that another run has claimed; warn if runs in a row have skipped it, since the holder may hang."""
    warning = None
    with suppress(OSError, ExtractError):  # without the note only the warning is lost
        runs = context.claims.record_skip(name)
        if len(runs) >= _CLAIMED_RUNS_MAX:
            often = f"claimed in the last {len(runs)} runs, since {runs[0]}"
            warning = f"{often}; find the run that hangs, and end it"
    return Outcome(source.source_id, source.dataset, Result.CLAIMED, warning=warning)


# -- 1 state check -----------------------------------------------------------------------------------------------------


def comparable(record: ManifestRecord | None, source: ETLSource) -> ManifestRecord | None:
    """Return the source's record; None if the server's content must not be compared with it."""
    return record if record is not None and _is_comparable(record, source) else None


def _is_comparable(record: ManifestRecord, source: ETLSource) -> bool:
    """Return whether the record has the pinned content and the source's `Conditions` allow a comparison."""
    if source.checksum not in (None, record.checksum) or source.conditions is Conditions.NEVER:
        return False
    return source.conditions is Conditions.RECORDED or has_recorded_name(record, source)


def has_pinned(record: ManifestRecord | None, source: ETLSource) -> bool:
    """Return whether `comparable` returned the pinned content: no request is needed, since no other content is
    accepted.
    """
    return record is not None and source.checksum is not None


def has_recorded_name(record: ManifestRecord | None, source: ETLSource) -> bool:
    """Return whether the recorded file has a name of this source's files; otherwise its URL was another one.

    A record contains no URL, since a URL may contain a secret.
    """
    if record is None:
        return False
    name, recorded = file_name_of(source), record.file_path.name
    return recorded == name or recorded == alternate_path(Path(name), record.checksum).name


# -- 2 fetch -----------------------------------------------------------------------------------------------------------


def _download(turn: _Turn, before: ManifestRecord | None, record: ManifestRecord | None) -> bool:
    """Fetch the content; fetch it again in full if a part resumed without a validator is not the pinned content.

    `record` is `before` if the server's content may be compared with it, else None. Returns False if the server has
    nothing new.
    """
    part, attempts = turn.part, turn.attempts
    came = _fetch(turn, before, record)
    if came and attempts.spliced and (attempts.sha256 or part.sha256()) != turn.source.checksum:
        part.discard()
        attempts.sha256 = None
        return _fetch(turn, before, record)
    return came


def _fetch(turn: _Turn, before: ManifestRecord | None, record: ManifestRecord | None) -> bool:
    """Fetch the whole content into the part; return False if the server has nothing new."""
    while True:
        try:
            action = _attempt(turn, before, record)
        except FetchError as error:
            if turn.context.stop.asked:
                raise StopAskedError from None  # it has cut the connection
            if not error.transient:
                raise
            action = Action(Step.RETRY, error.reason)
        if action.step in (Step.UNCHANGED, Step.COMPLETE):
            return action.step is Step.COMPLETE
        if action.step is Step.FAIL:
            raise FetchError(action.reason, transient=False)
        if action.step is Step.RESTART:
            turn.part.discard()
        _pause(turn.context, turn.source, action, turn.attempts)


def _pause(context: WorkerContext, source: ETLSource, action: Action, attempts: Attempts) -> None:
    """Wait before the next attempt; raises `FetchError` after too many failures."""
    attempts.failures += 1
    if attempts.failures > context.defaults.retries:
        count = f"{attempts.failures} {'attempt' if attempts.failures == 1 else 'attempts'} failed"
        raise FetchError(f"{action.reason}; {count}: run extract again later", transient=True)
    seconds = pause_s(attempts.failures, context.defaults.backoff_s, action.after_s, random.random())  # noqa: S311 -- no secret
    if time.monotonic() + seconds > attempts.deadline:
        raise timeout_error(context, action.reason)
    context.emit(
        Waiting(source.source_id, source.dataset, context.redacted(source, FetchError(action.reason, True)), seconds)
    )
    if context.postpones:
        raise _PostponedError(seconds, is_held=bool(attempts.answered) and _asks_for_less(action, attempts))
    context.stop.sleep(seconds)


def _asks_for_less(action: Action, attempts: Attempts) -> bool:
    """Return whether the server wants fewer requests, not only this one later."""
    return action.after_s is not None or attempts.status in _BUSY


def _attempt(turn: _Turn, before: ManifestRecord | None, record: ManifestRecord | None) -> Action:
    """Send one request and process its response; `COMPLETE` means that the part is complete."""
    source = turn.source
    begun = turn.part.resumable()
    if uses_post(source, turn.context.defaults):
        record = begun = None  # no conditions and no ranges: the content itself is compared after the download
    pinned = source.checksum is not None and (begun is None or begun.encoding is None)  # a pin refers to decoded bytes
    request = build_request(record, begun, by_date=has_recorded_name(record, source), pinned=pinned)
    with _send(turn, request) as response:
        if not contradicts_not_modified(record, response.head):
            return _handle_response(turn, response, (request, record, begun), before)
    # The validator contradicts "not modified": only an unconditional request returns the current content.
    request = build_request(None, begun, pinned=pinned)
    with _send(turn, request) as response:
        return _handle_response(turn, response, (request, None, begun), before)


@contextmanager
def _send(turn: _Turn, request: FetchRequest) -> Iterator[Response]:
    context, source, attempts = turn.context, turn.source, turn.attempts
    attempts.answered = False
    opened = context.fetcher.open(source, request)
    with context.stop.interruptible():
        response = opened.__enter__()
    try:
        attempts.answered, attempts.status = True, response.head.status
        how, status = f" from byte {request.start}" if request.start else "", response.head.status
        log.debug("%s/%s: requested%s, response status %d", source.dataset, source.source_id, how, status)
        yield response
    finally:
        opened.__exit__(None, None, None)


def _handle_response(
    turn: _Turn,
    response: Response,
    asked: tuple[FetchRequest, ManifestRecord | None, Begun | None],
    before: ManifestRecord | None,
) -> Action:
    """Apply the response to the part."""
    context, source, attempts = turn.context, turn.source, turn.attempts
    head = resolve_encoding(context.defaults, source, response.head)
    if uses_post(source, context.defaults):
        head = head._replace(
            etag=None, last_modified=None, strong_date=None
        )  # they describe this response only, not the next
    action, (request, _, begun) = decide(*asked, head), asked
    if action.step in (Step.WHOLE, Step.RESUME, Step.COMPLETE):
        attempts.spliced = action.step is not Step.WHOLE and (attempts.spliced or request.if_range is None)
    if action.step is Step.WHOLE:
        _claim_late(turn, before)
        head = head._replace(start=0)
    elif action.step is Step.RESUME and begun is not None:
        head = merged_head(begun, head)
    else:
        return action
    return receive_body(context, source, response, turn.part, head, attempts, before)


def _claim_late(turn: _Turn, before: ManifestRecord | None) -> None:
    """Claim a source whose body comes, unless it is claimed; raises `_OutdatedError` if another run was faster."""
    if turn.is_claimed:
        return
    turn.claim()
    if turn.part.load() or turn.known() != before:
        raise _OutdatedError
