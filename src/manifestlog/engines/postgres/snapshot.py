"""A snapshot: one REPEATABLE READ transaction that reads the manifest as it was when it began.

Invariants:

- It holds a connection until nothing refers to it any more. Threads take turns.
- It does not survive its connection: a lost connection is an error, because another one would show another moment.
"""

from __future__ import annotations

import threading
import weakref
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import psycopg

from manifestlog.engines.postgres import failures, lookup, reading
from manifestlog.engines.postgres.lookup import Known
from manifestlog.engines.postgres.values import moment
from manifestlog.model import codec
from manifestlog.server_errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manifestlog.engines.postgres.connections import Pool
    from manifestlog.engines.postgres.reading import Feed
    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.errors import ManifestError
    from manifestlog.model.rows import Row, Sighting

T = TypeVar("T")

_PAGE_RECORDS = 2000
_CONTAINING = """
    SELECT checksum, body FROM manifestlog.content
    WHERE manifest_id = %s AND EXISTS (SELECT 1 FROM unnest(%b::bytea[]) AS t(text) WHERE position(t.text IN body) > 0)"""
_PAGE = """
    SELECT checksum, body FROM manifestlog.content WHERE manifest_id = %s AND checksum > %b ORDER BY checksum LIMIT %s"""
_CHECKSUMS = (
    "SELECT checksum FROM manifestlog.content WHERE manifest_id = %s AND checksum > %b ORDER BY checksum LIMIT %s"
)


class PostgresSnapshot:
    """The manifest at one moment."""

    def __init__(self, pool: Pool, manifest_id: int) -> None:
        self._pool = pool
        self._id = manifest_id
        self._turn = threading.RLock()
        self._slot, self.end, self.metadata = pool.call(self._begin)
        weakref.finalize(self, pool.take_back, self._slot)

    def _begin(self, slot: Slot) -> tuple[Slot, Feed, Row]:
        location = self._pool.location
        with slot.script():
            slot.send(reading.SNAPSHOT)
            slot.send(reading.PATIENCE)
            end, metadata = slot.send(reading.FEED, self._id), slot.send(reading.METADATA, self._id)
        found = reading.feed_in(end.rows, location), reading.metadata_in(metadata.rows, location)
        self._pool.keep(slot)
        return slot, *found

    def ask(self, act: Callable[[Slot], T]) -> T:
        """Call `act` with the transaction of this snapshot."""
        with self._turn:
            try:
                return act(self._slot)
            except psycopg.Error as error:
                raise self._error(error) from error

    def _error(self, error: psycopg.Error) -> ManifestError:
        display = self._pool.location.display
        if not failures.is_lost(error):
            return failures.of_statement(self._pool.location, error, self._pool.timeout_s)
        return ServerError(
            display,
            "the connection of a snapshot is lost",
            "take a new one; another connection would show another moment",
        )

    @property
    def _known(self) -> Known:
        return Known(self._slot, self._id)

    def __len__(self) -> int:
        return self.end.records

    def checksums(self) -> Iterator[str]:
        last = b""
        while True:
            found = self.ask(lambda slot, last=last: slot.rows(_CHECKSUMS, self._id, last, 4 * _PAGE_RECORDS))  # type: ignore[misc] # mypy cannot infer it
            yield from (digest.hex() for (digest,) in found)
            if len(found) < 4 * _PAGE_RECORDS:
                return
            last = found[-1][0]

    def encoded(self, checksum: str) -> bytes | None:
        return self.ask(lambda _: self._known.encoded(checksum))

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        last = b""
        while True:
            found = self.ask(lambda slot, last=last: slot.rows(_PAGE, self._id, last, _PAGE_RECORDS))  # type: ignore[misc] # mypy cannot infer it
            if found:
                yield [(digest.hex(), body) for digest, body in found]
            if len(found) < _PAGE_RECORDS:
                return
            last = found[-1][0]

    def records(self) -> Iterator[tuple[str, bytes]]:
        return chain.from_iterable(self.batches())

    def containing(self, texts: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        found = self.ask(lambda slot: slot.rows(_CONTAINING, self._id, list(texts)))
        return ((digest.hex(), body) for digest, body in found)

    def rows(self) -> Iterator[Row]:
        return chain.from_iterable(codec.loads_all(raw for _, raw in some) for some in self.batches())

    def may_differ(self, other: object) -> Iterator[str] | None:
        del other
        return None

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        return self.ask(lambda slot: lookup.latest(slot, self._id, source_id, dataset))

    def newest(self, until: str) -> str | None:
        found = self.ask(lambda _: self._known.newest(until))
        return None if found is None else moment(found)

    def sightings(self, source_id: str) -> list[Sighting]:
        """Return every sighting of a source, the latest first."""
        return self.ask(lambda _: list(self._known.sightings(source_id)))

    # -- the `TimeLookup` protocol ---------------------------------------------------------------------------------------

    def might_know(self, checksum: str, source_id: str) -> bool:
        return self.row(checksum) is not None or bool(self.sightings(source_id))

    def row(self, checksum: str) -> Row | None:
        return self.ask(lambda _: self._known.row(checksum))

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        return self.ask(lambda _: self._known.recent(source_id, dataset, moment))

    def latest_until(self, source_id: str, dataset: str, moment: str) -> Sighting | None:
        return self.ask(lambda _: self._known.latest_until(source_id, dataset, moment))

    def later_than(self, moment: str) -> Iterator[Row]:
        return iter(self.ask(lambda _: list(self._known.later_than(moment))))
