"""One source, from the state check to its record: the thin loop that does what `decide` says.

The four steps, by the names of the design::

    1 state check     what the manifest knows of the source; the server is asked for news of that
    2 fetch           the body goes into a part while it is hashed; broken off, it is gone on with
    3 deduplication   a content that is there already is not kept twice          (`complete`)
    4 completion      the part gets its name, for good; then it is registered    (`complete`)

Invariants:

- All of it is done under a claim on the source's part: nobody else, in any process, is at the same source.
- A crash at any point leaves a part that the next run goes on with, or a file that the next run registers (`parts`).

It does not know processes, nor how a run is shown.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from manifestlog.errors import ManifestError, RecordRejectedError
from manifestlog.extract import parts, place
from manifestlog.extract.complete import complete, decoded, finish_left
from manifestlog.extract.decide import Action, Part, Step, ask_for, decide, is_denied, pause_s
from manifestlog.extract.desk import Desk
from manifestlog.extract.encoding import heard
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetch import Ask, FetchError, Head, Response
from manifestlog.extract.moved import notice
from manifestlog.extract.reach import asks_by_post
from manifestlog.extract.report import Outcome, Progress, Result, Started, Waiting
from manifestlog.extract.source import Conditions, ETLSource
from manifestlog.manager import DownloadManifestManager
from manifestlog.models import ManifestRecord

log = logging.getLogger(__name__)

_TELL_EVERY_S = 0.1
_CLAIMED_RUNS_MAX = 3
"""So many runs in a row leave a source to another one before somebody is warned."""
_HEADWAY_BYTES = 1 << 20
"""So much more of the content than ever before makes up for failures: a large file may be cut many times."""


@dataclass(slots=True)
class _Haul:
    """What the attempts on one source have brought so far."""

    bytes: int = 0
    failures: int = 0
    reached_bytes: int = 0
    """How far into the content they had come when failures were last forgiven."""
    sha256: str | None = None
    deadline: float = math.inf
    """When the source has had its time (`time.monotonic`)."""
    spliced: bool = False
    """Whether the part was continued without a validator: its halves may be of two contents."""


def extract(desk: Desk, source: ETLSource) -> Outcome:
    """Fetch a source if it has changed, and register what it brought.

    What goes wrong with the source is an outcome. Raises `ManifestError` for what goes wrong with the manifest, and
    `StopAskedError` when somebody asked to stop; what has come of the file is kept either way.
    """
    began = time.monotonic()
    haul = _Haul(deadline=began + (desk.defaults.timeout_total_s or math.inf))
    try:
        outcome = _extract(desk, source, haul)
    except (ExtractError, RecordRejectedError) as error:
        outcome = desk.failed(source, error)
    except ManifestError:
        raise  # also those that are an `OSError` as well: without its manifest no source can go on
    except OSError as error:
        outcome = desk.failed(source, error)
    return outcome._replace(bytes_fetched=haul.bytes, seconds=time.monotonic() - began)


def _extract(desk: Desk, source: ETLSource, haul: _Haul) -> Outcome:
    target = place.target(desk.data_dir, source)
    part = place.part(target, source)
    parts.make_folder(target.parent)
    name = desk.claims.name_of(part)
    with desk.claims.trying("part", name) as ours:
        if not ours:
            return _claimed(desk, source, name)
        with suppress(OSError, ExtractError):
            desk.claims.take(name)
        desk.tell(Started(source.source_id, source.dataset))
        left = finish_left(desk, source, part)
        record = known(desk.manifest, source)
        if not has_pinned(record, source) and _bring(desk, source, record, part, haul):
            return complete(desk, source, part, decoded(part, target) or haul.sha256 or parts.digest(part))
        parts.discard(part)
        if left is not None:
            return left
        assert record is not None
        path, size, warning = str(desk.manifest.locate(record)), record.file_size, notice(desk, source, record)
        return Outcome(source.source_id, source.dataset, Result.UNCHANGED, path, bytes_saved=size, warning=warning)


def _claimed(desk: Desk, source: ETLSource, name: str) -> Outcome:
    """Leave a source to another run; warn when runs in a row have had to: that one may hang."""
    warning = None
    with suppress(OSError, ExtractError):  # a note that cannot be written costs the warning only
        runs = desk.claims.leave(name)
        if len(runs) >= _CLAIMED_RUNS_MAX:
            often = f"claimed in the last {len(runs)} runs, since {runs[0]}"
            warning = f"{often}: look for a run that hangs, and end it"
    return Outcome(source.source_id, source.dataset, Result.CLAIMED, warning=warning)


# -- 1 state check -----------------------------------------------------------------------------------------------------


def known(manifest: DownloadManifestManager, source: ETLSource) -> ManifestRecord | None:
    """The source's record; None where what is there now must not be compared with it."""
    record = manifest.get_record_by_source(source.source_id, source.dataset)
    return record if record is not None and _may_compare(record, source) else None


