"""The last two steps of a source: a whole part becomes a file that the manifest knows.

::

    3 deduplication   a content that is there already is not kept twice
    4 completion      the part gets its name, for good; then it is registered

Invariants:

- There is never a record without its file: a file has its name and its bytes on the disk before it is registered.
- No file that has a name is ever written to, or replaced by other content.
- What is not pinned, or not expected, is neither named nor registered, but kept aside.
- Of several workers with the same content one keeps it, the others say where it is.

It does not talk to servers.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from manifestlog import names as naming
from manifestlog.extract import expectations, part_file as parts, paths as place
from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.context import Desk
from manifestlog.extract.decide import EMPTY, etag_to_record
from manifestlog.extract.encoding import decode
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.expectations import Content, Last
from manifestlog.extract.fetchers.protocol import FetchError
from manifestlog.extract.report import Outcome, Result
from manifestlog.extract.validate import complaint
from manifestlog.model.downloads import moved_time, record_of
from manifestlog.model.models import ManifestRecord, Observation


class UnexpectedError(ExtractError):
    """A content is not what its source is expected to have."""

    _fields = ("reason", "kept")

    def __init__(self, reason: str, kept: str) -> None:
        super().__init__(
            f"{reason}; nothing was registered, the file is kept as {kept}: look at it, then correct the expectation or"
            " tell whoever publishes the file"
        )
        self.reason = reason
        self.kept = kept


class PinnedError(ExtractError):
    """A content is not the one that its source is pinned to."""

    _fields = ("expected", "found", "kept")

    def __init__(self, expected: str, found: str, kept: str) -> None:
        super().__init__(
            f"its checksum is {found}, the configuration pins {expected}; nothing was registered, the file is kept as"
            f" {kept}: find out which is right, then correct the pin or tell whoever publishes the file"
        )
        self.expected = expected
        self.found = found
        self.kept = kept


def complete(desk: Desk, source: ETLSource, part: Path, sha256: str) -> Outcome:
    """Keep and register a whole part."""
    length = parts.size_of(part)
    if length is None:
        raise ExtractError(f"{part}: removed by somebody else while it was fetched: run it again")
    if not length:
        parts.discard(part)
        raise FetchError(EMPTY, transient=False)
    if source.checksum not in (None, sha256):
        raise PinnedError(source.checksum or "", sha256, _set_aside(desk, source, part))
    warning = _judged(desk, source, part)
    outcome = _keep(desk, source, part, _event(desk, source, part, sha256, length, datetime.now(UTC)), live=True)
    return _warning(outcome, warning)


def _warning(outcome: Outcome, warning: str | None) -> Outcome:
    """The outcome with this warning beside its own."""
    return outcome._replace(warning="; ".join(filter(None, (warning, outcome.warning))) or None)


def _judged(desk: Desk, source: ETLSource, part: Path) -> str | None:
    """What somebody should look at in a whole part; raises `UnexpectedError` when it is not what is expected."""
    wanted = expectations.wanted(source, desk.defaults)
    content, last = _content(source, part, part), _last(desk, source)
    reason = expectations.problem(wanted, content, last)
    if reason is None and wanted.validate_command:
        limit_s = desk.defaults.timeout_total_s or math.inf
        reason = complaint(wanted.validate_command, part, content.name, desk.stop, limit_s)
    if reason is not None:
        raise UnexpectedError(reason, _set_aside(desk, source, part))
    return _warned(desk, source, content, last)


def _warned(desk: Desk, source: ETLSource, content: Content, last: Last | None) -> str | None:
    warning = expectations.suspicion(expectations.wanted(source, desk.defaults), content, last)
    return None if warning is None else desk.redacted(source, ExtractError(warning))


def _content(source: ETLSource, part: Path, path: Path) -> Content:
    """A fetched content, which lies at this path by now, as far as it is looked at."""
    state = parts.read_state(part) or parts.State()
    with path.open("rb") as file:
        head = file.read(expectations.HEAD_BYTES)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - expectations.TAIL_BYTES))
        return Content(place.name_of(source), state.content_type, length, head, file.read())


def _last(desk: Desk, source: ETLSource) -> Last | None:
    record = desk.manifest.get_record_by_source(source.source_id, source.dataset)
    if record is None:
        return None
    path = desk.manifest.locate(record)
    try:
        with path.open("rb") as file:
            head = file.read(expectations.HEAD_BYTES)
    except OSError:
        head = None  # it may have been anything
    return Last(record.file_size, path.name, head)


def decoded(part: Path, target: Path) -> str | None:
    """Replace a part that was encoded in transit by what it stands for; its SHA-256, or None when it was not.

    It is announced before it is replaced: whoever dies in between leaves a part that is what its state says, or none.
    """
    state = parts.read_state(part)
    if state is None or state.encoding is None:
        return None
    to = place.decoded(part)
    try:
        sha256 = decode(part, to, state.encoding)
    except FetchError:
        parts.discard(part)
        raise
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    now = datetime.now(UTC).isoformat()
    parts.write_state(part, replace(state, encoding=None, sha256=sha256, file_path=str(target), ts_completed=now))
    os.replace(to, part)
    return sha256


def _set_aside(desk: Desk, source: ETLSource, part: Path) -> str:
    """Keep a part that must not be registered; where."""
    kept = place.rejected(place.target(desk.data_dir, source), source)
    os.replace(part, kept)
    parts.discard(part)
    return str(kept)


def finish_left(desk: Desk, source: ETLSource, part: Path) -> Outcome | None:
    """Register what a run left behind that was killed between the last byte and the record; None when there is nothing."""
    state = parts.read_state(part)
    if state is None or state.sha256 is None or state.file_path is None or state.ts_completed is None:
        return None
    # By whichever way to the folder it was announced.
    announced = {path.name: path for path in place.targets(place.target(desk.data_dir, source), state.sha256)}
    file_path = announced.get(os.path.basename(state.file_path))
    left = part if part.exists() else file_path
    is_wanted = file_path is not None and source.checksum in (None, state.sha256)
    if is_wanted and left is not None and left.exists() and parts.digest(left) == state.sha256:
        event = _event(
            desk, source, part, state.sha256, left.stat().st_size, datetime.fromisoformat(state.ts_completed)
        )
        if left == part:  # announced when it was decoded, before anybody looked at it
            warning = _judged(desk, source, part)
            return _warning(_keep(desk, source, part, event), warning)
        warning = _warned(desk, source, _content(source, part, left), _last(desk, source))
        outcome = _register(desk, source, part, event.model_copy(update={"file_path": file_path}))
        return _warning(outcome, warning)
    parts.discard(part)
    return None


def _event(desk: Desk, source: ETLSource, part: Path, sha256: str, length: int, completed: datetime) -> DownloadEvent:
    state = parts.read_state(part) or parts.State()
    before = desk.manifest.get_record_by_source(source.source_id, source.dataset)
    return DownloadEvent(
        sha256=sha256,
        file_path=part,
        file_size_bytes=length,
        etag=etag_to_record(before, sha256, state.etag),
        last_modified=state.last_modified,
        ts_download_completed=completed,
    )


def _keep(desk: Desk, source: ETLSource, part: Path, event: DownloadEvent, *, live: bool = False) -> Outcome:
    """Step 3, then 4: under a claim on the content, so that two who bring the same one do not both keep it."""
    with desk.claims.waiting("content", event.sha256):
        kept = _kept(desk, source, event)
        if kept is None:
            kept = _name(desk, source, part, event)
        return _register(desk, source, part, event.model_copy(update={"file_path": kept}), live=live)


def _kept(desk: Desk, source: ETLSource, event: DownloadEvent) -> Path | None:
    """Where this content is already, its own source's place first."""
    if not desk.manifest.has_checksum(event.sha256):
        return None
    records = (desk.manifest.get_record_by_source(source.source_id, source.dataset), desk.manifest.get(event.sha256))
    found = [record for record in records if record is not None and record.checksum == event.sha256]
    paths = [desk.manifest.locate(seen) for record in found for seen in _observations(record)]
    return next((path for path in paths if _is_there(path, event.file_size_bytes)), None)


