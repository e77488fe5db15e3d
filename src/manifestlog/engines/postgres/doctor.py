"""Tests whether a database can hold manifests, and explains each result.

Invariants:

- It changes nothing: it reads settings and the server's views, and takes a session lock for a moment.
- If the user's rights or the server do not show a fact, the result says so; nothing is guessed.

`told` queries the server; every judgement here is a pure function of its answers.
"""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import TYPE_CHECKING

from manifestlog.engines.postgres import presence, schema
from manifestlog.engines.postgres.told import Tables, Unknown, ask
from manifestlog.engines.reports import ProbeResult, ProbeStatus
from manifestlog.errors import ManifestError, NewerFormatError
from manifestlog.server_errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.told import Commits, Open, Role, Room, Standby, Told

CLOCK_SLACK_S = 2.0
_VERSION_MIN = 14
_SESSIONS_OF_A_RUN = 27
"""A run with two jobs is three processes of nine sessions."""
_OLD_S = 3600.0
_LAG_S = 60.0
_LAG_BYTES = 256 << 20
_MONITOR = "GRANT pg_read_all_stats to this user to see them"
_OK, _WARNING, _FAILED = ProbeStatus.OK, ProbeStatus.WARNING, ProbeStatus.FAILED


def diagnose(pool: Pool) -> Iterator[ProbeResult]:
    """Test the database of a location and yield one result after the other."""
    try:
        told = pool.open(ask)
    except ManifestError as error:
        yield _refused("connection", error)
        return
    yield connection(told)
    yield encryption(told)
    yield _judged("role", role, told.role)
    yield tables(told.tables, _version(pool, told.tables))
    yield _judged("rights", rights, told.tables)
    yield _judged("synchronous_commit", synchronous_commit, told.commits)
    yield _judged("fsync", partial(setting, "fsync"), told.fsync)
    yield _judged("full_page_writes", partial(setting, "full_page_writes"), told.full_page_writes)
    yield _judged("standbys", standbys, told.role, told.commits, told.standbys)
    yield _judged("open transactions", partial(open_transactions, sees_all=told.sees_all), told.open)
    yield _judged("connections", partial(connections, told.server.user), told.room)
    yield _judged("clock", partial(clock, told.session.round_trip_s), told.session.ahead_s)
    try:
        yield session_locks(are_real=presence.are_real(pool), has_sessions=pool.has_sessions)
    except ManifestError as error:
        yield _refused("session locks", error)


def _refused(test: str, error: ManifestError) -> ProbeResult:
    if isinstance(error, ServerError):
        return ProbeResult(test, _FAILED, error.reason, error.advice)
    return ProbeResult(test, _FAILED, str(error), "run this test again")


def _judged(test: str, judge: Callable[..., ProbeResult], *told: object) -> ProbeResult:
    """Return the judgement of what was told, or that some of it was not."""
    missing = next((one for one in told if isinstance(one, Unknown)), None)
    return judge(*told) if missing is None else unknown(test, missing)


def _version(pool: Pool, found: Tables | Unknown) -> int | ManifestError | None:
    """Return the version of the tables, why they cannot be used, or None if the user may not read it."""
    if isinstance(found, Tables) and found.number and not (found.may_use and found.may_read) and found.has_versions:
        return None
    try:
        return pool.call(lambda slot: schema.version(slot, pool.location))
    except ManifestError as error:
        return error


# -- judging: pure functions -------------------------------------------------------------------------------------------


def unknown(test: str, found: Unknown) -> ProbeResult:
    """Judge what the server does not tell."""
    advice = "look it up with the tools of this server: it is an older PostgreSQL, or one that only speaks its language"
    if found.is_forbidden:
        advice = "ask the administrator: GRANT pg_monitor to this user, or what the message names"
    return ProbeResult(test, _WARNING, f"not known here: {found.why}", advice)


def connection(told: Told) -> ProbeResult:
    """Judge who answers, and how fast."""
    server, ms = told.server, told.session.round_trip_s * 1000
    version = server.version // 10000
    found = f"PostgreSQL {version}, database {server.database}, user {server.user}, answers in {ms:.1f} ms"
    if version < _VERSION_MIN:
        return ProbeResult("connection", _FAILED, found, f"upgrade the server: version {_VERSION_MIN} or newer")
    return ProbeResult("connection", _OK, found)


