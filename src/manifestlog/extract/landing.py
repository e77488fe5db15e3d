"""Landing: publishes and records complete parts, together with those that complete at the same time.

Threads of a worker that have a complete part form a group (`grouping`)::

    each      syncs its part
    leader    asks whether every member still has its source
    leader    decides where each content goes, and gives the parts their names     a crash leaves files without records
    leader    syncs each directory once                                            ... whose names are durable
    leader    adds all records in one write, with one sync
    each      deletes what is left of its part

Invariants:

- There is never a record without its file: name and bytes are durable before the record is added.
- A published file is never modified or replaced by other content.
- If several workers download the same content, one stores it and the others record its path. A file that a killed
  worker has stored under a source's own name is recorded there all the same, because nobody would ever do it later.
- In an object store, each part lands alone: publishing takes so long that a separate write does not matter.
- A failure of one member of a group does not affect the others. A member that would have to wait for another process
  lands alone, after the group.
- A source that another host has taken over gets no name and no record here: the write proves the claims of all members.
  If its file already has a name, the file stays, as after a crash, because the other host may have found it there.
- The claims on content and name last until the record is written, so no other worker takes a file that somebody relies
  on for unused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from manifestlog.extract.claims import Claims
from manifestlog.extract.config.source import DownloadEvent, ETLSource
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.data_files import size_of
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.part_file import SMALL_BYTES
from manifestlog.extract.places.protocol import Part
from manifestlog.extract.report import Outcome, Result
from manifestlog.extract.writing_files import sync_directories
from manifestlog.model.downloads import moved_time, record_from_download
from manifestlog.model.models import AddResult, ManifestRecord, Observation
from manifestlog.server_errors import ClaimLostError

Attempt = dict[str, Any]
"""The facts about a download that the history keeps: URL, status, bytes, seconds."""


@dataclass(slots=True, eq=False)
class Arrival:
    """A complete part, and what comes of it."""

    source: ETLSource
    part: Part
    event: DownloadEvent
    before: ManifestRecord | None
    """The source's latest record."""
    attempt: Attempt | None
    """None for a part that a killed run left: its download may have ended days ago."""
    path: Path | None = None
    """Where the content is."""
    is_published: bool = False
    """Whether the group has put it there."""
    given: ManifestRecord | None = None
    result: AddResult | None = None
    error: Exception | None = None
    claims: Claims | None = None
    """The claims of its thread, which has the source."""

    @property
    def own_claims(self) -> tuple[Claims, ...]:
        return () if self.claims is None else (self.claims,)


def land(context: WorkerContext, one: Arrival) -> Outcome:
    """Store and register a complete part. Raises what fails for it; the part is then kept."""
    one.claims = context.claims
    try:
        return _land(context, one)
    except Exception:
        one.part.keep()
        raise


def _land(context: WorkerContext, one: Arrival) -> Outcome:
    if context.landing is None or one.attempt is None or not context.place.groups:
        return _land_alone(context, one)
    if not context.manifest.has_checksum(one.event.sha256):
        one.part.sync()
    context.landing.join(one, partial(_land_together, context))
    if one.error is not None:
        raise one.error
    if one.result is None:
        return _land_alone(context, one)
    return _outcome(context, one, one.result)


# -- alone -------------------------------------------------------------------------------------------------------------


def _land_alone(context: WorkerContext, one: Arrival) -> Outcome:
    """Store and register a part under a claim on its content, so that two workers never both store it."""
    with context.claims.waiting("content", one.event.sha256), ExitStack() as held:
        path = _existing_copy(context, one)
        if path is None:
            path = _publish(context, one, held)
        elif _is_elsewhere(one, path):
            path = _left_copy(context, one, held) or path
        return add_record(context, one, path)


def _left_copy(context: WorkerContext, one: Arrival, held: ExitStack) -> Path | None:
    """Return the source's own file if a worker was killed after it had stored this content; hold the claim on it.

    Otherwise no record would ever name that file::

        host 1    stores a.json ─ killed
        host 2    stores b.json, which has the same content, and registers it
        host 2    fetches a again, and registers it as an alias at b.json
    """
    for path in one.part.paths.candidates(one.event.sha256):
        with suppress(OSError):  # a file that this user may not read is not ours
            if context.place.has_content(path, one.event):
                held.enter_context(context.claims.waiting("place", context.claims.name_of(path)))
                return path
    return None


