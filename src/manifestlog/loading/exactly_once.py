"""Loads a content exactly once: its rows, and the mark that they exist, are one transaction of the target.

Invariants:

- The mark is begun before the first row, and ended after the last one. So a second loader waits or learns that the
  content is loaded, and a transaction that was aborted or committed midway is noticed.
- Nothing is committed unless the block ends without an error.
- After any crash, the target alone shows whether a content is loaded; no manifest is needed.

It does not repeat the block: its caller decides that.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from manifestlog.loading import marks
from manifestlog.loading.errors import HalfLoadedError, LoadError
from manifestlog.loading.marks import TABLE, Key, Mark
from manifestlog.loading.targets import Connection, Target, target_of
from manifestlog.loading.transactions import WAIT_S, OvertakenError, begin, read, rollback, transaction, write
from manifestlog.model.rows import required_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator


class HasChecksum(Protocol):
    """A record or an item: anything with a `checksum`."""

    @property
    def checksum(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Load:
    """What `once` passes to its block. It is true if the block must write the rows."""

    stage: str
    checksum: str
    version: str
    is_first: bool
    """Whether this version has not loaded the content yet, so that the block must write its rows."""
    previous: Mark | None
    """The load that the target knows. If `is_first`, another version made it, and the block must replace its rows."""

    def __bool__(self) -> bool:
        return self.is_first


@contextmanager
def once(
    connection: Connection,
    content: str | HasChecksum | Iterable[str],
    *,
    stage: str,
    version: str,
    table: str = TABLE,
    paramstyle: str | None = None,
    wait_s: float = WAIT_S,
) -> Iterator[Load]:
    """Run a block in a transaction that also writes a mark, so that a content is loaded exactly once.

    `content` is a checksum, something with a `checksum`, or several checksums that are loaded together. The mark is a row
    of `table` in the target, which is created if it is missing. The transaction is committed when the block ends, and
    rolled back if it raises. If this version has loaded the content already, `is_first` is false and no transaction is
    open. If another version has, `previous` names it, and the block must replace its rows. `once` waits for another
    loader of the same content: at most `wait_s` seconds, unless the target itself waits, as PostgreSQL does.

    The connection must have no transaction open, and the block must neither commit nor roll back. `paramstyle` is needed
    only for a driver that does not state its own. On return the rows are as durable as the target's commits.
    Raises `LoadError`, with nothing written; `HalfLoadedError` if an earlier block committed before its end; `TypeError`
    and `ValueError` for a wrong argument. Errors of the block and of its commit are the driver's own.
    """
    target = target_of(connection, paramstyle)
    key = Key(marks.checked_table(table), _named(stage, "stage"), checksum_of(content))
    load = _decided(key, read(target, table, lambda: marks.find(target, key)), _named(version, "version"))
    if load.is_first:
        load = write(target, table, lambda: _begun(target, key, version), wait_s)
    if not load.is_first:
        yield load
        return
    try:
        yield load
        _end(target, key, version)
    except BaseException:
        rollback(target)
        raise
    _commit(target, key, version)


def loads(
    connection: Connection, *, stage: str | None = None, table: str = TABLE, paramstyle: str | None = None
) -> list[Mark]:
    """Return the marks in the target, of this stage or of all, sorted by stage and checksum. Raises as `once`."""
    target = target_of(connection, paramstyle)
    marks.checked_table(table)
    return read(target, table, lambda: list(marks.find_all(target, table, stage)))


def forget(
    connection: Connection,
    content: str | HasChecksum | Iterable[str],
    *,
    stage: str,
    table: str = TABLE,
    paramstyle: str | None = None,
) -> bool:
    """Remove the mark of a content, so that it is loaded again, and return whether there was one. Raises as `once`.

    Remove its rows first, because the next load does not know that there was an earlier one.
    """
    target = target_of(connection, paramstyle)
    key = Key(marks.checked_table(table), stage, checksum_of(content))
    if read(target, table, lambda: marks.find(target, key)) is None:
        return False

    def remove() -> bool:
        with transaction(target, table, write=True):
            return marks.remove(target, key)

    return write(target, table, remove)


def checksum_of(content: str | HasChecksum | Iterable[str]) -> str:
    """Return the checksum that stands for a content, or for several: then it is made of theirs, in any order."""
    if isinstance(content, str):
        return required_checksum(content)
    one = getattr(content, "checksum", None)
    if isinstance(one, str):
        return required_checksum(one)
    if not isinstance(content, Iterable):
        raise TypeError(f"{type(content).__name__} names no content: give a checksum, or something that has one")
    several = sorted({required_checksum(each) for each in content})
    if not several:
        raise ValueError("no content: give at least one checksum")
    return several[0] if len(several) == 1 else sha256("\n".join(several).encode()).hexdigest()


def _named(text: str, what: str) -> str:
    if not text or len(text) > marks.CHARACTERS_MAX:
        raise ValueError(f"{text!r:.80} is no {what}: expected 1 to {marks.CHARACTERS_MAX} characters")
    return text


# -- the mark ----------------------------------------------------------------------------------------------------------


def _decided(key: Key, found: Mark | None, version: str) -> Load:
    """Return what a mark means for this version. Raises `HalfLoadedError`."""
    if found is not None and found.loaded_at is None:
        raise HalfLoadedError(key.table, key.stage, key.checksum)
    return Load(key.stage, key.checksum, version, found is None or found.version != version, found)


def _begun(target: Target, key: Key, version: str) -> Load:
    """Begin the transaction with the mark, and leave it open; roll it back if the content is loaded already."""
    begin(target, key.table, write=True)
    try:
        load = _decided(key, marks.find(target, key), version)
        if load.is_first:
            _mark(target, key, load)
    except BaseException:
        rollback(target)
        raise
    if not load.is_first:
        target.rollback()
    return load


def _mark(target: Target, key: Key, load: Load) -> None:
    """Write the mark. Raises `OvertakenError` if another loader has, since it was read."""
    if load.previous is None:
        is_ours = marks.begin(target, key, load.version)
    else:
        is_ours = marks.supersede(target, key, load.previous.version, load.version)
    if not is_ours:
        raise OvertakenError


def _end(target: Target, key: Key, version: str) -> None:
    try:
        there = marks.end(target, key, version)
    except Exception as error:
        reason = f"the transaction cannot be ended ({error})"
        advice = "an error that the block has swallowed aborts its transaction: let it leave the block"
        raise LoadError(key.table, reason, advice) from error
    if not there:
        reason = f"the mark of {key.checksum} by {key.stage} is gone before the end of its load"
        raise LoadError(key.table, reason, "neither roll back nor touch this table inside of the block")


def _commit(target: Target, key: Key, version: str) -> None:
    try:
        target.commit()
    except Exception:
        rollback(target)
        # DuckDB says only here that another loader came first. Ours is rolled back then, and the content is loaded.
        with suppress(Exception):
            if not _decided(key, read(target, key.table, lambda: marks.find(target, key)), version).is_first:
                return
        raise
