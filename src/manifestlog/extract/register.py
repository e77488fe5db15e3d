"""Decides whether a complete part may land: what its pin and its expectations say, and what a killed run has left.

Invariants:

- Content that fails its pin or an expectation is neither published nor registered; it is kept as a `.rejected` file.

It does not talk to servers, and does not store files (`landing`).
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from manifestlog.extract import expectations
from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.content_encoding import decode
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.decide import EMPTY, etag_to_record
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.expectations import Content, PreviousContent
from manifestlog.extract.fetchers.protocol import FetchError
from manifestlog.extract.landing import Arrival, Attempt, add_record, land
from manifestlog.extract.part_file import PartFile, PartState, sha256_of, size_of
from manifestlog.extract.report import Outcome
from manifestlog.model.models import ManifestRecord


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
    return _with_warning(land(context, Arrival(source, part, event, before, attempt)), warning)


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
        from manifestlog.extract.validate import run_validate_command  # noqa: PLC0415 -- few sources have one

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
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = os.fstat(fd).st_size
        head = os.pread(fd, expectations.HEAD_BYTES, 0)
        tail = os.pread(fd, expectations.TAIL_BYTES, max(0, length - expectations.TAIL_BYTES))
    finally:
        os.close(fd)
    return Content(part.paths.target.name, content_type, length, head, tail)


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
    to = part.decoded_path()
    try:
        sha256 = decode(part.path, to, state.encoding)
    except FetchError:
        part.discard()
        raise
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    now = datetime.now(UTC).isoformat()
    part.note(replace(state, encoding=None, sha256=sha256, file_path=str(part.paths.target), ts_completed=now))
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
            return _with_warning(land(context, Arrival(source, part, event, before, None)), warning)
        warning = _html_warning(context, source, _content(part, left), _previous_content(context, before))
        assert file_path is not None
        return _with_warning(add_record(context, Arrival(source, part, event, before, None), file_path), warning)
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