def _publish(context: WorkerContext, one: Arrival, held: ExitStack) -> Path:
    """Publish the part under the first name that is free or has the same content, and hold the claim on it."""
    context.claims.ensure_held()
    for path in one.part.paths.candidates(one.event.sha256):
        held.enter_context(context.claims.waiting("place", context.claims.name_of(path)))
        if context.place.may_publish(path, one.event):
            _record_intent(one, path)
            if one.part.publish(path):
                return path
    raise _names_taken(one)


def add_record(context: WorkerContext, one: Arrival, path: Path) -> Outcome:
    """Register the content, which is at this path."""
    one.path = path
    one.given = _record_of(context, one)
    with context.claims.fence():
        result = context.manifest.add(one.given, live=one.attempt is not None, attempt=_attempt_of(context, one))
    return _outcome(context, one, result)


# -- together ----------------------------------------------------------------------------------------------------------


class _Claimed:
    """The claims of a group, which its members share."""

    def __init__(self, claims: Claims, held: ExitStack) -> None:
        self._claims, self._held = claims, held
        self._taken: set[tuple[str, str]] = set()

    def take(self, kind: str, name: str) -> bool:
        """Claim a name until the end of the group, unless another worker has it; return whether it is claimed."""
        if (kind, name) not in self._taken and self._held.enter_context(self._claims.trying(kind, name)):
            self._taken.add((kind, name))
        return (kind, name) in self._taken


def _land_together(context: WorkerContext, group: list[Arrival]) -> None:
    """Land a group. A member with neither result nor error lands alone afterwards."""
    with ExitStack() as held:
        claimed = _Claimed(context.claims, held)
        mine = list(_with_claim(_still_held(context, group), claimed))
        stored: dict[str, Path] = {}
        with _kept_error(*mine):
            known = context.manifest.has_many({one.event.sha256 for one in mine})
        for one in mine:
            if one.error is None:
                with _kept_error(one):
                    _place(context, one, claimed, stored, known)
        _sync_directories(group)
        _add_records(context, [one for one in group if one.path is not None and one.error is None])


def _still_held(context: WorkerContext, group: list[Arrival]) -> list[Arrival]:
    """Return the members whose sources no other host has taken over; none if the leader's was, so that each lands alone."""
    try:
        context.claims.ensure_held(*_claims_of(group))
    except ClaimLostError:
        for one in group:
            with _kept_error(one):
                (one.claims or context.claims).ensure_held()
        is_led = not any(one.error is not None and one.claims is context.claims for one in group)
        return [one for one in group if is_led and one.error is None]
    return group


def _claims_of(group: list[Arrival]) -> list[Claims]:
    return [claims for one in group for claims in one.own_claims]


@contextmanager
def _kept_error(*members: Arrival) -> Iterator[None]:
    """Keep an error for these members of a group, which raise it in their own threads."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 -- it is raised again by `land`
        for one in members:
            one.error = error


def _with_claim(members: list[Arrival], claimed: _Claimed) -> Iterator[Arrival]:
    """Yield the members whose content no other worker stores at this moment."""
    for one in members:
        with _kept_error(one):
            if claimed.take("content", one.event.sha256):
                yield one


def _place(
    context: WorkerContext, one: Arrival, claimed: _Claimed, stored: dict[str, Path], known: Collection[str]
) -> None:
    """Find the content's path, and put it there if it is new.

    The group has `stored` some contents already; `known` are those with a record, as of after their claims.
    """
    sha256 = one.event.sha256
    if sha256 not in stored:
        path = (_existing_copy(context, one) if sha256 in known else None) or _rename(context, one, claimed)
        if path is None:
            return
        stored[sha256] = path
    if not (_is_elsewhere(one, stored[sha256]) and _may_have_left(one)):
        one.path = stored[sha256]


def _may_have_left(one: Arrival) -> bool:
    """Return whether there may be a file for `_left_copy`, which reads it, so not for the whole group."""
    with suppress(OSError):
        return any(size_of(path) == one.event.file_size_bytes for path in one.part.paths.candidates(one.event.sha256))
    return False


def _rename(context: WorkerContext, one: Arrival, claimed: _Claimed) -> Path | None:
    """Like `_publish`, but without the directory's sync; None if that would take long, or another worker is at it."""
    for path in one.part.paths.candidates(one.event.sha256):
        if not claimed.take("place", context.claims.name_of(path)):
            return None
        if path.exists():
            if one.event.file_size_bytes > SMALL_BYTES and size_of(path) == one.event.file_size_bytes:
                return None  # to compare them takes long
            if not context.place.may_publish(path, one.event):
                continue
        _record_intent(one, path)
        one.part.sync()
        if one.part.rename(path):
            one.is_published = True
            return path
    raise _names_taken(one)