def encryption(told: Told) -> ProbeResult:
    """Judge whether others on the way can read along, or pretend to be the server."""
    session = told.session
    if session.has_tls and session.sslmode == "verify-full":
        return ProbeResult("encryption", _OK, "TLS, and the server has proved who it is")
    if session.gss_encrypts is True:
        return ProbeResult("encryption", _OK, "by GSSAPI")
    if _is_local(session.address):
        return ProbeResult("encryption", _OK, "not needed: the server is on this machine")
    if isinstance(session.gss_encrypts, Unknown) and not session.has_tls:
        return unknown("encryption", session.gss_encrypts)
    found = "none: anyone on the way can read and change what is sent"
    if session.has_tls:
        found = f"TLS, with sslmode={session.sslmode}: nothing proves that this is the right server"
    advice = "give sslmode=verify-full, and as sslrootcert the certificate of its authority, or `system`"
    return ProbeResult("encryption", _WARNING, found, advice)


def _is_local(address: str) -> bool:
    try:
        return not address or ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def role(found: Role) -> ProbeResult:
    """Judge whether the server accepts writes."""
    advice = "name the primary, or list all servers with target_session_attrs=read-write"
    if found.is_standby:
        return ProbeResult("role", _WARNING, "a standby: it accepts no writes, and answers with the past", advice)
    if found.is_read_only:
        told = "a primary, but sessions of this user accept no writes (default_transaction_read_only is on)"
        return ProbeResult("role", _WARNING, told, f"turn it off, or {advice}")
    return ProbeResult("role", _OK, "a primary: it accepts writes")


def tables(found: Tables | Unknown, version: int | ManifestError | None) -> ProbeResult:
    """Judge whether the tables are those of this program; `version` is None if the user may not read it."""
    newest = len(schema.STEPS)
    if isinstance(version, NewerFormatError):
        told = f"version {version.found}, and this program knows {newest}"
        return ProbeResult("tables", _FAILED, told, "upgrade manifestlog")
    if isinstance(version, ManifestError):
        return _refused("tables", version)
    if version is None:
        many = found.number if isinstance(found, Tables) else "some"
        return ProbeResult("tables", _OK, f"there are {many}; this user may not read their version")
    if not version:
        return ProbeResult("tables", _OK, "none yet: `manifestlog init`, or the first copy, makes them")
    if version < newest:
        told = f"version {version}, and this program needs {newest}"
        return ProbeResult(
            "tables", _FAILED, told, "run `manifestlog init` as their owner, which brings them up to date"
        )
    return ProbeResult("tables", _OK, f"version {version}, that of this program")


def rights(found: Tables) -> ProbeResult:
    """Judge what this user may do."""
    if not found.number:
        if found.may_create or (found.may_make_schema and not found.has_schema):
            return ProbeResult("rights", _OK, "this user may make the tables")
        advice = "let the owner of the schema run `manifestlog init`, or copy a manifest here"
        return ProbeResult("rights", _WARNING, "this user may not make the tables", advice)
    if not (found.may_use and found.may_read):
        advice = (
            "GRANT USAGE ON SCHEMA manifestlog, and SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA manifestlog"
        )
        return ProbeResult("rights", _FAILED, "this user may not read all tables", f"ask their owner: {advice}")
    if not found.may_write:
        advice = (
            "fine for a user who only reads; otherwise ask the owner of the tables: GRANT INSERT, UPDATE, DELETE ON ALL"
            " TABLES IN SCHEMA manifestlog"
        )
        return ProbeResult("rights", _WARNING, "this user may read, and not write", advice)
    return ProbeResult("rights", _OK, "this user may read and write")


def synchronous_commit(commits: Commits) -> ProbeResult:
    """Judge what an acknowledged addition survives."""
    level, test = commits.level, "synchronous_commit"
    if level == "off":
        level = "on"
        found = "off for this user; additions that must survive a power cut turn it on for themselves"
    elif level in ("on", "remote_apply"):
        found = f"{level}: what is acknowledged is on the disk"
    else:
        found = f"{level}: what is acknowledged is on the disk of this server"
    if not commits.standbys:
        return ProbeResult(test, _OK, found)
    if level in ("on", "remote_apply"):
        return ProbeResult(test, _OK, f"{found}, and on that of a standby")
    advice = "ALTER ROLE … SET synchronous_commit = 'on'"
    return ProbeResult(test, _WARNING, f"{found}, and not yet safe on a standby: a promotion may lose it", advice)


