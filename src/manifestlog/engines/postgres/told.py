"""Queries a server and its views about a database for manifests.

Invariants:

- It changes nothing, and reads nothing secret. If the user's rights do not show a fact, the answer is None, or has one
  row less.
- Each query is separate: if a server does not answer one of them (because it is old, only speaks PostgreSQL's protocol,
  or forbids views), it answers the others.

`doctor` judges the answers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import psycopg

from manifestlog.engines.postgres import failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.postgres.wire import Rows

T = TypeVar("T")


class Unknown(NamedTuple):
    """What a server says instead of an answer."""

    why: str
    is_forbidden: bool = False


class Server(NamedTuple):
    """Who answers, and to whom."""

    version: int
    database: str
    user: str


class Role(NamedTuple):
    """Whether the server and this session accept writes."""

    is_standby: bool
    is_read_only: bool


class Commits(NamedTuple):
    """What a commit waits for."""

    level: str
    """`synchronous_commit` of the user's sessions."""
    standbys: str
    """`synchronous_standby_names`."""


class Room(NamedTuple):
    """How many sessions there are, and may be."""

    used: int
    limit: int
    """Those that are not reserved for administrators."""
    of_user: int
    of_user_max: int
    """-1: no limit."""


class Tables(NamedTuple):
    """The schema `manifestlog`, as far as the catalog tells everybody."""

    has_schema: bool
    number: int
    has_versions: bool
    may_use: bool
    may_create: bool
    may_read: bool
    may_write: bool
    may_make_schema: bool


class Open(NamedTuple):
    """A transaction that is open: of a session, or a prepared one."""

    who: str
    age_s: float


class Standby(NamedTuple):
    """A server that follows this one. What the user may not see is None."""

    name: str | None
    sync_state: str | None
    lag_s: float | None
    lag_bytes: int | None


class Session(NamedTuple):
    """What this program sees of the connection."""

    round_trip_s: float
    ahead_s: float | Unknown
    """How far this host's clock is ahead of the server's, give or take half a round trip."""
    address: str
    """The server's; empty for a socket."""
    has_tls: bool
    sslmode: str
    gss_encrypts: bool | Unknown


class Told(NamedTuple):
    """Everything that a test of a database asks."""

    server: Server
    role: Role | Unknown
    tables: Tables | Unknown
    commits: Commits | Unknown
    fsync: str | Unknown
    full_page_writes: str | Unknown
    standbys: list[Standby] | Unknown
    open: list[Open] | Unknown
    sees_all: bool | Unknown
    """Whether the user may see what others do."""
    room: Room | Unknown
    session: Session


_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
_SERVER = "SELECT current_setting('server_version_num')::int, current_database()::text, current_user::text"
_ROLE = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
_COMMITS = """
    SELECT (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
        current_setting('synchronous_standby_names')"""
_FSYNC = "SELECT current_setting('fsync')"
_FULL_PAGE_WRITES = "SELECT current_setting('full_page_writes')"
_ROOM = """
    SELECT (SELECT sum(numbackends)::bigint FROM pg_stat_database),
        current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
            - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::bigint,
        (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user),
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)"""
_SEES_ALL = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')"
_GSS = "SELECT coalesce((SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()), false)"
_TABLES = """
    SELECT n.oid IS NOT NULL, count(c.oid), count(c.oid) FILTER (WHERE c.relname = 'schema_version') > 0,
        coalesce(has_schema_privilege(n.oid, 'USAGE'), false), coalesce(has_schema_privilege(n.oid, 'CREATE'), false),
        coalesce(bool_and(has_table_privilege(c.oid, 'SELECT')), false),
        coalesce(bool_and(has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
            AND has_table_privilege(c.oid, 'DELETE')) FILTER (WHERE c.relname <> 'schema_version'), false),
        has_database_privilege(current_database(), 'CREATE')
    FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = 'manifestlog'
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p') GROUP BY n.oid"""
_OPEN = """
    SELECT 'process ' || pid || ' of ' || usename || coalesce(' (' || nullif(application_name, '') || ')', '') AS who,
        extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) AND xact_start IS NOT NULL
    UNION ALL SELECT 'the prepared transaction ' || gid, extract(epoch FROM clock_timestamp() - prepared)::float8
    FROM pg_prepared_xacts ORDER BY age DESC LIMIT 100"""
_STANDBYS = """
    SELECT application_name, sync_state, extract(epoch FROM replay_lag)::float8,
        CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint END
    FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY application_name, pid"""


def ask(slot: Slot) -> Told:
    """Ask the server for everything. Raises `psycopg.Error` if it does not even say who it is."""
    (server,) = slot.rows(_SERVER)
    return Told(
        Server(*server),
        _one(slot, _ROLE, Role),
        _one(slot, _TABLES, Tables),
        _one(slot, _COMMITS, Commits),
        _one(slot, _FSYNC, str),
        _one(slot, _FULL_PAGE_WRITES, str),
        _all(slot, _STANDBYS, Standby),
        _all(slot, _OPEN, Open),
        _one(slot, _SEES_ALL, bool),
        _one(slot, _ROOM, Room),
        _session(slot),
    )


def _session(slot: Slot) -> Session:
    gss_encrypts = _one(slot, _GSS, bool)
    before_s, began = time.time(), time.monotonic()
    server_s = _one(slot, _CLOCK, float)
    seconds = time.monotonic() - began
    ahead_s = server_s if isinstance(server_s, Unknown) else before_s + seconds / 2 - server_s
    pgconn = slot.live.pgconn
    sslmode = next((one.val or b"" for one in pgconn.info if one.keyword == b"sslmode"), b"").decode()
    return Session(seconds, ahead_s, pgconn.hostaddr.decode(), bool(pgconn.ssl_in_use), sslmode, gss_encrypts)


def _one(slot: Slot, question: str, kind: Callable[..., T]) -> T | Unknown:
    """Return the only row of an answer, of this kind. A NULL in it is no answer."""
    found = _rows(slot, question)
    if isinstance(found, Unknown):
        return found
    return Unknown("the server does not say") if not found or None in found[0] else kind(*found[0])


def _all(slot: Slot, question: str, kind: Callable[..., T]) -> list[T] | Unknown:
    found = _rows(slot, question)
    return found if isinstance(found, Unknown) else [kind(*row) for row in found]


def _rows(slot: Slot, question: str) -> Rows | Unknown:
    try:
        return slot.rows(question)
    except psycopg.Error as error:
        if failures.is_lost(error) or failures.may_retry(error):
            raise
        slot.recover()
        return Unknown(failures.line(error), isinstance(error, psycopg.errors.InsufficientPrivilege))