def _observations(record: ManifestRecord) -> tuple[ManifestRecord | Observation, ...]:
    return record, *record.also_seen


def _is_there(path: Path, length: int) -> bool:
    """Whether the content lies there to stay: older versions of `add` registered parts and rejected files as well."""
    try:
        return not naming.working_suffix(path.name) and path.stat().st_size == length
    except OSError:
        return False  # also where we may not look: whoever registered it keeps his, and we keep ours


def _name(desk: Desk, source: ETLSource, part: Path, event: DownloadEvent) -> Path:
    """Step 4, first half: give the part the first name that is free, or that holds the same content."""
    for path in place.targets(place.target(desk.data_dir, source), event.sha256):
        with desk.claims.waiting("place", desk.claims.name_of(path)):
            if not path.exists() or _is_same(path, event):
                parts.announce(part, event.sha256, path, event.ts_download_completed.isoformat())
                parts.finish(part, path)
                return path
    raise ExtractError(
        f"{part.parent}: both names for this content hold other files: move them away, then run it again"
    )


def _is_same(path: Path, event: DownloadEvent) -> bool:
    return path.is_file() and parts.size_of(path) == event.file_size_bytes and parts.digest(path) == event.sha256


def _register(desk: Desk, source: ETLSource, part: Path, event: DownloadEvent, *, live: bool = False) -> Outcome:
    """Step 4, second half. What a killed run has left is not live: its time may be of days ago."""
    stated = event.model_copy(update={"file_path": desk.manifest.stated(event.file_path)})
    given = record_of(source, stated, desk.manifest.version)
    result = desk.manifest.add(given, live=live)
    parts.discard(part)
    file_path = str(desk.manifest.locate(result.record))
    verdict = Result.of(result.verdict)
    return Outcome(
        source.source_id, source.dataset, verdict, file_path, warning=moved_time(given, result) if live else None
    )
