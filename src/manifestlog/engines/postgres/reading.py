"""Single queries of the server that need no transaction of several round trips."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.postgres.lookup import BODIES, Known
from manifestlog.errors import ManifestNotFoundError
from manifestlog.model import codec
from manifestlog.model.rows import utc_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.postgres.wire import Rows
    from manifestlog.engines.protocol import Location
    from manifestlog.model.codec import Encoded
    from manifestlog.model.rows import Row

SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
PATIENCE = "SELECT set_config('idle_in_transaction_session_timeout', '1h', true)"
"""How long a snapshot may be unread: whoever verifies large files, or shows it page by page, takes his time. It locks nothing."""
FEED = "SELECT seq, ts, records, changed, cut_seq, cut_ts FROM manifestlog.feed WHERE manifest_id = %s"
_COUNT = "SELECT records FROM manifestlog.feed WHERE manifest_id = %s"
METADATA = """
    SELECT m.metadata, f.records, f.changed FROM manifestlog.manifest m JOIN manifestlog.feed f USING (manifest_id)
    WHERE m.manifest_id = %s"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Feed(NamedTuple):
    """The end of a manifest's log; times are in microseconds since 1970."""

    seq: int
    ts: int
    records: int
    changed: int | None
    cut_seq: int
    cut_ts: int | None


def feed(slot: Slot, location: Location, manifest_id: int) -> Feed:
    """Return the end of the log."""
    return feed_in(slot.rows(FEED, manifest_id), location)


def feed_in(found: Rows, location: Location) -> Feed:
    """Return the end of the log that a query has found."""
    if not found:
        raise ManifestNotFoundError(location.display)
    return Feed(*found[0])


def count(slot: Slot, manifest_id: int) -> int:
    """Return the number of records."""
    ((found,),) = slot.rows(_COUNT, manifest_id)
    return int(found)


def metadata(slot: Slot, location: Location, manifest_id: int) -> Row:
    """Return the metadata, with what the feed counts."""
    return metadata_in(slot.rows(METADATA, manifest_id), location)


def metadata_in(found: Rows, location: Location) -> Row:
    """Return the metadata that a query has found."""
    if not found:
        raise ManifestNotFoundError(location.display)
    stored, records, changed = found[0]
    row: Row = codec.loads(stored) | {"total_records": records}
    if changed is not None:
        row["ts_updated"] = utc_text(_EPOCH + timedelta(microseconds=changed))
    return row


def ahead(slot: Slot, manifest_id: int, records: Sequence[Encoded]) -> Known:
    """Return what additions of these records depend on, as of one moment and without a lock."""
    known, checksums = Known(slot, manifest_id), {record[1] for record in records}
    with slot.script():
        slot.send(SNAPSHOT)
        bodies = slot.send(BODIES, manifest_id, [bytes.fromhex(one) for one in checksums])
        take = known.ask_of_sources([codec.loads(record[0]) for record in records])
        slot.send("COMMIT")
    known.note_bodies(checksums, bodies.rows)
    take()
    return known
