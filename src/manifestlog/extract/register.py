"""The last two steps of a source: a complete part becomes a file with a record in the manifest.

::

    3 deduplication   a content that is already stored is not stored again
    4 completion      the part is published under its final name; then a record is added

Invariants:

- There is never a record without its file: name and bytes are durable before the record is added.
- A published file is never modified or replaced by other content.
- Content that fails its pin or an expectation is neither published nor registered; it is kept as a `.rejected` file.
- If several workers download the same content, one stores it and the others record its path.

It does not talk to servers.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manifestlog import names
from manifestlog.extract import expectations
from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.content_encoding import decode
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.decide import EMPTY, etag_to_record
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.expectations import Content, PreviousContent
from manifestlog.extract.fetchers.protocol import FetchError
from manifestlog.extract.part_file import PartFile, PartState, sha256_of, size_of
from manifestlog.extract.paths import decoded_path
from manifestlog.extract.report import Outcome, Result
from manifestlog.extract.validate import run_validate_command
from manifestlog.model.downloads import moved_time, record_from_download
from manifestlog.model.models import ManifestRecord, Observation

Attempt = dict[str, Any]
"""What the history keeps of a download: address, status, bytes, seconds."""


class UnexpectedError(ExtractError):
    """A content does not meet an expectation of its source."""

    _fields = ("reason", "kept")

    def __init__(self, reason: str, kept: str) -> None:
        super().__init__(
            f"the download was rejected ({reason}); nothing was registered: inspect the file, then correct the expectation"
            " or contact the publisher",
            kept,
        )
        self.reason = reason
        self.kept = kept


class PinnedError(ExtractError):
    """A content is not the one that its source is pinned to."""

    _fields = ("expected", "found", "kept")

    def __init__(self, expected: str, found: str, kept: str) -> None:
        super().__init__(
            f"the download was rejected (its checksum is {found}, the configuration pins {expected}); nothing was"
            " registered: find out which is right, then correct checksum or contact the publisher",
            kept,
        )
        self.expected = expected
        self.found = found
        self.kept = kept


def register(
    context: WorkerContext,
    source: ETLSource,
    part: PartFile,
    sha256: str,
    before: ManifestRecord | None,
    attempt: Attempt,
) -> Outcome:
    """Store and register a complete part; `before` is the source's latest record, `attempt` goes to the history.

    Raises `ExtractError` if the content must not be registered.
    """
    length = size_of(part.path)
    if length is None:
        raise ExtractError("the part was removed during the download; run extract again", str(part.path))
    if not length:
        part.discard()
        raise FetchError(EMPTY, transient=False)
    if source.checksum not in (None, sha256):
        raise PinnedError(source.checksum or "", sha256, _reject(part))
    warning = _check_expectations(context, source, part, before)
    event = _download_event(part, sha256, length, datetime.now(UTC), before)
    return _with_warning(_store(context, source, part, event, before, attempt), warning)


def _with_warning(outcome: Outcome, warning: str | None) -> Outcome:
    """Return the outcome with this warning before its own."""
    return outcome._replace(warning="; ".join(filter(None, (warning, outcome.warning))) or None)


def _check_expectations(
    context: WorkerContext, source: ETLSource, part: PartFile, before: ManifestRecord | None
) -> str | None:
    """Return a warning about a complete part, or None; raises `UnexpectedError` if it fails an expectation."""
    wanted = expectations.effective(source, context.defaults)
    content, last = _content(part, part.path), _previous_content(context, before)
    reason = expectations.violation(wanted, content, last)
    if reason is None and wanted.validate_command:
        limit_s = context.defaults.timeout_total_s or math.inf
        reason = run_validate_command(wanted.validate_command, part.path, content.name, context.stop, limit_s)
    if reason is not None:
        raise UnexpectedError(reason, _reject(part))
    return _html_warning(context, source, content, last)


def _html_warning(
    context: WorkerContext, source: ETLSource, content: Content, last: PreviousContent | None
) -> str | None:
    warning = expectations.html_warning(expectations.effective(source, context.defaults), content, last)
    return None if warning is None else context.redacted(source, ExtractError(warning))


def _content(part: PartFile, path: Path) -> Content:
    """Return the properties of a downloaded content at `path` that the expectations inspect."""
    content_type = part.state.content_type if part.state else None
    with path.open("rb") as file:
        head = file.read(expectations.HEAD_BYTES)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - expectations.TAIL_BYTES))
        return Content(part.paths.target.name, content_type, length, head, file.read())


def _previous_content(context: WorkerContext, before: ManifestRecord | None) -> PreviousContent | None:
    if before is None:
        return None
    path = context.manifest.locate(before)
    try:
        with path.open("rb") as file:
            head = file.read(expectations.HEAD_BYTES)
    except OSError:
        head = None  # its type is unknown
    return PreviousContent(before.file_size, path.name, head)


def decode_part(part: PartFile) -> str | None:
    """Replace a part that has a Content-Encoding by its decoded bytes; return their SHA-256, or None without an
    encoding.

    The new state is written before the replacement: a crash in between leaves a part that matches its state, or no
    valid part.
    """
    state = part.state
    if state is None or state.encoding is None:
        return None
    to = decoded_path(part.path)
    try:
        sha256 = decode(part.path, to, state.encoding)
    except FetchError:
        part.discard()
        raise
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    now = datetime.now(UTC).isoformat()
    part.save(replace(state, encoding=None, sha256=sha256, file_path=str(part.paths.target), ts_completed=now))
    os.replace(to, part.path)
    return sha256


def _reject(part: PartFile) -> str:
    """Keep a part that must not be registered as a `.rejected` file; return its path."""
    os.replace(part.path, part.paths.rejected)
    part.discard()
    return str(part.paths.rejected)


def finish_interrupted(context: WorkerContext, source: ETLSource, part: PartFile) -> Outcome | None:
    """Register what a run left when it was killed between the last byte and the record; None if there is nothing."""
    state = part.state
    if state is None or state.sha256 is None or state.file_path is None or state.ts_completed is None:
        return None
    # The intended path may go through another link to the directory.
    intended = {path.name: path for path in part.paths.candidates(state.sha256)}
    file_path = intended.get(os.path.basename(state.file_path))
    left = part.path if part.path.exists() else file_path
    is_wanted = file_path is not None and source.checksum in (None, state.sha256)
    if is_wanted and left is not None and left.exists() and sha256_of(left) == state.sha256:
        before = context.manifest.get_record_by_source(source.source_id, source.dataset)
        completed = datetime.fromisoformat(state.ts_completed)
        event = _download_event(part, state.sha256, left.stat().st_size, completed, before)
        if left == part.path:  # recorded by `decode_part`, before the expectations were checked
            warning = _check_expectations(context, source, part, before)
            return _with_warning(_store(context, source, part, event, before, None), warning)
        warning = _html_warning(context, source, _content(part, left), _previous_content(context, before))
        outcome = _add_record(context, source, part, event.model_copy(update={"file_path": file_path}), None)
        return _with_warning(outcome, warning)
    part.discard()
    return None


def _download_event(
    part: PartFile, sha256: str, length: int, completed: datetime, before: ManifestRecord | None
) -> DownloadEvent:
    state = part.state or PartState()
    return DownloadEvent(
        sha256=sha256,
        file_path=part.path,
        file_size_bytes=length,
        etag=etag_to_record(before, sha256, state.etag),
        last_modified=state.last_modified,
        ts_download_completed=completed,
    )


def _store(
    context: WorkerContext,
    source: ETLSource,
    part: PartFile,
    event: DownloadEvent,
    before: ManifestRecord | None,
    attempt: Attempt | None,
) -> Outcome:
    """Steps 3 and 4, under a claim on the content, so that two workers never both store it."""
    with context.claims.waiting("content", event.sha256):
        kept = _existing_copy(context, event, before)
        if kept is None:
            kept = _publish(context, part, event)
        return _add_record(context, source, part, event.model_copy(update={"file_path": kept}), attempt)


def _existing_copy(context: WorkerContext, event: DownloadEvent, before: ManifestRecord | None) -> Path | None:
    """Return the path where this content is already stored, preferring the source's own; None if it is new."""
    if not context.manifest.has_checksum(event.sha256):
        return None
    records = (before, context.manifest.get(event.sha256))
    found = [record for record in records if record is not None and record.checksum == event.sha256]
    located = [context.manifest.locate(seen) for record in found for seen in _observations(record)]
    return next((path for path in located if _is_intact(path, event.file_size_bytes)), None)


