"""Checks a manifest in a database without opening it: whether its tables agree, and their size.

Invariants:

- It changes nothing and takes no lock. All reads show the same moment.
- Each test compares facts that are stored twice: bodies with sightings, the feed's count with the contents, numbers
  with lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifestlog.engines.postgres import reading
from manifestlog.engines.postgres.values import seen_in
from manifestlog.engines.reports import CheckReport, Footprint
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.slots import Slot

_PAGE = 2000
_COUNTS = """
    SELECT (SELECT count(*) FROM manifestlog.content WHERE manifest_id = %s),
        (SELECT count(*) FROM manifestlog.log WHERE manifest_id = %s AND seq > %s),
        (SELECT count(*) FROM manifestlog.log l WHERE manifest_id = %s AND seq > %s AND EXISTS (
            SELECT 1 FROM manifestlog.log p WHERE p.manifest_id = l.manifest_id AND p.seq = l.seq - 1 AND p.ts > l.ts)),
        (SELECT count(*) FROM manifestlog.sighting s WHERE manifest_id = %s AND NOT EXISTS (
            SELECT 1 FROM manifestlog.content c WHERE c.manifest_id = s.manifest_id AND c.checksum = s.checksum))"""
_CONTENTS = (
    "SELECT checksum, body FROM manifestlog.content WHERE manifest_id = %s AND checksum > %b ORDER BY checksum LIMIT %s"
)
_SIGHTINGS = """
    SELECT checksum, pair, ts, tie, source, dataset FROM manifestlog.sighting
    WHERE manifest_id = %s AND checksum = ANY(%b::bytea[])"""
_LAST = """
    SELECT DISTINCT ON (checksum) checksum, body FROM manifestlog.log
    WHERE manifest_id = %s AND checksum = ANY(%b::bytea[]) AND kind <> ALL ('{failed,derived,begun,ended}')
    ORDER BY checksum, seq DESC"""
_SIZES = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)) FILTER (WHERE c.relname IN ('content', 'sighting')), 0)::bigint,
        coalesce(sum(pg_total_relation_size(c.oid)) FILTER (WHERE c.relname IN ('log', 'mention')), 0)::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'manifestlog' AND c.relkind = 'r'"""


def check(pool: Pool, manifest_id: int) -> CheckReport:
    """Report what does not fit together."""
    report = CheckReport(pool.location.display)
    pool.call(lambda slot: _check(slot, manifest_id, pool, report))
    return report


def _check(slot: Slot, manifest_id: int, pool: Pool, report: CheckReport) -> None:
    report.findings.clear()
    slot.rows(reading.SNAPSHOT)
    end = reading.feed(slot, pool.location, manifest_id)
    given = (manifest_id, manifest_id, end.cut_seq, manifest_id, end.cut_seq, manifest_id)
    ((records, lines, backwards, orphans),) = slot.rows(_COUNTS, *given)
    report.records, report.log_lines = records, lines
    if records != end.records:
        report.damage("content", None, f"{records:,} records are there, and {end.records:,} were counted")
    if lines != end.seq - end.cut_seq:
        report.damage("log", None, f"{end.seq - end.cut_seq - lines:,} of its events are missing")
    if backwards:
        report.damage("log", None, f"{backwards:,} events have an earlier time than the one before")
    if orphans:
        report.damage("sighting", None, f"{orphans:,} observations belong to no record")
    for digest, why in _wrong_records(slot, manifest_id):
        report.damage("content", None, f"{digest.hex()}: {why}")
    slot.rows("ROLLBACK")


def _wrong_records(slot: Slot, manifest_id: int) -> Iterator[tuple[bytes, str]]:
    """Yield the records that are none, or that their observations or their last event contradict."""
    last = b""
    while page := slot.rows(_CONTENTS, manifest_id, last, _PAGE):
        digests = [digest for digest, _ in page]
        told: dict[bytes, bytes | None] = dict(slot.rows(_LAST, manifest_id, digests))
        seen: dict[bytes, set[tuple[object, ...]]] = {digest: set() for digest in digests}
        for digest, *one in slot.rows(_SIGHTINGS, manifest_id, digests):
            seen[digest].add(tuple(one))
        for digest, body in page:
            if why := _wrong(digest, body, seen[digest], told.get(digest, body)):
                yield digest, why
        last = digests[-1]


def _wrong(digest: bytes, body: bytes, seen: set[tuple[object, ...]], told: bytes | None) -> str | None:
    try:
        _, checksum, _ = codec.encoded_bytes(body)
    except ValueError as error:
        return f"the record is not valid ({error})"
    if checksum != digest.hex():
        return "the record is that of another content"
    if seen != set(map(tuple, seen_in(codec.loads(body)))):
        return "its observations are not those of the record"
    return None if told == body else "the record is not what its last event says"


def footprint(slot: Slot) -> Footprint:
    """Return the size of the tables in bytes."""
    ((records, history),) = slot.rows(_SIZES)
    return Footprint(records, 0, 0, history)
