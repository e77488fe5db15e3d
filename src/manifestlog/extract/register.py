"""Decides whether a complete part may land, by its pin, its expectations, and the leftovers of a killed run.

Invariants:

- Content that does not match its pin or an expectation is neither published nor registered; it is kept as a `.rejected`
  file.

It does not talk to servers, and does not store files (`landing`).
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime

from manifestlog.extract import expectations
from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.decide import EMPTY, etag_to_record
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.expectations import Content, PreviousContent
from manifestlog.extract.fetchers.protocol import FetchError
from manifestlog.extract.landing import Arrival, Attempt, add_record, land
from manifestlog.extract.part_state import PartState
from manifestlog.extract.places.protocol import Ends, Part
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
    part: Part,
    sha256: str,
    before: ManifestRecord | None,
    attempt: Attempt,
) -> Outcome:
    """Store and register a complete part; `before` is the source's latest record, `attempt` goes to the history.

    Raises `ExtractError` if the content must not be registered.
    """
    length = part.length()
    if length is None:
        raise ExtractError("the part was removed during the download; run extract again", str(part.path))
    if not length:
        part.discard()
        raise FetchError(EMPTY, transient=False)
    if source.checksum not in (None, sha256):
        raise PinnedError(source.checksum or "", sha256, part.reject())
    warning = _check_expectations(context, source, part, before)
    event = _download_event(part, sha256, length, datetime.now(UTC), before)
    return _with_warning(land(context, Arrival(source, part, event, before, attempt)), warning)


def _with_warning(outcome: Outcome, warning: str | None) -> Outcome:
    """Return the outcome with this warning before its own."""
    return outcome._replace(warning="; ".join(filter(None, (warning, outcome.warning))) or None)


def _check_expectations(
    context: WorkerContext, source: ETLSource, part: Part, before: ManifestRecord | None
) -> str | None:
    """Return a warning about a complete part, or None; raises `UnexpectedError` if it fails an expectation."""
    wanted = expectations.effective(source, context.defaults)
    content = _content(part, part.ends())
    last = _previous_content(context, before, content)
    reason = expectations.violation(wanted, content, last)
    if reason is None and wanted.validate_command:
        from manifestlog.extract.validate import run_validate_command  # noqa: PLC0415 -- few sources have one

        limit_s = context.defaults.timeout_total_s or math.inf
        reason = run_validate_command(wanted.validate_command, part.local_path(), content.name, context.stop, limit_s)
    if reason is not None:
        raise UnexpectedError(reason, part.reject())
    return _html_warning(context, source, content, last)


def _html_warning(
    context: WorkerContext, source: ETLSource, content: Content, last: PreviousContent | None
) -> str | None:
    warning = expectations.html_warning(expectations.effective(source, context.defaults), content, last)
    return None if warning is None else context.redacted(source, ExtractError(warning))


def _content(part: Part, ends: Ends) -> Content:
    """Return the properties of a downloaded content that the expectations inspect."""
    content_type = part.state.content_type if part.state else None
    return Content(part.paths.target.name, content_type, *ends)


def _previous_content(
    context: WorkerContext, before: ManifestRecord | None, content: Content
) -> PreviousContent | None:
    if before is None:
        return None
    path = context.manifest.locate(before)
    head = context.place.head(path) if expectations.says_html(content) else None  # nothing else compares with it
    return PreviousContent(before.file_size, path.name, head)


def finish_interrupted(context: WorkerContext, source: ETLSource, part: Part) -> Outcome | None:
    """Register what a run left when it was killed between the last byte and the record; None if there is nothing."""
    state = part.state
    if state is None or state.sha256 is None or state.file_path is None or state.ts_completed is None:
        return None
    # The intended path may go through another link to the directory.
    intended = {path.name: path for path in part.paths.candidates(state.sha256)}
    file_path = intended.get(os.path.basename(state.file_path))
    if file_path is None or source.checksum not in (None, state.sha256):
        part.discard()
        return None
    before = context.manifest.get_record_by_source(source.source_id, source.dataset)
    completed = datetime.fromisoformat(state.ts_completed)
    length = part.length()
    if length is not None and part.sha256() == state.sha256:
        # Perhaps recorded by `decode`, before the expectations were checked.
        event = _download_event(part, state.sha256, length, completed, before)
        warning = _check_expectations(context, source, part, before)
        return _with_warning(land(context, Arrival(source, part, event, before, None)), warning)
    if length is None:
        with context.claims.waiting("place", context.claims.name_of(file_path)):
            length = context.place.size(file_path)
            if length is not None and context.place.sha256(file_path) == state.sha256:
                event = _download_event(part, state.sha256, length, completed, before)
                content = _content(part, context.place.ends(file_path))
                warning = _html_warning(context, source, content, _previous_content(context, before, content))
                arrival = Arrival(source, part, event, before, None)
                return _with_warning(add_record(context, arrival, file_path), warning)
    part.discard()
    return None


def _download_event(
    part: Part, sha256: str, length: int, completed: datetime, before: ManifestRecord | None
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
