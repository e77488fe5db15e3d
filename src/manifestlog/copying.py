"""Copies a manifest to another place, in the same engine or another one.

Invariants:

- A copy shows one moment of its source: records, metadata and every event that led to them, byte for byte.
- It overwrites nothing. The target is either empty or an earlier moment of the same source. An earlier moment catches
  up.
- It can be killed at any time and run again: a new target appears completely or not at all, and an existing one catches
  up event by event.

The differences between engines are in their `load`, `image` and `replay`.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

from manifestlog import progress
from manifestlog.copy_errors import ManifestExistsError
from manifestlog.engines.protocol import Capability
from manifestlog.engines.registry import driver_for, open_to_read
from manifestlog.errors import HistoryReachError, ManifestError
from manifestlog.model import codec, roots
from manifestlog.model.earlier import UnknownBeforeError, take_back
from manifestlog.model.events import EventKind
from manifestlog.names import PathOrUrl
from manifestlog.options import ManifestOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.engines.protocol import Driver, Engine, Image, Location, Snapshot
    from manifestlog.model.events import Event
    from manifestlog.model.rows import Row

log = logging.getLogger(__name__)

EVENTS_AT_ONCE = 1000
IDENTITY = ("ts_created", "process")
"""The metadata that never change."""


class CopyOutcome(StrEnum):
    """How a copy ended.

    - `COPIED`: the target is new.
    - `CAUGHT_UP`: the target was an earlier state of the source, and got the events since then.
    - `ALREADY_THERE`: the target was up to date already; nothing was written.
    """

    COPIED = "copied"
    CAUGHT_UP = "caught_up"
    ALREADY_THERE = "already_there"


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did."""

    outcome: CopyOutcome
    source: str
    target: str
    records: int
    """How many records the target has."""
    events: int
    """How many events were written."""
    reaches_back_to: str | None
    """The earliest time that the history of the target reaches back to; None if it begins with the manifest."""
    source_has_changed: bool
    """Whether the source has changed since the moment that was copied."""
    seconds: float


def copy_manifest(
    source: PathOrUrl, target: PathOrUrl, *, root: str | None = None, options: ManifestOptions | None = None
) -> CopyReport:
    """Copy the manifest at a path or URL to another path or URL. The copy is durable on return.

    `root` is the `root_dir` of the copy [default: that of the source]. It is required if that of the source is relative to
    the manifest's directory and would lead elsewhere from the target. With another root, the bytes of the copy differ.

    The copy is one moment of the source. Programs may continue to write; a second call then brings the copy up to date.
    `options` are used for both manifests. Raises `ManifestExistsError`, with nothing changed, if the target is anything
    other than an earlier state of this source. After `ManifestNotFoundError`, `DamagedManifestError`, `LockTimeoutError`,
    `ServerError` or `DiskFullError`, you can repeat the same call.
    """
    used = options or ManifestOptions()
    with closing(open_to_read(source, used)) as engine:
        return copy(engine, target, used, root)


def copy(engine: Engine, target: PathOrUrl, options: ManifestOptions, root: str | None = None) -> CopyReport:
    """Copy an open manifest, as `copy_manifest` does."""
    began, driver = time.perf_counter(), driver_for(target)
    place = driver.locate(os.fspath(target))
    if Capability.DURABLE not in driver.capabilities:
        raise ManifestError(f"{place.display}: what is there ends with this process; name a file or a database")
    if engine.location.key == place.key:
        raise ManifestError(f"{place.display}: source and target are the same manifest; name another target")
    image = _rooted(engine, place, root)
    outcome, written = _copied(driver, place, image, options)
    report = CopyReport(
        outcome,
        engine.location.display,
        place.display,
        len(image.snapshot),
        written,
        image.reach,
        _has_events_after(engine, image.cursor),
        time.perf_counter() - began,
    )
    log.info("%s: %s to %s: %d records, %d events", report.source, outcome, report.target, report.records, written)
    return report


def _copied(driver: Driver, place: Location, image: Image, options: ManifestOptions) -> tuple[CopyOutcome, int]:
    """Make the target, or let it catch up; return how many events were written."""
    try:
        driver.load(place, image, options).close()
    except ManifestExistsError:
        with closing(driver.open(place, None, options, read_only=False)) as target:
            written = _catch_up(target, image)
        return (CopyOutcome.CAUGHT_UP if written else CopyOutcome.ALREADY_THERE), written
    return CopyOutcome.COPIED, image.events_total


