"""Lineage: what a content was made from, back to the downloads, and what was made from it.

Invariants:

- The answer is a graph: contents by checksum, their deliveries, and derivations from inputs to one output. It may have
  cycles, and each content is visited once.
- A derivation that only the history shows counts like one in a record.

It explores the facts of a `Ledger`, and does no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from manifestlog.model.events import EventKind
from manifestlog.model.rows import find_observation, observations, source_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from manifestlog.model.events import Event
    from manifestlog.model.rows import Row

MADE = frozenset({EventKind.PUT, EventKind.UPDATE, EventKind.DERIVED})
"""The kinds of events that tell of derivations."""


class Delivery(NamedTuple):
    """One delivery of a content by a source, in one manifest."""

    manifest: str
    source_id: str
    dataset: str
    file_path: str
    etag: str | None
    ts_downloaded: str
    version: str
    url: str | None = None
    """The URL that it was fetched from, if the history has it; secrets are masked."""
    status: int | None = None
    """The HTTP status of that download."""
    run: str | None = None
    recorded: bool = True
    """Whether a record still has it; otherwise only the history does."""


class Derivation(NamedTuple):
    """One output, made from inputs."""

    manifest: str
    output: str
    inputs: tuple[str, ...]
    stage: str | None
    version: str | None
    run: str | None
    ts: str
    """When this derivation was last recorded, as ISO-8601 text in UTC."""
    started: str | None = None
    """When the work on it began, in the same form. This and the following are None if unknown."""
    seconds: float | None = None
    """How long it took."""
    command: str | None = None
    """The command or function that made it."""
    host: str | None = None


class Lineage(NamedTuple):
    """The contents of the question, everything that they were made from, and everything that was made from them."""

    starts: tuple[str, ...]
    contents: dict[str, tuple[Delivery, ...]]
    """Every content on the way, by checksum; without a delivery if no manifest knows more about it."""
    derivations: tuple[Derivation, ...]

    def made_by(self, checksum: str) -> list[Derivation]:
        """Return the derivations of this output."""
        return [one for one in self.derivations if one.output == checksum]


class Ledger(Protocol):
    """All that is known about contents. It is asked about many at once."""

    def deliveries(self, checksums: Sequence[str]) -> Sequence[Sequence[Delivery]]:
        """Return the deliveries of each of these contents."""

    def made_by(self, checksums: Sequence[str]) -> Sequence[Derivation]:
        """Return the derivations with these outputs."""

    def made_of(self, checksums: Sequence[str]) -> Sequence[Derivation]:
        """Return the derivations with these inputs."""


def explore(starts: Iterable[str], ledger: Ledger, *, up: bool, down: bool) -> Lineage:
    """Return what these contents were made from (`up`), and what was made of them (`down`)."""
    first = tuple(dict.fromkeys(starts))
    met = dict.fromkeys(first)
    derivations: dict[Derivation, None] = {}
    if up:
        _walk(first, ledger.made_by, lambda one: one.inputs, met, derivations)
    if down:
        _walk(first, ledger.made_of, lambda one: (one.output,), met, derivations)
    contents = zip(met, map(tuple, ledger.deliveries(list(met))), strict=True)
    return Lineage(first, dict(contents), tuple(derivations))


def _walk(
    starts: Iterable[str],
    ask: Callable[[Sequence[str]], Sequence[Derivation]],
    beyond: Callable[[Derivation], tuple[str, ...]],
    met: dict[str, None],
    derivations: dict[Derivation, None],
) -> None:
    waiting = list(starts)
    seen = set(waiting)
    while waiting:  # one step away from the starts, then two, and so on
        step, waiting = waiting, []
        for found in ask(step):
            derivations[found] = None
            new = [checksum for checksum in beyond(found) if checksum not in seen]
            seen.update(new)
            waiting.extend(new)
            met.update(dict.fromkeys(new))


# -- what one manifest says ----------------------------------------------------------------------------------------------


def derivations_in(manifest: str, rows: Iterable[Row], events: Iterable[Event]) -> list[Derivation]:
    """Return the derivations that these rows and events tell of, each once, as it was made last."""
    found: dict[tuple[object, ...], Derivation] = {}
    for event in events:
        one = derivation_of(manifest, event)
        if one is not None:
            found[_key(one), one.stage] = one
    told = {key[0] for key in found}
    for row in rows:
        if row.get("derived_from"):
            inputs = tuple(row["derived_from"])
            shown = Derivation(manifest, row["checksum"], inputs, None, row["version"], None, row["ts_downloaded"])
            if _key(shown) not in told:
                found[_key(shown), None] = shown
    return list(found.values())


def derivation_of(manifest: str, event: Event) -> Derivation | None:
    """Return the derivation that an event tells of, if any."""
    if event.kind not in MADE or event.checksum is None or not event.inputs:
        return None
    return _made(manifest, event.checksum, event)


def nothing_of(manifest: str, event: Event) -> Derivation | None:
    """Return the derivation without an output that an event tells of, if any: its output is empty."""
    if event.kind is not EventKind.DERIVED or event.checksum is not None or not event.inputs:
        return None
    return _made(manifest, "", event)


def _made(manifest: str, output: str, event: Event) -> Derivation:
    return Derivation(
        manifest,
        output,
        event.inputs,
        event.stage,
        event.version,
        event.run,
        event.ts,
        event.details.get("started"),
        event.seconds,
        event.details.get("command"),
        event.details.get("host"),
    )


def _key(one: Derivation) -> tuple[object, ...]:
    return one.output, frozenset(one.inputs), one.version


def deliveries_in(manifest: str, row: Row | None, events: Iterable[Event]) -> list[Delivery]:
    """Return the deliveries of one content, from its row and its events in log order; recorded ones first."""
    told: dict[tuple[str, str], Delivery] = {}
    for event in events:
        if event.kind is EventKind.PUT and event.row is not None:
            source = (str(event.source_id), str(event.dataset))
            seen = find_observation(event.row, source)
            if seen is not None:
                told[source] = _with_address(_delivery(manifest, seen, event), told.get(source))
    recorded = [] if row is None else observations(row)
    found = [_with_address(_delivery(manifest, seen, None), told.pop(source_key(seen), None)) for seen in recorded]
    return found + [one._replace(recorded=False) for one in told.values()]


def _delivery(manifest: str, seen: Row, event: Event | None) -> Delivery:
    return Delivery(
        manifest,
        seen["source_id"],
        seen["dataset"],
        seen["file_path"],
        seen.get("etag"),
        seen["ts_downloaded"],
        seen["version"],
        None if event is None else event.url,
        None if event is None else event.status,
        None if event is None else event.run,
    )


def _with_address(one: Delivery, known: Delivery | None) -> Delivery:
    """Return a delivery with the known URL of its source, unless it states one."""
    if known is None or one.url is not None:
        return one
    return one._replace(url=known.url, status=known.status, run=one.run or known.run)
