"""One source, from the state check to its record: the loop that carries out what `decide` returns.

The four steps, by the names of the design::

    1 state check     look the source up in the manifest, and ask the server for changes since then
    2 fetch           download the body into a part while hashing it, or resume an interrupted part
    3 deduplication   keep each content once                                 (`register`)
    4 completion      publish the part under its final name, then add a record (`register`)

Invariants:

- All steps run under a claim on the source's part: no other process works on the same source.
- A crash at any point leaves a part that the next run resumes, or a file that the next run registers (`part_file`).

It knows neither processes nor the display of a run.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from manifestlog.errors import ManifestError, RecordRejectedError
from manifestlog.extract.attempts import Attempts, Ended, Postponed, Task
from manifestlog.extract.config.source import Conditions, ETLSource
from manifestlog.extract.content_encoding import resolve_encoding
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.decide import Action, Part, Step, build_request, contradicts_not_modified, decide, pause_s
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.protocol import FetchError, FetchRequest, Response, ResponseHead
from manifestlog.extract.missing_file import missing_file_warning
from manifestlog.extract.part_file import PartFile, PartWriter, make_directory, sha256_of
from manifestlog.extract.paths import SourcePaths, alternate_path, file_name_of
from manifestlog.extract.register import decode_part, finish_interrupted, register
from manifestlog.extract.report import Outcome, Progress, Result, Started, Waiting
from manifestlog.extract.request_options import uses_post
from manifestlog.model.models import ManifestRecord
from manifestlog.workers.stop import StopAskedError

log = logging.getLogger(__name__)

_EMIT_EVERY_S = 0.1
_CLAIMED_RUNS_MAX = 3
"""The number of runs in a row that may skip a claimed source before a warning."""
_BUSY = frozenset({429, 503})
"""Statuses by which a server asks everybody for fewer requests."""
_PROGRESS_BYTES = 1 << 20
"""Bytes beyond the furthest point so far that reset the failure count: a large file may be cut many times."""


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


def advance(context: WorkerContext, task: Task) -> Ended | Postponed:
    """Like `extract`, but end with `Postponed` instead of a pause; the same task then continues, in any worker."""
    attempts = task.attempts or Attempts.begin(context.defaults.timeout_total_s)
    try:
        outcome = _extract(context, task.source, attempts)
    except _PostponedError as error:
        again = task._replace(attempts=attempts)
        return Postponed(again, error.pause_s, error.is_held, attempts.answered)
    return Ended(outcome, task.host, attempts.answered)


def _extract(context: WorkerContext, source: ETLSource, attempts: Attempts) -> Outcome:
    try:
        outcome = _run_steps(context, source, attempts)
    except (ExtractError, RecordRejectedError) as error:
        if isinstance(error, FetchError) and not error.transient and not attempts.answered:
            attempts.answered = None  # it says nothing of the server
        outcome = context.failed(source, error)
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


def _run_steps(context: WorkerContext, source: ETLSource, attempts: Attempts) -> Outcome:
    source_paths = SourcePaths.of(context.data_dir, source)
    make_directory(source_paths.part.parent)
    name = context.claims.name_of(source_paths.part)
    with context.claims.trying("part", name) as ours:
        if not ours:
            return _skip_claimed(context, source, name)
        with suppress(OSError, ExtractError):
            context.claims.clear_skips(name)
        if attempts.failures == 0:
            context.emit(Started(source.source_id, source.dataset))
        part = PartFile(source_paths)
        attempts.left = finish_interrupted(context, source, part) or attempts.left
        before = context.manifest.get_record_by_source(source.source_id, source.dataset)
        record = comparable(before, source)
        if not has_pinned(record, source) and _download(context, source, record, part, attempts):
            sha256 = decode_part(part) or attempts.sha256 or sha256_of(part.path)
            attempt = _attempt_of(context, source, attempts)
            return register(context, source, part, sha256, before, attempt)
        part.discard()
        if attempts.left is not None:
            return attempts.left
        assert record is not None
        path, size = str(context.manifest.locate(record)), record.file_size
        warning = missing_file_warning(context, part.paths, record)
        return Outcome(source.source_id, source.dataset, Result.UNCHANGED, path, bytes_saved=size, warning=warning)


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
    name = file_name_of(source)
    return record.file_path.name in (name, alternate_path(Path(name), record.checksum).name)


# -- 2 fetch -----------------------------------------------------------------------------------------------------------


def _download(
    context: WorkerContext, source: ETLSource, record: ManifestRecord | None, part: PartFile, attempts: Attempts
) -> bool:
    """Fetch the content; fetch it again in full if a part resumed without a validator is not the pinned content."""
    came = _fetch(context, source, record, part, attempts)
    if came and attempts.spliced and (attempts.sha256 or sha256_of(part.path)) != source.checksum:
        part.discard()
        attempts.sha256 = None
        return _fetch(context, source, record, part, attempts)
    return came


def _fetch(
    context: WorkerContext, source: ETLSource, record: ManifestRecord | None, part: PartFile, attempts: Attempts
) -> bool:
    """Fetch the whole content into the part; return False if the server has nothing new."""
    while True:
        try:
            action = _attempt(context, source, record, part, attempts)
        except FetchError as error:
            if context.stop.asked:
                raise StopAskedError from None  # it has cut the connection
            if not error.transient:
                raise
            action = Action(Step.RETRY, error.reason)
        if action.step in (Step.UNCHANGED, Step.COMPLETE):
            return action.step is Step.COMPLETE
        if action.step is Step.FAIL:
            raise FetchError(action.reason, transient=False)
        if action.step is Step.RESTART:
            part.discard()
        _pause(context, source, action, attempts)


def _pause(context: WorkerContext, source: ETLSource, action: Action, attempts: Attempts) -> None:
    """Wait before the next attempt; raises `FetchError` after too many failures."""
    attempts.failures += 1
    if attempts.failures > context.defaults.retries:
        count = f"{attempts.failures} {'attempt' if attempts.failures == 1 else 'attempts'} failed"
        raise FetchError(f"{action.reason}; {count}: run extract again later", transient=True)
    seconds = pause_s(attempts.failures, context.defaults.backoff_s, action.after_s, random.random())  # noqa: S311 -- no secret
    if time.monotonic() + seconds > attempts.deadline:
        raise _timeout_error(context, action.reason)
    context.emit(
        Waiting(source.source_id, source.dataset, context.redacted(source, FetchError(action.reason, True)), seconds)
    )
    if context.postpones:
        raise _PostponedError(seconds, is_held=bool(attempts.answered) and _asks_for_less(action, attempts))
    context.stop.sleep(seconds)


def _asks_for_less(action: Action, attempts: Attempts) -> bool:
    """Return whether the server wants fewer requests, not only this one later."""
    return action.after_s is not None or attempts.status in _BUSY


def _timeout_error(context: WorkerContext, what: str) -> FetchError:
    late = f"not done within timeout_total_s ({context.defaults.timeout_total_s:g} s): {what}"
    return FetchError(f"{late}; the part is kept: run extract again to resume it", transient=False)


class _PaceCheck:
    """Ends the download of a body that is too slow or past its deadline."""

    def __init__(self, context: WorkerContext, attempts: Attempts) -> None:
        self._context, self._deadline = context, attempts.deadline
        self._since, self._bytes = time.monotonic(), 0

    def add(self, size_bytes: int) -> None:
        """Count received bytes; raises `FetchError` if they are too few or too late."""
        now, wanted = time.monotonic(), self._context.defaults
        self._bytes += size_bytes
        if now > self._deadline:
            raise _timeout_error(self._context, "the body is incomplete")
        seconds = now - self._since
        if seconds >= wanted.stall_s:
            if self._bytes < wanted.bytes_per_s_min * seconds:
                slow = f"too slow: {self._bytes:,} bytes in {seconds:.0f} s"
                raise FetchError(f"{slow}, less than bytes_per_s_min ({wanted.bytes_per_s_min:g}) over stall_s", True)
            self._since, self._bytes = now, 0


def _attempt(
    context: WorkerContext, source: ETLSource, record: ManifestRecord | None, part: PartFile, attempts: Attempts
) -> Action:
    """Send one request and process its response; `COMPLETE` means that the part is complete."""
    begun = part.resumable()
    if uses_post(source, context.defaults):
        record = begun = None  # no conditions and no ranges: the content itself is compared after the download
    pinned = source.checksum is not None and (begun is None or begun.encoding is None)  # a pin refers to decoded bytes
    request = build_request(record, begun, by_date=has_recorded_name(record, source), pinned=pinned)
    with _send(context, source, request, attempts) as response:
        if not contradicts_not_modified(record, response.head):
            return _handle_response(context, source, response, (request, record, begun), part, attempts)
    # The validator contradicts "not modified": only an unconditional request returns the current content.
    request = build_request(None, begun, pinned=pinned)
    with _send(context, source, request, attempts) as response:
        return _handle_response(context, source, response, (request, None, begun), part, attempts)


@contextmanager
def _send(context: WorkerContext, source: ETLSource, request: FetchRequest, attempts: Attempts) -> Iterator[Response]:
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
    context: WorkerContext,
    source: ETLSource,
    response: Response,
    asked: tuple[FetchRequest, ManifestRecord | None, Part | None],
    part: PartFile,
    attempts: Attempts,
) -> Action:
    """Apply the response to the part."""
    head = resolve_encoding(context.defaults, source, response.head)
    if uses_post(source, context.defaults):
        head = head._replace(
            etag=None, last_modified=None, strong_date=None
        )  # they describe this response only, not the next
    action, (request, _, begun) = decide(*asked, head), asked
    if action.step in (Step.WHOLE, Step.RESUME, Step.COMPLETE):
        attempts.spliced = action.step is not Step.WHOLE and (attempts.spliced or request.if_range is None)
    if action.step is Step.WHOLE:
        return _receive(context, source, response, part, head._replace(start=0), attempts)
    if action.step is Step.RESUME and begun is not None:
        return _receive(context, source, response, part, _merged_head(begun, head), attempts)
    return action


def _merged_head(part: Part, head: ResponseHead) -> ResponseHead:
    """Return the head of a resumed body, completed with what only the first response said."""
    return head._replace(
        etag=head.etag or part.etag,
        last_modified=head.last_modified or part.last_modified,
        length_bytes=head.length_bytes or part.total_bytes,
        encoding=part.encoding,
        content_type=head.content_type or part.content_type,
        strong_date=head.strong_date if part.last_modified is None else part.strong_date,
    )


def _receive(
    context: WorkerContext,
    source: ETLSource,
    response: Response,
    part: PartFile,
    head: ResponseHead,
    attempts: Attempts,
) -> Action:
    """Write the body from the byte where the head says it starts; the part is complete at the announced length."""
    with PartWriter(part, head) as writer:
        blocks, emitted_at, pace = response.blocks(), 0.0, _PaceCheck(context, attempts)
        while True:
            with context.stop.interruptible():
                block = next(blocks, b"")
            if not block:
                break
            writer.write(block)
            attempts.bytes += len(block)
            pace.add(len(block))
            if writer.length_bytes >= attempts.reached_bytes + _PROGRESS_BYTES:
                attempts.reached_bytes, attempts.failures = writer.length_bytes, 0
            if time.monotonic() - emitted_at > _EMIT_EVERY_S:
                emitted_at = time.monotonic()
                context.emit(Progress(source.source_id, source.dataset, writer.length_bytes, head.length_bytes))
        _check_length(writer.length_bytes, head)
        attempts.sha256 = writer.sha256
    return Action(Step.COMPLETE)


def _check_length(length_bytes: int, head: ResponseHead) -> None:
    said = head.length_bytes
    if said is not None and length_bytes != said:
        short = f"the connection was cut at byte {length_bytes} of {said}"
        long = f"the body is longer than announced: {length_bytes} of {said} bytes"
        raise FetchError(short if length_bytes < said else long, True)
