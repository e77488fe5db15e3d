"""Finds, creates and lists the rows of manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.postgres.values import LANES
from manifestlog.model import codec

if TYPE_CHECKING:
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.model.rows import Row

_FIND = "SELECT manifest_id, lanes, metadata FROM manifestlog.manifest WHERE name = %s"
_NAMES = "SELECT name FROM manifestlog.manifest ORDER BY name"
_CREATE = """
    WITH made AS (
        INSERT INTO manifestlog.manifest (manifest_id, name, lanes, metadata)
        SELECT coalesce(max(manifest_id), 0) + %s::int, %s::text, %s::int, %b::bytea FROM manifestlog.manifest
        RETURNING manifest_id, lanes
    ), lanes AS (
        INSERT INTO manifestlog.lane (manifest_id, lane) SELECT manifest_id, generate_series(0, lanes - 1) FROM made
    )
    INSERT INTO manifestlog.feed (manifest_id, seq, ts, records, changed, cut_seq, cut_ts)
    SELECT manifest_id, 0, 0, 0, NULL, 0, NULL FROM made, (SELECT set_config('synchronous_commit', %s, true)) c"""


class Stored(NamedTuple):
    """What never changes of a manifest, and its metadata at the opening."""

    manifest_id: int
    lanes: int
    metadata: Row


def find(slot: Slot, name: str) -> Stored | None:
    """Return what is stored of a manifest."""
    found = slot.rows(_FIND, name)
    return Stored(found[0][0], found[0][1], codec.loads(found[0][2])) if found else None


def names(slot: Slot) -> list[str]:
    """Return the names of all manifests, sorted."""
    return [name for (name,) in slot.rows(_NAMES)]


def create(slot: Slot, name: str, metadata: Row, level: str, ahead: int = 1) -> None:
    """Make a manifest without records, with a number so far ahead of the others'; `level` is what the commit waits for."""
    slot.rows(_CREATE, ahead, name, LANES, codec.dumps(metadata | {"total_records": 0}), level)