def _may_compare(record: ManifestRecord, source: ETLSource) -> bool:
    """Not with another content than the pinned one, and not against the source's `Conditions`."""
    if source.checksum not in (None, record.checksum) or source.conditions is Conditions.NEVER:
        return False
    return source.conditions is Conditions.RECORDED or has_recorded_name(record, source)


def has_pinned(record: ManifestRecord | None, source: ETLSource) -> bool:
    """Whether `known` gave the very content that the source is pinned to: nothing else would be taken, so nobody asks."""
    return record is not None and source.checksum is not None


def has_recorded_name(record: ManifestRecord | None, source: ETLSource) -> bool:
    """Whether the recorded file has a name that this source's files get; with another one, the address was another.

    No record holds an address: it could be a secret.
    """
    if record is None:
        return False
    names = place.targets(Path(place.name_of(source)), record.checksum)
    return record.file_path.name in (path.name for path in names)


# -- 2 fetch -----------------------------------------------------------------------------------------------------------


def _bring(desk: Desk, source: ETLSource, record: ManifestRecord | None, part: Path, haul: _Haul) -> bool:
    """Fetch; what was continued on the strength of a pin, and is not the pinned content, is fetched once more as a whole."""
    came = _fetch(desk, source, record, part, haul)
    if came and haul.spliced and (haul.sha256 or parts.digest(part)) != source.checksum:
        parts.discard(part)
        haul.sha256 = None
        return _fetch(desk, source, record, part, haul)
    return came


def _fetch(desk: Desk, source: ETLSource, record: ManifestRecord | None, part: Path, haul: _Haul) -> bool:
    """Bring the whole content into the part; false when the server has nothing new."""
    while True:
        try:
            action = _attempt(desk, source, record, part, haul)
        except FetchError as error:
            if not error.transient:
                raise
            action = Action(Step.RETRY, error.reason)
        if action.step in (Step.UNCHANGED, Step.COMPLETE):
            return action.step is Step.COMPLETE
        if action.step is Step.FAIL:
            raise FetchError(action.reason, transient=False)
        if action.step is Step.RESTART:
            parts.discard(part)
        _pause(desk, source, action, haul)


def _pause(desk: Desk, source: ETLSource, action: Action, haul: _Haul) -> None:
    """Wait before the next attempt; raises `FetchError` when there have been enough."""
    haul.failures += 1
    if haul.failures > desk.defaults.retries:
        raise FetchError(f"{action.reason}; {haul.failures} attempts in all: run it again later", transient=True)
    seconds = pause_s(haul.failures, desk.defaults.backoff_s, action.after_s, random.random())  # noqa: S311 -- no secret
    if time.monotonic() + seconds > haul.deadline:
        raise _out_of_time(desk, action.reason)
    desk.tell(
        Waiting(source.source_id, source.dataset, desk.redacted(source, FetchError(action.reason, True)), seconds)
    )
    desk.stop.sleep(seconds)


def _out_of_time(desk: Desk, what: str) -> FetchError:
    kept = f"not done within timeout_total_s ({desk.defaults.timeout_total_s:g} s): {what}"
    return FetchError(f"{kept}; the part is kept: run it again to go on", transient=False)


class _Pace:
    """Ends a body that trickles, and one that is not here when its source has had its time."""

    def __init__(self, desk: Desk, haul: _Haul) -> None:
        self._desk, self._deadline = desk, haul.deadline
        self._since, self._bytes = time.monotonic(), 0

    def took(self, size_bytes: int) -> None:
        """So many bytes came; raises `FetchError` when they are too few, or too late."""
        now, wanted = time.monotonic(), self._desk.defaults
        self._bytes += size_bytes
        if now > self._deadline:
            raise _out_of_time(self._desk, "the body is still coming")
        seconds = now - self._since
        if seconds >= wanted.stall_s:
            if self._bytes < wanted.bytes_per_s_min * seconds:
                slow = f"{self._bytes:,} bytes in {seconds:.0f} s"
                raise FetchError(f"{slow}, less than bytes_per_s_min ({wanted.bytes_per_s_min:g}) over stall_s", True)
            self._since, self._bytes = now, 0