def _rooted(engine: Engine, place: Location, root: str | None) -> Image:
    """Return the image of a manifest with this root. Raises `ManifestError` if its own would lead elsewhere."""
    own = str(engine.metadata()["root_dir"])
    if root is None:
        here, there = roots.root_of(own, engine.location.directory), roots.root_of(own, place.directory)
        if here != there:
            raise ManifestError(
                f"{engine.location.display}: its root_dir, {own}, is relative to its directory: it leads to {here}, and from"
                f" the target it would lead to {there}; nothing was copied: give the directory that holds the data files with"
                f" root / --root, or {own} to keep it"
            )
    image = engine.image()
    return image if root is None else rerooted(image, lambda _: root)


def rerooted(image: Image, change: Callable[[str], str]) -> Image:
    """Return an image with other roots."""
    metadata = image.metadata | {"root_dir": change(str(image.metadata["root_dir"]))}
    return image._replace(metadata=metadata, events=(rerooted_event(event, change) for event in image.events))


def rerooted_event(event: Event, change: Callable[[str], str]) -> Event:
    """Return an event that sets the other root, if it sets one."""
    if event.kind is not EventKind.META or "root_dir" not in event.details["metadata"]:
        return event
    metadata = event.details["metadata"]
    changed = metadata | {"root_dir": change(str(metadata["root_dir"]))}
    return event._replace(details=event.details | {"metadata": changed})


def _has_events_after(engine: Engine, cursor: str) -> bool:
    try:
        return engine.cursor() != cursor and any(True for _ in engine.events_after(cursor))
    except HistoryReachError:  # they came, and are gone
        return True


# -- catching up -------------------------------------------------------------------------------------------------------


def _catch_up(target: Engine, image: Image) -> int:
    """Write the events that the target lacks, if it is an earlier moment of the image; return how many they are."""
    before = target.image()
    common_end(before, image, target.location.display)
    left = image.events
    if image.reach is not None:
        left = iter(_checked(before.snapshot, image, target.location.display))
    written, cursor = 0, before.cursor
    while some := list(islice(left, EVENTS_AT_ONCE)):
        cursor = target.replay(some, cursor)
        written += len(some)
        progress.tell("copying to", target.location.display, before.events_total + written, image.events_total)
    return written


def common_end(before: Image, image: Image, display: str) -> str | None:
    """Take from the image the events that the target has; return the cursor of the last one, None if there are none.

    Raises `ManifestExistsError` unless they are the first ones of the image.
    """
    cursor, there, given = None, before.metadata, image.metadata
    begin_alike = (before.reach is None) == (image.reach is None)
    if any(there[name] != given[name] for name in IDENTITY) or not begin_alike:
        raise _other(before.snapshot, display, f"it was created at {there['ts_created']}")
    for number, event in enumerate(before.events, 1):
        same = next(image.events, None)
        if same is None or not _is_same(event, same):
            raise _other(before.snapshot, display, f"its event {number:,}, of {event.ts}, is not that of the source")
        cursor = same.cursor
    return cursor


def _is_same(event: Event, other: Event) -> bool:
    return event[2:] == other[2:]  # not the cursor, and not the time, which must not go back in every engine


def _other(there: Snapshot, display: str, why: str) -> ManifestExistsError:
    return ManifestExistsError(display, f"another manifest is there, with records: {len(there):,} ({why})")


def _checked(there: Snapshot, image: Image, display: str) -> list[Event]:
    """Return the events that are left, after a comparison of the records before them, which no event tells of."""
    left = list(image.events)
    earlier: dict[str, Row | None] = {}
    try:
        for event in reversed(left):
            if event.checksum is not None:
                take_back(earlier, {}, event)
    except UnknownBeforeError as error:
        raise _other(there, display, f"the event of {error.ts} does not say what was there before it") from None
    changed = [(checksum, codec.dumps(row)) for checksum, row in sorted(earlier.items()) if row is not None]
    unchanged = (pair for pair in image.snapshot.records() if pair[0] not in earlier)
    for one, other in zip_longest(merge(changed, unchanged), there.records()):
        if one != other:
            checksum = (other or one)[0]
            raise _other(there, display, f"its record {checksum} is not that of the source")
    return left
