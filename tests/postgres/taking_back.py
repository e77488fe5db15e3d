"""A server that goes back to an earlier moment, as by the promotion of a standby that did not have the last events yet."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .places import Place

_TABLES = ("lane", "feed", "content", "sighting", "log", "mention", "writer", "follower")
"""All but claims: who has lost one hears so, which is another matter."""
_OF = "manifest_id = (SELECT manifest_id FROM manifestlog.manifest WHERE name = '{name}')"


@contextmanager
def moment(place: Place, *names: str) -> Iterator[Callable[[], None]]:
    """Yield what brings these manifests back to this moment: nobody has then written since."""
    of_these = " OR ".join(_OF.format(name=name) for name in names)
    copies = (f"CREATE TABLE moment.{table} AS SELECT * FROM manifestlog.{table} WHERE {of_these}" for table in _TABLES)
    place.execute("CREATE SCHEMA moment", *copies)

    def bring_back() -> None:
        removed = (f"DELETE FROM manifestlog.{table} WHERE {of_these}" for table in _TABLES)
        restored = (f"INSERT INTO manifestlog.{table} SELECT * FROM moment.{table}" for table in _TABLES)
        place.execute("; ".join(("BEGIN", *removed, *restored, "COMMIT")))

    try:
        yield bring_back
    finally:
        place.execute("DROP SCHEMA moment CASCADE")
