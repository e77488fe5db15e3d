"""What a server and its views tell about a database for manifests, asked in two round trips.

Invariants:

- It changes nothing, and nothing secret is read. What the rights of the user do not show is None, or a row less.

`doctor` judges it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from manifestlog.engines.postgres.slots import Slot


class Server(NamedTuple):
    """What the server says of itself, and of this session."""

    version: int
    database: str
    user: str
    is_standby: bool
    is_read_only: bool
    synchronous_commit: str
    """That of the user's sessions."""
    synchronous_standby_names: str
    fsync: str
    full_page_writes: str
    connections: int
    connections_max: int
    """Those that are not reserved for administrators."""
    of_user: int
    of_user_max: int
    """-1: no limit."""
    sees_all: bool
    """Whether the user may see what others do."""
    may_make_schema: bool
    gss_encrypts: bool


class Tables(NamedTuple):
    """The schema `manifestlog`, as far as the catalog tells everybody."""

    has_schema: bool
    number: int
    has_versions: bool
    may_use: bool
    may_create: bool
    may_read: bool
    may_write: bool


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
    ahead_s: float
    """How far this host's clock is ahead of the server's, give or take half a round trip."""
    address: str
    """The server's; empty for a socket."""
    has_tls: bool
    sslmode: str


class Told(NamedTuple):
    """Everything that a test of a database asks."""

    server: Server
    tables: Tables
    open: list[Open]
    standbys: list[Standby]
    session: Session


_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
_SERVER = """
    SELECT current_setting('server_version_num')::int, current_database()::text, current_user::text,
        pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
        (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
        current_setting('synchronous_standby_names'), current_setting('fsync'), current_setting('full_page_writes'),
        (SELECT sum(numbackends)::bigint FROM pg_stat_database),
        current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
            - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::bigint,
        (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user),
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
        pg_has_role('pg_read_all_stats', 'USAGE'), has_database_privilege(current_database(), 'CREATE'),
        coalesce((SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()), false)"""
_TABLES = """
    SELECT n.oid IS NOT NULL, count(c.oid), count(c.oid) FILTER (WHERE c.relname = 'schema_version') > 0,
        coalesce(has_schema_privilege(n.oid, 'USAGE'), false), coalesce(has_schema_privilege(n.oid, 'CREATE'), false),
        coalesce(bool_and(has_table_privilege(c.oid, 'SELECT')), false),
        coalesce(bool_and(has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
            AND has_table_privilege(c.oid, 'DELETE')) FILTER (WHERE c.relname <> 'schema_version'), false)
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
    """Ask the server for everything at once, and then for the time alone."""
    with slot.script():
        replies = [slot.send(statement) for statement in (_SERVER, _TABLES, _OPEN, _STANDBYS)]
    before_s, began = time.time(), time.monotonic()
    ((server_s,),) = slot.rows(_CLOCK)
    seconds = time.monotonic() - began
    (server,), (found,), open_ones, followers = (reply.rows for reply in replies)
    pgconn = slot.live.pgconn
    sslmode = next((one.val or b"" for one in pgconn.info if one.keyword == b"sslmode"), b"")
    return Told(
        Server(*server),
        Tables(*found),
        [Open(*row) for row in open_ones],
        [Standby(*row) for row in followers],
        Session(
            seconds,
            before_s + seconds / 2 - server_s,
            pgconn.hostaddr.decode(),
            bool(pgconn.ssl_in_use),
            sslmode.decode(),
        ),
    )