def _attempt(desk: Desk, source: ETLSource, record: ManifestRecord | None, path: Path, haul: _Haul) -> Action:
    """Ask once, and take what comes; `COMPLETE` when the part is whole."""
    part = parts.load(path)
    if asks_by_post(source, desk.defaults):
        record = part = None  # neither conditions nor ranges: its content is compared, when it is here
    pinned = source.checksum is not None and (part is None or part.encoding is None)  # a pin is of decoded bytes
    ask = ask_for(record, part, by_date=has_recorded_name(record, source), pinned=pinned)
    with _asked(desk, source, ask) as response:
        if not is_denied(record, response.head):
            return _take(desk, source, response, (ask, record, part), path, haul)
    # "Not modified", with a validator that says otherwise: what is there now is sent only without conditions.
    ask = ask_for(None, part, pinned=pinned)
    with _asked(desk, source, ask) as response:
        return _take(desk, source, response, (ask, None, part), path, haul)


@contextmanager
def _asked(desk: Desk, source: ETLSource, ask: Ask) -> Iterator[Response]:
    opened = desk.fetcher.open(source, ask)
    with desk.stop.waiting():
        response = opened.__enter__()
    try:
        how, status = f" from byte {ask.start} on" if ask.start else "", response.head.status
        log.debug("%s/%s: asked%s, answered with status %d", source.dataset, source.source_id, how, status)
        yield response
    finally:
        opened.__exit__(None, None, None)


def _take(
    desk: Desk,
    source: ETLSource,
    response: Response,
    asked: tuple[Ask, ManifestRecord | None, Part | None],
    path: Path,
    haul: _Haul,
) -> Action:
    """Do what the answer means for the part."""
    head = heard(desk.defaults, source, response.head)
    if asks_by_post(source, desk.defaults):
        head = head._replace(etag=None, last_modified=None, strong_date=None)  # of this answer, not of the next one
    action, (ask, _, part) = decide(*asked, head), asked
    if action.step in (Step.WHOLE, Step.RESUME, Step.COMPLETE):
        haul.spliced = action.step is not Step.WHOLE and (haul.spliced or ask.if_range is None)
    if action.step is Step.WHOLE:
        return _receive(desk, source, response, path, head._replace(start=0), haul)
    if action.step is Step.RESUME and part is not None:
        return _receive(desk, source, response, path, _rest_of(part, head), haul)
    return action


def _rest_of(part: Part, head: Head) -> Head:
    """The head of a rest, with what only the head of the beginning said."""
    return head._replace(
        etag=head.etag or part.etag,
        last_modified=head.last_modified or part.last_modified,
        length_bytes=head.length_bytes or part.total_bytes,
        encoding=part.encoding,
        content_type=head.content_type or part.content_type,
        strong_date=head.strong_date if part.last_modified is None else part.strong_date,
    )


def _receive(desk: Desk, source: ETLSource, response: Response, path: Path, head: Head, haul: _Haul) -> Action:
    """Take the body from where the head says that it begins; the part is whole when it is as long as was said."""
    with parts.Writer(path, head) as writer:
        blocks, told_at, pace = response.blocks(), 0.0, _Pace(desk, haul)
        while True:
            with desk.stop.waiting():
                block = next(blocks, b"")
            if not block:
                break
            writer.write(block)
            haul.bytes += len(block)
            pace.took(len(block))
            if writer.length_bytes >= haul.reached_bytes + _HEADWAY_BYTES:
                haul.reached_bytes, haul.failures = writer.length_bytes, 0
            if time.monotonic() - told_at > _TELL_EVERY_S:
                told_at = time.monotonic()
                desk.tell(Progress(source.source_id, source.dataset, writer.length_bytes, head.length_bytes))
        _check_length(writer.length_bytes, head)
        haul.sha256 = writer.sha256
    return Action(Step.COMPLETE)


def _check_length(length_bytes: int, head: Head) -> None:
    said = head.length_bytes
    if said is not None and length_bytes != said:
        where = f"at byte {length_bytes} of {said}"
        raise FetchError(f"the connection was cut {where}" if length_bytes < said else f"it grew {where}", True)