def setting(name: str, value: str) -> ProbeResult:
    """Judge a setting that must be on."""
    if value == "on":
        return ProbeResult(name, _OK, "on")
    return ProbeResult(name, _FAILED, f"{value}: a power cut may damage the database", f"turn {name} on")


def standbys(server: Role, commits: Commits, found: Sequence[Standby]) -> ProbeResult:
    """Judge whether the standbys keep up, and whether additions wait for one that is not there."""
    if server.is_standby:
        return ProbeResult("standbys", _OK, "this is one; ask the primary")
    is_hidden = any(one.sync_state is None for one in found)
    answers = is_hidden or any(one.sync_state in ("sync", "quorum") for one in found)
    if commits.standbys and not answers and commits.level != "local":
        what = f"none of {commits.standbys} (synchronous_standby_names) follows: each addition waits"
        return ProbeResult("standbys", _FAILED, what, "start a standby, or empty synchronous_standby_names")
    if not found:
        return ProbeResult("standbys", _OK, "none: backups alone protect against the loss of this server")
    if is_hidden:
        return ProbeResult("standbys", _OK, f"{len(found)}, whose lag this user may not see: {_MONITOR}")
    late = [one for one in found if (one.lag_s or 0) > _LAG_S or (one.lag_bytes or 0) > _LAG_BYTES]
    shown = ", ".join(_standby(one) for one in late or found)
    if late:
        return ProbeResult("standbys", _WARNING, f"behind: {shown}", "look at its disk, its network and its log")
    return ProbeResult("standbys", _OK, shown)


def _standby(one: Standby) -> str:
    return f"{one.name} ({one.sync_state}), {one.lag_s or 0:.1f} s and {(one.lag_bytes or 0) / 1e6:,.1f} MB behind"


def open_transactions(found: Sequence[Open], *, sees_all: bool | Unknown) -> ProbeResult:
    """Judge whether some transaction keeps the server from removing what is out of date."""
    test = "open transactions"
    unseen = "" if sees_all is True else f"; those of other users are not shown: {_MONITOR}"
    if isinstance(sees_all, Unknown):
        unseen = "; whether those of other users are shown is not known here"
    old = [one for one in found if one.age_s > _OLD_S]
    if old:
        more = f" and {len(old) - 1} more" if len(old) > 1 else ""
        told = f"{old[0].who} has one open for {old[0].age_s / 3600:,.1f} h{more}: tables grow until it ends"
        return ProbeResult(test, _WARNING, told, "end it: commit or roll back, or pg_terminate_backend")
    return ProbeResult(test, _OK, f"none is older than an hour{unseen}")


def connections(user: str, room: Room) -> ProbeResult:
    """Judge whether there is room for a run."""
    used, limit, whose = room.used, room.limit, ""
    if room.of_user_max >= 0 and room.of_user_max - room.of_user < limit - used:
        used, limit, whose = room.of_user, room.of_user_max, f" of user {user}"
    found = f"{used:,} of {limit:,}{whose} are used; a run with 2 jobs has up to {_SESSIONS_OF_A_RUN}"
    if limit - used >= _SESSIONS_OF_A_RUN:
        return ProbeResult("connections", _OK, found)
    what = "the user's CONNECTION LIMIT" if whose else "max_connections"
    return ProbeResult("connections", _WARNING, found, f"raise {what}, or put a pooler in front of the server")


def clock(round_trip_s: float, ahead_s: float) -> ProbeResult:
    """Judge whether this host and the server agree on the time."""
    if abs(ahead_s) > CLOCK_SLACK_S + round_trip_s / 2:
        found = f"this host's clock is {abs(ahead_s):,.1f} s {'ahead of' if ahead_s > 0 else 'behind'} the server's"
        advice = "synchronise both by NTP; who may register does not depend on it, but times in records do"
        return ProbeResult("clock", _WARNING, found, advice)
    return ProbeResult("clock", _OK, f"this host and the server agree within {CLOCK_SLACK_S:g} s")


def session_locks(*, are_real: bool, has_sessions: bool) -> ProbeResult:
    """Judge whether the server tells that a process is gone."""
    if are_real:
        return ProbeResult("session locks", _OK, "they exclude others, so the claims of a killed run are free at once")
    why = "the server grants them to everybody, or to nobody" if has_sessions else "a pooler shares the sessions"
    advice = "fine if that is soon enough; otherwise connect to the server itself"
    return ProbeResult(
        "session locks", _WARNING, f"not real: {why}, so the claims of a killed run are free after a minute", advice
    )
