"""Queries the histories of several manifests at once.

Invariants:

- Events of one manifest keep the order of its log, even if its clock was wrong; those of several manifests are merged
  by time.
- `merged` holds one event of each manifest, so a history of any length can be streamed.
- `runs` reads all events, unless `since` or `limit` ends it. `failures` reads only the events of sources that have
  failed.

The folds over events are in `model`; this module queries the events for them, and tests whether a process still runs.
"""

from __future__ import annotations

import heapq
import re
from datetime import timedelta
from itertools import chain, dropwhile, islice, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from manifestlog.files.processes import is_running
from manifestlog.model.events import EventKind, Query
from manifestlog.model.failures import TOLD, Failure, ends, fold_failures
from manifestlog.model.runs import RunOutcome, RunSummary, fold_runs
from manifestlog.queries import Moment, log_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from manifestlog.engines.protocol import Engine, Location, Snapshot
    from manifestlog.model.events import Event

PREFIX_DIGITS_MIN = 6
"""The fewest digits that may stand for a whole checksum."""

_SOURCES_MAX = 32
"""From more failing sources on, reading all events once is faster than a search for each source."""
FAILING_DAYS = 30
"""How long ago a failure may be, so that `failing` counts it."""
FAILING_MAX = 100
"""At how many sources `failing` stops counting."""
_DIGITS = re.compile(r"[0-9A-Fa-f]+")


def are_digits(text: str) -> bool:
    """Return whether the text is of hexadecimal digits only, as a checksum is."""
    return _DIGITS.fullmatch(text) is not None


class Recorded(Protocol):
    """A manifest with a history; every manager is one."""

    @property
    def location(self) -> Location: ...

    def snapshot(self) -> Snapshot: ...

    def history(self, *, reverse: bool = False, **wanted: Any) -> Iterator[Event]: ...


def merged(histories: Iterable[tuple[str, Iterable[Event]]], *, reverse: bool = False) -> Iterator[tuple[str, Event]]:
    """Yield the events of several manifests as (name, event), merged by time; `reverse` as the histories are."""
    streams = [_named(name, events) for name, events in histories]
    return heapq.merge(*streams, key=lambda named: named[1].ts, reverse=reverse)


def _named(name: str, events: Iterable[Event]) -> Iterator[tuple[str, Event]]:
    for event in events:
        yield name, event


def checksums_from(manifests: Iterable[Recorded], prefix: str) -> set[str]:
    """Return the checksums that begin with these digits, among the present records. A forgotten content is not found."""
    wanted = prefix.lower()
    found: set[str] = set()
    for manifest in manifests:
        from_there = dropwhile(lambda checksum: checksum < wanted, manifest.snapshot().checksums())
        found.update(takewhile(lambda checksum: checksum.startswith(wanted), from_there))
    return found


def runs(manifests: Iterable[Recorded], *, since: Moment | None = None, limit: int | None = None) -> list[RunSummary]:
    """Return the runs that wrote to these manifests, the latest first; a run that wrote to several is one.

    With `since`, only runs that began since then; with `limit`, at most that many, and no earlier events are read.
    Raises as `AbstractManifest.history`.
    """
    some = list(manifests)
    begins = [] if limit is None else _latest_begins(some, since, limit)
    is_cut = bool(begins) and len(begins) == limit
    streams = [_back_to(one, number, begins) if is_cut else _since(one, since) for number, one in enumerate(some)]
    known = fold_runs(chain.from_iterable(_named(*pair) for pair in zip(_names(some), streams, strict=True)))
    if since is not None:
        known = [one for one in known if one.begun is not None]
    elif is_cut:  # a run whose begin was not read counts only if it has none
        known = [one for one in known if one.begun is not None or not _begins(some, one.run)]
    return [_as_it_is(one) for one in islice(reversed(known), limit)]


def _names(manifests: list[Recorded]) -> list[str]:
    return [one.location.name for one in manifests]


class _Begin(NamedTuple):
    """Where a run began: when, in which of the manifests, and the cursor of the event."""

    ts: str
    manifest: int
    cursor: str


def _latest_begins(manifests: list[Recorded], since: Moment | None, limit: int) -> list[_Begin]:
    """Return the begins of the latest runs, the latest first, at most `limit`."""
    found: dict[str | None, _Begin] = {}
    for number, one in enumerate(manifests):
        for event in islice(one.history(kinds=[EventKind.BEGUN], since=since, reverse=True), limit):
            begin = _Begin(event.ts, number, event.cursor)
            found[event.run] = min(begin, found.get(event.run, begin))
    return sorted(found.values(), reverse=True)[:limit]


def _back_to(manifest: Recorded, number: int, begins: list[_Begin]) -> Iterator[Event]:
    """Yield the events back to the last of these begins; to its time, if the runs did not all begin in this manifest."""
    waiting = {begin.cursor for begin in begins if begin.manifest == number}
    if len(waiting) < len(begins):
        yield from _since(manifest, begins[-1].ts)
        return
    for event in manifest.history(reverse=True):
        yield event
        waiting.discard(event.cursor)
        if not waiting:
            return


def _begins(manifests: list[Recorded], run: str) -> bool:
    """Return whether a manifest has the begin of this run."""
    return any(True for one in manifests for _ in one.history(run=run, kinds=[EventKind.BEGUN]))


