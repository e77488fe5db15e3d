"""Detects sources that no server has confirmed within their `stale_after`.

A record holds the time of the download, not of the server's last "not modified". So a run notes that time in a file of
the data directory, only for sources with a `stale_after`::

    {"star_systems":{"systems":"2026-11-27T03:00:05+00:00"}}

Invariants:

- No guarantee depends on this file. If it is missing or unusable, a source is as fresh as its record.
- A source that was never fetched is as old as the first run that tried.
- A note with a future time counts as now, because a clock was wrong.
- The file keeps only sources that a run has seen within a year. So it does not grow for ever if each day has a new
  source.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from manifestlog.extract.claims import Claims
from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.places.protocol import Place
from manifestlog.extract.report import Outcome, Result, Stale
from manifestlog.managers import DownloadManifestManager
from manifestlog.names import SEEN_NAME
from manifestlog.objects.errors import ObjectStoreError

_NO_ANSWER = (Result.FAILED, Result.CLAIMED)
_KEPT = timedelta(days=365)
"""How long to keep a note that no run has used."""

_Pair = tuple[str, str]
"""source_id and dataset."""


def update(
    manifest: DownloadManifestManager,
    place: Place,
    defaults: Defaults,
    sources: Iterable[ETLSource],
    outcomes: Iterable[Outcome],
) -> list[Stale]:
    """Note which sources were confirmed in this run; return those that are stale afterwards."""
    spans = {(s.source_id, s.dataset): s.stale_after or defaults.stale_after for s in sources}
    watched = {pair: span for pair, span in spans.items() if span is not None}
    if not watched:
        return []
    answered = {(o.source_id, o.dataset) for o in outcomes if o.result not in _NO_ANSWER}
    now = datetime.now(UTC)
    records = {pair: manifest.get_record_by_source(*pair) for pair in watched}
    known = {pair: record.ts_downloaded for pair, record in records.items() if record and record.ts_downloaded <= now}
    known |= dict.fromkeys(answered & watched.keys(), now)
    seen = _update_notes(manifest, place, watched, known, now)
    return [
        Stale(*pair, seen[pair], span, was_fetched=records[pair] is not None)
        for pair, span in watched.items()
        if pair not in answered and (now - seen[pair]).total_seconds() > span
    ]


def _update_notes(
    manifest: DownloadManifestManager,
    place: Place,
    watched: Iterable[_Pair],
    known: dict[_Pair, datetime],
    now: datetime,
) -> dict[_Pair, datetime]:
    """Return when each source was last confirmed, from `known` and the notes, and save that for the next run."""
    found = dict.fromkeys(watched, now) | known
    failures = (OSError, ExtractError, ObjectStoreError)
    with suppress(*failures), Claims(manifest, place.data_dir) as claims, claims.waiting("notes", SEEN_NAME):
        notes = {pair: min(time, now) for pair, time in _parsed(place.read_note(SEEN_NAME)).items()}
        found |= {pair: max(notes[pair], known.get(pair, notes[pair])) for pair in found.keys() & notes.keys()}
        kept = {pair: time for pair, time in notes.items() if time > now - _KEPT} | found
        place.write_note(SEEN_NAME, _text(kept))
    return found


def _parsed(text: bytes) -> dict[_Pair, datetime]:
    try:
        notes = json.loads(text)
        times = {
            (source_id, dataset): datetime.fromisoformat(time)
            for dataset, sources in notes.items()
            for source_id, time in sources.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {pair: time for pair, time in times.items() if time.tzinfo is not None}


def _text(times: dict[_Pair, datetime]) -> bytes:
    notes: dict[str, dict[str, str]] = {}
    for (source_id, dataset), time in times.items():
        notes.setdefault(dataset, {})[source_id] = time.isoformat(timespec="seconds")
    return json.dumps(notes).encode()
