"""Claims as rows: who has which claim, until when, and how another worker takes it over.

Invariants:

- A row has one holder, identified by a token that differs with each holder. A worker that takes over a claim changes
  the token.
- A row may be taken over when its lease has expired, or when its process is gone (`presence`).
- Every statement locks several rows in the order of their names.

The clock is the server's. `keeper` renews.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.postgres.values import event_time
from manifestlog.engines.postgres.writing import NOW
from manifestlog.engines.reports import Holder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.engines.postgres.slots import Slot

_TAKE = f"""
    INSERT INTO manifestlog.claim AS c
        (name, owner, token, expires, presence, manifest_id, place, kind, what, host, pid, since)
    SELECT u.name, %b, u.token, n.now + %s, %s::bigint, %s::int, %b, %s::text, u.what, %s::text, %s::int, n.now
    FROM unnest(%b::bytea[], %s::bigint[], %b::bytea[]) AS u(name, token, what), (SELECT {NOW} AS now) n
    ORDER BY u.name
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires = excluded.expires, presence = excluded.presence,
        manifest_id = excluded.manifest_id, place = excluded.place, kind = excluded.kind, what = excluded.what,
        host = excluded.host, pid = excluded.pid,
        token = CASE WHEN c.owner = excluded.owner THEN c.token ELSE excluded.token END,
        since = CASE WHEN c.owner = excluded.owner THEN c.since ELSE excluded.since END
    WHERE c.owner = excluded.owner OR c.expires < excluded.since"""
_OR_GONE = " OR pg_try_advisory_xact_lock_shared(c.presence)"
_TAKEN = " RETURNING name, token"
_MINE = """
    WITH mine AS (
        SELECT c.name FROM unnest(%b::bytea[], %s::bigint[]) AS h(name, token)
        JOIN manifestlog.claim c ON c.name = h.name AND c.token = h.token ORDER BY c.name FOR UPDATE OF c)"""
_RELEASE = f"{_MINE} DELETE FROM manifestlog.claim c USING mine WHERE c.name = mine.name"
_RENEW = f"{_MINE} UPDATE manifestlog.claim c SET expires = {NOW} + %s FROM mine WHERE c.name = mine.name"
_COUNT = """
    SELECT count(*) FROM unnest(%b::bytea[], %s::bigint[]) AS h(name, token)
    JOIN manifestlog.claim c ON c.name = h.name AND c.token = h.token"""
_PURGE = f"DELETE FROM manifestlog.claim WHERE expires < {NOW} - 7 * 86400 * 1000000::bigint"
"""What a killed process had claimed, and nobody has wanted since."""
_HELD = f"SELECT host, pid, since, kind, what FROM manifestlog.claim WHERE expires > {NOW}"
_OF_MANIFEST = " AND manifest_id = %s AND kind = %s"
_OF_NAMES = " AND name = ANY(%b::bytea[])"
_AND_THERE = " AND (presence IS NULL OR NOT pg_try_advisory_xact_lock_shared(presence))"


class Claimant(NamedTuple):
    """Who takes claims, and what for."""

    owner: bytes
    lease_us: int
    presence: int | None
    """The session lock of its process; None where the server's session locks tell nothing."""
    manifest_id: int
    place: bytes
    kind: str
    host: str
    pid: int


class Held(NamedTuple):
    """A claim that was taken."""

    name: bytes
    token: int


class Wanted(NamedTuple):
    """A claim that is asked for."""

    name: bytes
    token: int
    """What the row gets if it has another holder, or none, until now."""
    what: bytes


def take(slot: Slot, claimant: Claimant, wanted: Sequence[Wanted], *, asks_presence: bool) -> list[Held]:
    """Take what is free or has this owner already; return that."""
    names, tokens, whats = (list(column) for column in zip(*wanted, strict=True))
    owner, lease_us, presence, manifest_id, place, kind, host, pid = claimant
    statement = _TAKE + (_OR_GONE if asks_presence else "") + _TAKEN
    given = (owner, lease_us, presence, manifest_id, place, kind, host, pid, names, tokens, whats)
    return [Held(*row) for row in slot.rows(statement, *given)]


def release(slot: Slot, held: Sequence[Held]) -> None:
    """Give back what still has these tokens."""
    slot.rows(_RELEASE, *_columns(held))


def renew(slot: Slot, held: Sequence[Held], lease_us: int) -> None:
    """Let what still has these tokens last for another lease, even if the last one has ended: nobody has had it since."""
    slot.rows(_RENEW, *_columns(held), lease_us)


def are_held(slot: Slot, held: Sequence[Held]) -> bool:
    """Return whether all of these still have their tokens."""
    ((count,),) = slot.rows(_COUNT, *_columns(held))
    return bool(count == len(held))


def _columns(held: Sequence[Held]) -> tuple[list[bytes], list[int]]:
    return [one.name for one in held], [one.token for one in held]


def purge(slot: Slot) -> None:
    slot.rows(_PURGE)


def of_manifest(slot: Slot, manifest_id: int, kind: str, *, asks_presence: bool) -> list[Holder]:
    """Return who holds claims of this kind for the sake of a manifest, the longest one first."""
    return _holders(slot, _OF_MANIFEST, (manifest_id, kind), asks_presence=asks_presence)


def of_names(slot: Slot, names: Sequence[bytes], *, asks_presence: bool) -> list[Holder]:
    """Return who holds these claims, the longest one first."""
    return _holders(slot, _OF_NAMES, (list(names),), asks_presence=asks_presence)


def _holders(slot: Slot, which: str, given: tuple[object, ...], *, asks_presence: bool) -> list[Holder]:
    statement = _HELD + which + (_AND_THERE if asks_presence else "") + " ORDER BY since, name"
    return [
        Holder(host, pid, event_time(since), kind, what.decode("utf-8", "surrogatepass"))
        for host, pid, since, kind, what in slot.rows(statement, *given)
    ]
