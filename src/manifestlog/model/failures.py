"""Folds events into failures: which source fails, since when, how often, why, and whether it has recovered.

Invariants:

- A failure belongs to a source, or to a source and the inputs that could not be processed.
- It ends with the next content of that source, or if there are inputs, with the next derivation from all of them,
  whatever the output's source.
- A source that answers "unchanged" leaves no event of its own: its failure ends with a run that names it as recovered,
  as the runs of `extract` do. Inputs that will not be processed any more leave no event either: a run of their stage
  names them as obsolete.
- `first` and `attempts` count from the source's last success, so they show since when it has been failing.

It does no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.model.events import Event

_SUCCESSES = frozenset({EventKind.PUT, EventKind.DERIVED})
_ENDS_INPUTS = _SUCCESSES | {EventKind.ENDED}
TOLD = _ENDS_INPUTS | {EventKind.FAILED}
"""The kinds of events that `fold_failures` needs."""


class Failure(NamedTuple):
    """A source, or an input of a stage, whose last attempt failed, or failed before it recovered."""

    manifest: str
    """The manifest's name."""
    source_id: str | None
    dataset: str | None
    inputs: tuple[str, ...]
    """The checksums that were to be processed, if any."""
    error: str | None
    """Why the last attempt failed."""
    url: str | None
    status: int | None
    """The HTTP status of the last attempt."""
    first: str
    """When it failed for the first time since its last success, as ISO-8601 text in UTC; so are the other times."""
    last: str
    attempts: int
    """How often it failed since its last success."""
    run: str | None
    """The run of the last attempt."""
    succeeded: str | None
    """When it first succeeded after that, or no longer needed to be processed; None if it has not."""
    stage: str | None = None
    """The stage of the last attempt, and its version."""
    version: str | None = None
    exit_code: int | None = None
    """The exit code of its command; minus the number of the signal that ended it."""
    stderr: str | None = None
    """The last lines of the command's stderr, or the end of the traceback."""


_Key = tuple[str, "str | None", "str | None", tuple[str, ...]]
"""Manifest, source, dataset, inputs."""
_Start = tuple[str, "str | None", "str | None", tuple[str, ...]]
"""Manifest, and either source and dataset, or the first input."""


def fold_failures(events: Iterable[tuple[str, Event]]) -> list[Failure]:
    """Return the failures of these events, each with its manifest's name, the latest first.

    The events of one manifest come in the order of its log; it needs those of the kinds `TOLD`.
    """
    found: dict[_Key, Failure] = {}
    failing: dict[_Start, set[_Key]] = {}
    for manifest, event in events:
        if event.kind is EventKind.FAILED:
            key = (manifest, event.source_id, event.dataset, event.inputs)
            failing.setdefault(_start(manifest, event.source_id, event.dataset, event.inputs), set()).add(key)
            found[key] = _failed(manifest, event, found.get(key))
        for start in _may_end(manifest, event):
            ended = {key for key in failing.get(start, ()) if ends(event, *key[1:])}
            found.update((key, found[key]._replace(succeeded=event.ts)) for key in ended)
            if ended:
                failing[start] -= ended
    return sorted(found.values(), key=lambda one: (one.last, one.source_id or "", one.inputs), reverse=True)


def ends(event: Event, source_id: str | None, dataset: str | None, inputs: tuple[str, ...]) -> bool:
    """Return whether this event ends a failure of this source, or of these inputs of it."""
    if inputs:
        return event.kind in _ENDS_INPUTS and set(inputs) <= set(event.inputs)
    if event.kind in _SUCCESSES:
        return (event.source_id, event.dataset) == (source_id, dataset)
    return (source_id, dataset) in event.recovered


def _start(manifest: str, source_id: str | None, dataset: str | None, inputs: tuple[str, ...]) -> _Start:
    return (manifest, None, None, inputs[:1]) if inputs else (manifest, source_id, dataset, ())


def _may_end(manifest: str, event: Event) -> list[_Start]:
    """Return where the failures begin that this event may end: with its source, or with one of its inputs."""
    if event.kind not in _ENDS_INPUTS:
        return []
    sources = [(event.source_id, event.dataset)] if event.kind in _SUCCESSES else event.recovered
    by_source = [_start(manifest, *source, ()) for source in sources]
    return by_source + [_start(manifest, None, None, (digits,)) for digits in event.inputs]


def _failed(manifest: str, event: Event, before: Failure | None) -> Failure:
    goes_on = before is not None and before.succeeded is None
    return Failure(
        manifest=manifest,
        source_id=event.source_id,
        dataset=event.dataset,
        inputs=event.inputs,
        error=event.error,
        url=event.url,
        status=event.status,
        first=before.first if before is not None and goes_on else event.ts,
        last=event.ts,
        attempts=before.attempts + 1 if before is not None and goes_on else 1,
        run=event.run,
        succeeded=None,
        stage=event.stage,
        version=event.version,
        exit_code=event.details.get("exit_code"),
        stderr=event.details.get("stderr"),
    )