def _observations(record: ManifestRecord) -> tuple[ManifestRecord | Observation, ...]:
    return record, *record.also_seen


def _is_intact(path: Path, length: int) -> bool:
    """Return whether the content is at this path; parts and rejected files, which older versions registered, do not
    count.
    """
    try:
        return not names.working_suffix(path.name) and path.stat().st_size == length
    except OSError:
        return False  # also without permission to look: then this source stores its own copy


def _publish(context: WorkerContext, part: PartFile, event: DownloadEvent) -> Path:
    """Step 4, first half: publish the part under the first name that is free or has the same content."""
    for path in part.paths.candidates(event.sha256):
        with context.claims.waiting("place", context.claims.name_of(path)):
            if not path.exists() or _has_same_content(path, event):
                part.record_intent(event.sha256, path, event.ts_download_completed.isoformat())
                part.publish(path)
                return path
    raise ExtractError(
        "both names for this content are taken by other files; move them away, then run extract again",
        str(part.path.parent),
    )


def _has_same_content(path: Path, event: DownloadEvent) -> bool:
    return path.is_file() and size_of(path) == event.file_size_bytes and sha256_of(path) == event.sha256


def _add_record(
    context: WorkerContext, source: ETLSource, part: PartFile, event: DownloadEvent, attempt: Attempt | None
) -> Outcome:
    """Step 4, second half. A part left by a killed run has no attempt here: its download may have ended days ago."""
    live = attempt is not None
    stated = event.model_copy(update={"file_path": context.manifest.stated(event.file_path)})
    given = record_from_download(source, stated, context.manifest.version)
    known = attempt or {"url": context.safe_address(source)}
    result = context.manifest.add(given, live=live, attempt=known)
    part.discard()
    file_path = str(context.manifest.locate(result.record))
    verdict = Result.of(result.verdict)
    return Outcome(
        source.source_id, source.dataset, verdict, file_path, warning=moved_time(given, result) if live else None
    )
