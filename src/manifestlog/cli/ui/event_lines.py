"""Describes an event in one line for people.

Invariants:

- An event is one line, whatever characters its texts contain.
- Paths are shown as recorded, because the manifest may have had another root at that time.
"""

from collections.abc import Sequence
from typing import Any

from manifestlog.cli.ui.output import clean, human_time, short
from manifestlog.model.events import Event, EventKind

_WIDTHS = {0: 20, 1: 9, 2: 8, 3: 12}
"""The least width of time, event, dataset and source on a terminal."""
_NOT_SHOWN = frozenset({"ts_updated", "total_records"})


def cells(event: Event) -> list[str]:
    """Return time, what happened, dataset, source, and what it concerned; `-` where there is nothing to say."""
    happened = event.verdict or event.kind
    about = (event.dataset, event.source_id, _concerned(event))
    return [human_time(event.ts), str(happened), *(clean(text) if text else "-" for text in about)]


def padded(shown: Sequence[str]) -> str:
    """Join the cells of an event for a terminal: aligned as far as they fit their columns, and never cut."""
    return "  ".join(cell.ljust(_WIDTHS.get(place, 0)) for place, cell in enumerate(shown))


def _concerned(event: Event) -> str:
    match event.kind:
        case EventKind.FAILED:
            return " ".join(filter(None, [with_status(event.status, event.error), made_from(event.inputs)]))
        case EventKind.BEGUN:
            return " ".join(filter(None, [event.details.get("name"), event.details.get("version")]))
        case EventKind.ENDED:
            return _ended(event)
        case EventKind.META:
            return ", ".join(_metadata(event))
        case EventKind.DERIVED:
            return " ".join(filter(None, [short(event.checksum or ""), made_from(event.inputs)]))
    return _moved(event) or short(event.checksum or "")


def with_status(status: int | None, error: str | None) -> str:
    """Return why an attempt failed, with the HTTP status in front unless the error names it."""
    said = error or ""
    if status is None or said.startswith(f"HTTP {status}"):
        return said
    return f"HTTP {status}: {said}" if said else f"HTTP {status}"


def made_from(inputs: Sequence[str]) -> str:
    """Return the checksums of inputs as a remark; nothing if there are none."""
    return f"(from {', '.join(map(short, inputs))})" if inputs else ""


def _ended(event: Event) -> str:
    counts = [f"{count} {word}" for word, count in (event.details.get("counts") or {}).items()]
    recovered = [f"{dataset}/{source_id} recovered" for source_id, dataset in event.recovered]
    obsolete = [f"{len(event.inputs)} obsolete"] if event.inputs else []
    said = ", ".join([str(event.details.get("outcome", "")), *counts, *recovered, *obsolete])
    return f"{said}: {event.error}" if event.error else said


def _metadata(event: Event) -> list[str]:
    was = event.was or {}
    now: dict[str, Any] = event.details.get("metadata") or {}
    changed = {name: value for name, value in now.items() if name not in _NOT_SHOWN}
    return [f"{name} {was[name]} → {value}" if was.get(name) else f"{name} {value}" for name, value in changed.items()]


def _moved(event: Event) -> str:
    """Return the path that an event concerned; both paths if it has changed."""
    now, before = _path(event), (event.was or {}).get("file_path")
    if event.row is None or not before or before == now or event.kind is EventKind.PUT:
        return now or before or ""
    return f"{before} → {now}"


def _path(event: Event) -> str:
    row = event.row or {}
    own = (event.source_id, event.dataset)
    if own != (row.get("source_id"), row.get("dataset")):  # then another source's observation was added
        for seen in row.get("also_seen", ()):
            if own == (seen.get("source_id"), seen.get("dataset")):
                return str(seen.get("file_path", ""))
    return str(row.get("file_path", ""))
