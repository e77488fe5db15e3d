"""Locations: `postgresql://[user@]host[:port]/[database/]manifest[?libpq parameters]`.

Invariants:

- A location contains no secret. Passwords come from libpq's own places: a password file, a service, the environment.
- Its text can be opened again, in another process or on another host.

It makes no connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode

from manifestlog.engines.protocol import Location
from manifestlog.names import check_name, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_BYTES_MAX = 200
_SCHEMES = ("postgresql://", "postgres://")
_HIDDEN = frozenset({"password", "sslpassword"})
_REFUSED = (
    "a location holds no password, because messages and process lists show it:"
    " put the password into ~/.pgpass, a service file or PGPASSWORD"
)


def locate(text: str) -> Location:
    """Return the location of this text. Raises `ValueError` for a bad manifest name and for a password."""
    rest = text[next(len(scheme) for scheme in _SCHEMES if text.lower().startswith(scheme)) :]
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    parameters = parse_qsl(query, keep_blank_values=True)
    user = authority.rpartition("@")[0]
    if ":" in user or any(name.lower() in _HIDDEN for name, _ in parameters):
        raise ValueError(f"postgresql://{_without_password(authority)}/{path}: {_REFUSED}")
    database, _, name = path.rpartition("/")
    if len(name) > NAME_BYTES_MAX:
        raise ValueError(f"{name:.40}…: the name has {len(name)} characters; a manifest's may have {NAME_BYTES_MAX}")
    shown = _text(authority, unquote(database), check_name(name), sorted(parameters))
    return Location(shown, shown, name, "/")


def of_database(url: str) -> Location:
    """Return a location for what concerns the database at this URL, and no single manifest: messages name the database."""
    found = locate(joined(url, "any_manifest"))
    return found._replace(display=connection_text(found))


def connection_text(location: Location) -> str:
    """Return the connection URI for libpq."""
    rest, _, query = location.key.partition("?")
    return rest[: -len(location.name) - 1] + (f"?{query}" if query else "")


def _text(authority: str, database: str, name: str, parameters: Iterable[tuple[str, str]]) -> str:
    host = authority.removesuffix(":5432")
    path = "/".join([quote(database, safe=""), name] if database else [name])
    query = urlencode(list(parameters), quote_via=quote, safe="/:,")
    return f"postgresql://{host}/{path}" + (f"?{query}" if query else "")


def _without_password(authority: str) -> str:
    user, at, host = authority.rpartition("@")
    return user.partition(":")[0] + at + host