def _since(manifest: Recorded, since: Moment | None) -> Iterator[Event]:
    return manifest.history(since=since, reverse=since is not None)  # in reverse the engine stops at that time


def _as_it_is(run: RunSummary) -> RunSummary:
    if run.ended is not None or run.begun is None:
        return run
    running = is_running(run.host, run.pid, run.pid_started)
    if running is None:
        return run
    return run._replace(outcome=RunOutcome.RUNNING if running else RunOutcome.DIED)


def failures(manifests: Iterable[Recorded], *, since: Moment | None = None, recovered: bool = False) -> list[Failure]:
    """Return the sources that failed and have not succeeded since, the latest failure first; with `recovered`, all.

    With `since`, only sources that failed since then; their first failure may be earlier. A success is a later record, a
    later derivation, or a run that names the source as recovered or the inputs as obsolete. Raises as `AbstractManifest.history`.
    """
    earliest = "" if since is None else log_time(since)
    found: list[Failure] = []
    for one in manifests:
        for events in _of_failing(one, since):
            found += fold_failures(_named(one.location.name, events))
    asked = [one for one in found if one.last >= earliest and (recovered or one.succeeded is None)]
    return sorted(asked, key=lambda one: one.last, reverse=True)


def _of_failing(manifest: Recorded, since: Moment | None) -> list[Iterator[Event]]:
    """Return the attempts of the sources that have failed since then: of each, or of all if they are many."""
    failed = manifest.history(since=since, reverse=since is not None, kinds=[EventKind.FAILED])
    starts = {(None, event.inputs[0]) if event.inputs else (event.source_id, None) for event in failed}
    if len(starts) > _SOURCES_MAX or (None, None) in starts:
        return [manifest.history(kinds=TOLD)]
    # An event that names several failing inputs comes once for each of them, so those are asked for in one search.
    inputs = sorted(digits for _, digits in starts if digits is not None)
    sources = sorted(source for source, _ in starts if source is not None)
    found = [_without_inputs(manifest.history(source_id=source, kinds=TOLD)) for source in sources]
    return [*found, manifest.history(checksums=inputs, kinds=TOLD)] if inputs else found


def _without_inputs(events: Iterator[Event]) -> Iterator[Event]:
    """Yield the events but the failures of inputs, whose success may have another source."""
    return (event for event in events if event.kind is not EventKind.FAILED or not event.inputs)


def failing(engine: Engine, now: datetime) -> int:
    """Return how many sources failed in the last `FAILING_DAYS` and have not succeeded since, at most `FAILING_MAX`.

    It is fast in a long history: it reads failures, and what came after them.
    """
    return min(FAILING_MAX, len(_still_failing(engine, _latest_failures(engine, now), now)))


def recovered(engine: Engine, unchanged: set[tuple[str, str]], now: datetime) -> list[tuple[str, str]]:
    """Return which of these sources failed in the last `FAILING_DAYS` and have not succeeded since, before now."""
    latest = [
        one for one in _latest_failures(engine, now) if (one.source_id, one.dataset) in unchanged and not one.inputs
    ]
    return [(str(one.source_id), str(one.dataset)) for one in _still_failing(engine, latest, now)]


def _latest_failures(engine: Engine, now: datetime) -> list[Event]:
    """Return the latest failure of each source, or of each input of it, in the last `FAILING_DAYS`."""
    since = log_time(now - timedelta(days=FAILING_DAYS))
    wanted = Query(kinds=frozenset({EventKind.FAILED}), since=since, until=log_time(now), reverse=True)
    latest: dict[object, Event] = {}
    for event in engine.events(wanted):
        latest.setdefault((event.source_id, event.dataset, event.inputs), event)
    return list(latest.values())


def _still_failing(engine: Engine, failed: list[Event], now: datetime) -> list[Event]:
    """Return which of these failures nothing has ended that came after them."""
    until = log_time(now)
    if len(failed) <= _SOURCES_MAX:
        return [one for one in failed if _still_fails(engine, one, until)]
    waiting: dict[object, list[Event]] = {}
    for one in failed:
        waiting.setdefault(one.inputs[:1] or (one.source_id, one.dataset), []).append(one)
    found: list[Event] = []
    for event in engine.events(Query(kinds=TOLD, until=until, reverse=True)):
        inputs = ((digits,) for digits in event.inputs)
        for source in ((event.source_id, event.dataset), *event.recovered, *inputs):
            some = waiting.pop(source, [])
            found += (one for one in some if one.cursor == event.cursor)
            if left := [one for one in some if one.cursor != event.cursor and not _ends(event, one)]:
                waiting[source] = left
        if not waiting:
            break
    return found


def _ends(event: Event, failure: Event) -> bool:
    return ends(event, failure.source_id, failure.dataset, failure.inputs)


def _still_fails(engine: Engine, failure: Event, until: str) -> bool:
    """Return whether nothing that would end this failure came after it."""
    by_source = not failure.inputs
    wanted = Query(
        source_id=failure.source_id if by_source else None,
        dataset=failure.dataset if by_source else None,
        checksums=frozenset(failure.inputs[:1]) or None,
        kinds=TOLD,
        until=until,
        reverse=True,
    )
    for event in engine.events(wanted):
        if event.cursor == failure.cursor:
            return True
        if _ends(event, failure):
            return False
    return True
