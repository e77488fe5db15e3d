"""Classifies errors of the server: whether to try again, and one line that says what to do.

Invariants:

- A message contains no secret: libpq's texts name servers, users and databases, and a location has no password.
- Every error of the driver leaves the engine as a `ManifestError`.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

import psycopg

from manifestlog.errors import TO_READ, DiskFullError, LockTimeoutError
from manifestlog.server_errors import CORRECT_LOCATION, ClaimLostError, ServerError, ServerUnavailableError

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Location
    from manifestlog.errors import ManifestError

_ENDED = frozenset(
    {
        "25P03",  # idle in transaction for too long: this process was stopped
        "25P04",  # in a transaction for too long: it was stopped inside a message
        "57P05",  # idle for too long
        "57P01",  # the server shuts down
        "57P02",  # another session crashed
    }
)
"""The server has ended the session."""
_AGAIN = frozenset(
    {
        "40001",  # serialization failure
        "40P01",  # deadlock
        "57P03",  # the server starts
        "53300",  # too many connections
    }
)
_STALE = "23502"
"""A `NOT NULL` that is violated if others have written meanwhile, or by a second try of one operation, or its first after it."""
_LOST = "08"
_CONNECTING_TEXT = re.compile(r"connection (?:failed|is bad)|invalid|missing|definition of service")
_STARTING = re.compile(
    r"starting up|shutting down|recovery mode|too many|remaining connection slots|not yet accepting", re.IGNORECASE
)
_UNREACHABLE = re.compile(
    r"refused|No such file|timeout|timed out|translate host|unreachable|closed|reset|EOF|terminat", re.IGNORECASE
)
_CONNECTING = (
    (r"^invalid (?:URI|percent|port|SSL protocol|\"?\w+\"? value)|^bad value for |^could not match ", CORRECT_LOCATION),
    (r"connection option|in URI|definition of service|service file", CORRECT_LOCATION),
    (r"password|authentication", "check the user, and the password in ~/.pgpass, the service file or PGPASSWORD"),
    (r'database ".*" does not exist', "create the database with `createdb`, or name another one"),
    (r'role ".*" does not exist', "create the role, or name another user"),
    (r"too many|connection slots", "end some sessions, raise max_connections, or put a pooler in front of the server"),
    (r"pg_hba.*(?<!no )encryption", "ask for an entry in the server's pg_hba.conf"),
    (r"SSL|certificate|TLS|no encryption", "give sslmode, sslrootcert, sslcert and sslkey as the server demands them"),
    (r"translate host|resolve", "correct the host"),
    (r"pg_hba", "ask for an entry in the server's pg_hba.conf"),
    (r"permission denied for database", "ask for the right: GRANT CONNECT ON DATABASE"),
    (r"session is read-only|not in hot standby|is not read-only", "name the server that accepts writes"),
    (r"starting up|shutting down|recovery", "wait until the server has started"),
    (r"", "start the server, or correct host and port"),
)
_STATEMENTS = {
    "42501": (
        "ask the owner of the schema for rights: GRANT USAGE ON SCHEMA manifestlog, and SELECT, INSERT, UPDATE, DELETE"
        " ON ALL TABLES IN SCHEMA manifestlog (SELECT is enough to read)"
    ),
    "25006": (
        "this server accepts no writes: name the primary, or list all servers with target_session_attrs=read-write"
        + TO_READ
    ),
    "57014": "the server or an administrator ended the statement: raise statement_timeout for this role",
    "3F000": "run `manifestlog init` to make the schema",
    "42P01": "another program has a schema of this name, or tables were removed: restore them from a backup",
    "42703": "another program has a schema of this name: use a database of its own for manifests",
    "53200": "the server is out of memory: look into its log",
}


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is gone, so that nobody knows what became of the last statements."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] == _LOST or state in _ENDED


def is_stale(error: psycopg.Error) -> bool:
    """Return whether the server found that what the statement was sent for is no longer so."""
    return error.sqlstate == _STALE


def may_retry(error: psycopg.Error) -> bool:
    """Return whether the same call can succeed later without anybody changing something."""
    state = error.sqlstate
    if state is None:
        text = str(error)
        if _CONNECTING_TEXT.match(text):  # not every server that refuses would accept later
            return bool(_STARTING.search(text) or _UNREACHABLE.search(text))
        return is_lost(error)
    return state in _AGAIN or is_lost(error) or is_stale(error)


def while_connecting(location: Location, error: psycopg.Error) -> ManifestError:
    """Return the error of an opening that got no connection."""
    text = line(error)
    advice = next(advice for pattern, advice in _CONNECTING if re.search(pattern, text, re.IGNORECASE))
    return ServerError(location.display, f"no connection: {text}", advice)


def of_statement(location: Location, error: psycopg.Error, timeout_s: float) -> ManifestError:
    """Return the error of a statement that failed for good."""
    state = error.sqlstate or ""
    if state == "22012":
        return ClaimLostError(location.display)
    if state == "55P03":
        return LockTimeoutError(location.display, timeout_s, "another session of the server")
    if state == "53100":
        return DiskFullError(location.display, OSError(errno.ENOSPC, f"the server's disk is full ({line(error)})"))
    if may_retry(error):
        return ServerUnavailableError(location.display, timeout_s, line(error))
    if not state:
        return while_connecting(location, error)
    return ServerError(location.display, line(error), _STATEMENTS.get(state, "look into the server's log"))


def line(error: psycopg.Error) -> str:
    """Return the first line of what the server or libpq said, without libpq's list of what it tried."""
    text = (error.diag.message_primary or str(error) or type(error).__name__).strip()
    first = text.splitlines()[0]
    return re.sub(r"^connection (?:failed|is bad): ", "", first)
