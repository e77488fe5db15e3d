"""The records of a manifest as a read-only mapping, which converts each record to a model on access.

Invariants:

- `[]`, `in`, `get` and `len` answer for the current state.
- An iteration shows the manifest as it was at its start, even if records are added, forgotten or compacted meanwhile.
- So does a copy: `dict(…)` and `{**…}` first take all keys, then get each record by `[]`. A thread that takes the keys
  and then asks for them in their order gets the records as of the time when it took the keys.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from threading import get_ident
from typing import TYPE_CHECKING, Any

from manifestlog.model import codec
from manifestlog.model.models import ManifestRecord, record_from_row, record_from_stored
from manifestlog.model.rows import normal_checksum

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Engine


def iterate(engine: Engine) -> Iterator[tuple[str, ManifestRecord]]:
    """Yield every (checksum, record) of the current state, sorted by checksum."""
    for row in engine.snapshot().rows():
        yield row["checksum"], record_from_stored(row)


class _Moment:
    """A snapshot that hands out its keys, and then answers for its records in the same order."""

    def __init__(self, engine: Engine, *, lasting: bool) -> None:
        self.lasting = lasting
        """Whether it stays in use after its last key, until every record has been requested."""
        self._frozen = engine.snapshot()
        self._checksums = self._frozen.checksums()
        self._expected: Iterator[str] | None = None
        self._next: str | None = None
        self._given: str | None = None

    def keys(self) -> Iterator[str]:
        for checksum in self._checksums:
            self._given = checksum
            yield checksum
        self._given = None

    def expects(self, checksum: str) -> bool:
        """Return whether this is the key handed out last, or the next key in order."""
        if self._expected is None:
            self._expected = self._frozen.checksums()
            self._next = next(self._expected, None)
        if checksum == self._next:
            self._next = next(self._expected, None)
            return True
        return checksum == self._given

    @property
    def over(self) -> bool:
        return self._expected is not None and self._next is None and self._given is None

    def record(self, checksum: str) -> ManifestRecord | None:
        raw = self._frozen.encoded(checksum)
        return None if raw is None else record_from_row(codec.loads(raw))


class Records(Mapping[str, ManifestRecord]):
    """Checksum → record."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._moments: dict[int, list[_Moment]] = {}

    def __getitem__(self, checksum: str) -> ManifestRecord:
        key = normal_checksum(checksum)
        record = (self._of_a_moment(key) or self._of_now(key)) if key else None
        if record is None:
            raise KeyError(checksum)
        return record

    def _of_now(self, key: str) -> ManifestRecord | None:
        row = self._engine.get(key)
        return None if row is None else record_from_row(row)

    def _of_a_moment(self, key: str) -> ManifestRecord | None:
        moments = self._moments.get(get_ident()) if self._moments else None
        for moment in reversed(moments or ()):
            if moment.expects(key):
                if moments and moment.lasting and moment.over:
                    moments.remove(moment)
                return moment.record(key)
        return None

    def get(self, checksum: str, default: Any = None) -> Any:
        """Return the current record, or `default`."""
        key = normal_checksum(checksum)
        record = self._of_now(key) if key else None
        return default if record is None else record

    def __contains__(self, checksum: object) -> bool:
        key = normal_checksum(checksum)
        return key is not None and self._engine.has(key)

    def __len__(self) -> int:
        return self._engine.count()

    def __iter__(self) -> Iterator[str]:
        return self._while_it_runs(_Moment(self._engine, lasting=False))

    def _while_it_runs(self, moment: _Moment) -> Iterator[str]:
        thread = get_ident()
        self._moments.setdefault(thread, []).append(moment)
        try:
            yield from moment.keys()
        finally:
            self._moments[thread].remove(moment)

    def keys(self) -> KeysView[str]:
        return _Keys(self)

    def copied_keys(self) -> Iterator[str]:
        """Yield the keys for `keys()`. After the last key, `[]` still answers from the same snapshot."""
        moment = _Moment(self._engine, lasting=True)
        # Keep only the newest, so that callers that never ask for all records keep one snapshot in memory.
        moments = self._moments.setdefault(get_ident(), [])
        moments[:] = [*(one for one in moments if not one.lasting), moment]
        return moment.keys()

    def items(self) -> ItemsView[str, ManifestRecord]:
        return _Items(self)

    def values(self) -> ValuesView[ManifestRecord]:
        return _Values(self)

    def pairs(self) -> Iterator[tuple[str, ManifestRecord]]:
        """Yield the pairs for `items()`."""
        return iterate(self._engine)

    def __repr__(self) -> str:
        return f"<records of {self._engine.location.display}>"


class _Keys(KeysView[str]):
    _mapping: Records

    def __iter__(self) -> Iterator[str]:
        return self._mapping.copied_keys()


class _Items(ItemsView[str, ManifestRecord]):
    _mapping: Records

    def __iter__(self) -> Iterator[tuple[str, ManifestRecord]]:
        return self._mapping.pairs()


class _Values(ValuesView[ManifestRecord]):
    _mapping: Records

    def __iter__(self) -> Iterator[Any]:
        return (record for _, record in self._mapping.pairs())
