"""Makes sure that other writers' records are on the disk, and removes the rows of writers that are gone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.engines.postgres.writing import NOW
from manifestlog.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.slots import Slot

_IS_UNFLUSHED = """
    seq > (SELECT coalesce(max(flushed), 0) FROM manifestlog.writer WHERE manifest_id = %s)
        OR coalesce(current_setting('synchronous_standby_names', true), '') <> ''"""
"""With standbys, what others have noted proves nothing: a session that ends while it waits for one leaves its note behind."""
_UNFLUSHED = f"""
    SELECT seq FROM (SELECT coalesce(max(l.seq), max(f.cut_seq)) AS seq
        FROM manifestlog.feed f LEFT JOIN manifestlog.log l ON l.manifest_id = f.manifest_id AND l.checksum = ANY(%b::bytea[])
        WHERE f.manifest_id = %s) last
    WHERE {_IS_UNFLUSHED}"""
"""Contents without an event may have had one that was cut."""
_UNFLUSHED_END = f"SELECT seq FROM (SELECT seq FROM manifestlog.feed WHERE manifest_id = %s) last WHERE {_IS_UNFLUSHED}"
_FLUSH_ALL = f"""
    INSERT INTO manifestlog.writer AS w (writer, manifest_id, op, seq, flushed, answers, ts)
    VALUES (%b, %s, 0, 0, %s, '[]', {NOW}) ON CONFLICT (writer) DO UPDATE SET flushed = greatest(w.flushed, excluded.flushed)"""
SYNCHRONOUS = "SELECT set_config('synchronous_commit', %s, true)"
_LEAVE = "DELETE FROM manifestlog.writer WHERE writer = ANY(%b::bytea[])"
_PURGE = f"DELETE FROM manifestlog.writer WHERE ts < {NOW} - 7 * 86400 * 1000000::bigint"


def confirm(slot: Slot, manifest_id: int, checksums: Sequence[str] | None, synchronous: str) -> None:
    """Wait until these contents are on disk, or with None everything; their writers may not have waited."""
    if checksums is None:
        found = slot.rows(_UNFLUSHED_END, manifest_id, manifest_id)
    else:
        found = slot.rows(_UNFLUSHED, [bytes.fromhex(one) for one in checksums], manifest_id, manifest_id)
    if found:
        with slot.script():
            slot.send("BEGIN")
            slot.send(SYNCHRONOUS, synchronous)
            slot.send(_FLUSH_ALL, slot.writer, manifest_id, found[0][0])
            slot.send("COMMIT")


def leave(pool: Pool) -> None:
    """Remove the rows of this pool's writers, and of those that were killed long ago. Never fails."""
    writers = list(pool.writers())
    if not writers:
        return

    def act(slot: Slot) -> None:
        with slot.script():
            slot.send(_LEAVE, writers)
            slot.send(_PURGE)

    with suppress(ManifestError):
        pool.brief(act)