def _sync_directories(group: list[Arrival]) -> None:
    """Make the new names durable. Where that fails, nobody may record a path in that directory."""
    for directory in {one.path.parent for one in group if one.path is not None and one.is_published}:
        with _kept_error(*(one for one in group if one.path is not None and one.path.parent == directory)):
            sync_directories([directory])


def _add_records(context: WorkerContext, group: list[Arrival]) -> None:
    stated: dict[Path, Path] = {}
    for one in group:
        with _kept_error(one):
            one.given = _record_of(context, one, stated)
    ready = [(one, one.given) for one in group if one.given is not None]
    if len(ready) > 1 and _add_together(context, ready):
        return
    for one, given in ready:
        with _kept_error(one), context.claims.fence(*one.own_claims):
            one.result = context.manifest.add(given, live=True, attempt=_attempt_of(context, one))


def _add_together(context: WorkerContext, ready: list[tuple[Arrival, ManifestRecord]]) -> bool:
    """Add all records in one write. Return False if they have to be added one by one.

    One of them is rejected, the source of one was taken over, or all of them are too large for one write.
    """
    members = [one for one, _ in ready]
    try:
        attempts = [_attempt_of(context, one) for one in members]
        with context.claims.fence(*_claims_of(members)):
            results = context.manifest.add_each([given for _, given in ready], live=True, attempts=attempts)
    except (ValueError, ClaimLostError):
        return False
    except Exception as error:  # noqa: BLE001 -- it is raised again by `land`
        for one in members:
            one.error = error
        return True
    for one, result in zip(members, results, strict=True):
        one.result = result
    return True


# -- both --------------------------------------------------------------------------------------------------------------


def _existing_copy(context: WorkerContext, one: Arrival) -> Path | None:
    """Return the path where this content is already stored, preferring the source's own; None if it is new."""
    event = one.event
    if not context.manifest.has_checksum(event.sha256):
        return None
    records = (one.before, context.manifest.get(event.sha256))
    found = [record for record in records if record is not None and record.checksum == event.sha256]
    located = [context.manifest.locate(seen) for record in found for seen in _observations(record)]
    return next((path for path in located if context.place.is_intact(path, event.file_size_bytes)), None)


def _is_elsewhere(one: Arrival, path: Path) -> bool:
    return path not in one.part.paths.candidates(one.event.sha256)


def _observations(record: ManifestRecord) -> tuple[ManifestRecord | Observation, ...]:
    return record, *record.also_seen


def _record_intent(one: Arrival, path: Path) -> None:
    one.part.record_intent(one.event.sha256, path, one.event.ts_download_completed.isoformat())


def _names_taken(one: Arrival) -> ExtractError:
    return ExtractError(
        "both names for this content are taken by other files; move them away, then run extract again",
        str(one.part.path.parent),
    )


def _record_of(context: WorkerContext, one: Arrival, stated: dict[Path, Path] | None = None) -> ManifestRecord:
    """Return the record of a content at its path; `stated` has a path of each directory as records store it."""
    assert one.path is not None
    beside = None if stated is None else stated.get(one.path.parent)
    path = context.manifest.stated(one.path) if beside is None else beside.with_name(one.path.name)
    if stated is not None:
        stated[one.path.parent] = path
    event = one.event.model_copy(update={"file_path": path})
    return record_from_download(one.source, event, context.manifest.version)


def _attempt_of(context: WorkerContext, one: Arrival) -> Attempt:
    return one.attempt or {"url": context.safe_address(one.source)}


def _outcome(context: WorkerContext, one: Arrival, result: AddResult) -> Outcome:
    """Delete what is left of the part, and return what came of it."""
    assert one.given is not None
    one.part.discard()
    file_path = str(context.locate(result.record))
    warning = moved_time(one.given, result) if one.attempt is not None else None
    verdict = Result.of(result.verdict)
    return Outcome(one.source.source_id, one.source.dataset, verdict, file_path, warning=warning)
