"""Converts events of another manifest to log lines, from which `changes` reads the same events."""

from __future__ import annotations

from manifestlog.engines.filelog.log.lines import EVENTS, LogEntry
from manifestlog.model import codec
from manifestlog.model.changes import said_of
from manifestlog.model.events import Event, EventKind


def entry_of(event: Event) -> LogEntry:
    """Return the line of an event, with the event's own time."""
    said = said_of(event)
    if event.kind is EventKind.META:
        assert isinstance(said, dict)
        return LogEntry("meta", event.ts, [], {"metadata": said.pop("metadata"), "event": said})
    if event.kind.value in EVENTS:
        return LogEntry(event.kind.value, event.ts, [], {"event": said})
    if event.row is not None:
        record = codec.encoded_row(codec.dumps(event.row), event.row)
        return LogEntry("put", event.ts, [record], {"event": said} if said else {})
    return LogEntry("forget", event.ts, [], {"checksum": event.checksum, "event": said})
