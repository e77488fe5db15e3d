"""Asks the histories of several manifests at once.

Invariants:

- The events of one manifest keep the order of its log, whatever its clock did; those of several are merged by time.
- Nothing is held in memory but one event of each manifest, so a history of any length streams.

The folds over events are in `model`; this module says which events they need.
"""

from __future__ import annotations

import heapq
import re
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.engines.protocol import Snapshot
    from manifestlog.model.events import Event

PREFIX_DIGITS_MIN = 6
"""The fewest digits that may stand for a whole checksum."""

_DIGITS = re.compile(r"[0-9A-Fa-f]+")


def are_digits(text: str) -> bool:
    """Return whether the text is of hexadecimal digits only, as a checksum is."""
    return _DIGITS.fullmatch(text) is not None


class Source(Protocol):
    """A manifest whose records may be searched; every manager is one."""

    def snapshot(self) -> Snapshot: ...


def merged(histories: Iterable[tuple[str, Iterable[Event]]], *, reverse: bool = False) -> Iterator[tuple[str, Event]]:
    """Yield the events of several manifests as (name, event), merged by time; `reverse` as the histories are."""
    streams = [_named(name, events) for name, events in histories]
    return heapq.merge(*streams, key=lambda named: named[1].ts, reverse=reverse)


def _named(name: str, events: Iterable[Event]) -> Iterator[tuple[str, Event]]:
    for event in events:
        yield name, event


def checksums_from(manifests: Iterable[Source], prefix: str) -> set[str]:
    """Return the checksums that begin with these digits, among the present records. A forgotten content is not found."""
    wanted = prefix.lower()
    found: set[str] = set()
    for manifest in manifests:
        from_there = dropwhile(lambda checksum: checksum < wanted, manifest.snapshot().checksums())
        found.update(takewhile(lambda checksum: checksum.startswith(wanted), from_there))
    return found
