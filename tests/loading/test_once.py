"""Each content is loaded exactly once, on every database and by every way to it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import record, sha
from loading.databases import ROWS, Database, expected
from manifestlog import HalfLoadedError, LoadError, loading

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.loading import Load

A, B = sha("a"), sha("b")


class _BlockError(Exception):
    pass


def fail(connection: Any, work: Callable[[], object], version: str = "1") -> None:
    """A load whose block does this, and then fails."""

    def block() -> None:
        with loading.once(connection, A, stage="warehouse", version=version):
            work()
            raise _BlockError

    with pytest.raises(_BlockError):
        block()


def load(warehouse: Database, connection: Any, content: Any = A, version: str = "1", rows: range = range(ROWS)) -> Load:
    with loading.once(connection, content, stage="warehouse", version=version) as first:
        if first:
            warehouse.insert(connection, first.checksum, version, rows)
    return first


def test_the_first_load_writes_its_rows(warehouse: Database, connection: Any) -> None:
    assert load(warehouse, connection)
    connection.close()
    assert warehouse.prices() == expected(A)


def test_the_second_load_is_told_that_the_content_is_there(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    second = load(warehouse, connection)
    assert (bool(second), second.previous and second.previous.version) == (False, "1")


def test_the_rows_are_there_once(warehouse: Database, connection: Any) -> None:
    for _ in range(3):
        load(warehouse, connection)
    connection.close()
    assert warehouse.prices() == expected(A)


def test_a_new_connection_knows_what_is_loaded(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    connection.close()
    later = warehouse.connect()
    assert not load(warehouse, later)
    later.close()


def test_another_content_is_loaded_beside_it(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    assert load(warehouse, connection, B)
    connection.close()
    assert warehouse.prices(B) == expected(B)


def test_another_stage_loads_the_same_content(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    with loading.once(connection, A, stage="mart", version="1") as first:
        assert first


def test_an_error_in_the_block_leaves_no_row(warehouse: Database, connection: Any) -> None:
    fail(connection, lambda: warehouse.insert(connection, A))
    connection.close()
    assert warehouse.prices() == []


def test_after_an_error_in_the_block_the_next_load_is_the_first(warehouse: Database, connection: Any) -> None:
    fail(connection, lambda: warehouse.insert(connection, A))
    assert load(warehouse, connection)
    connection.close()
    assert warehouse.prices() == expected(A)


def test_an_error_of_the_database_reaches_the_caller_as_it_is(warehouse: Database, connection: Any) -> None:
    with pytest.raises(Exception, match="no_such_table") as raised, loading.once(connection, A, stage="s", version="1"):
        warehouse.execute(connection, "INSERT INTO no_such_table VALUES (1)")
    assert not isinstance(raised.value, LoadError)


def test_another_version_is_told_what_it_supersedes(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    second = load(warehouse, connection, version="2")
    assert (bool(second), second.previous and second.previous.version) == (True, "1")


def test_another_version_replaces_the_rows_in_one_transaction(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    with loading.once(connection, A, stage="warehouse", version="2") as first:
        assert first.previous is not None
        warehouse.execute(connection, "DELETE FROM prices WHERE checksum = ?", A)
        warehouse.insert(connection, A, "2")
    connection.close()
    assert warehouse.prices() == expected(A, "2")


def test_a_failed_replacement_leaves_the_rows_of_the_version_before(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    fail(connection, lambda: warehouse.execute(connection, "DELETE FROM prices WHERE checksum = ?", A), "2")
    assert not load(warehouse, connection)
    connection.close()
    assert warehouse.prices() == expected(A)


def test_the_mark_states_when_the_load_ended(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    (mark,) = loading.loads(connection)
    assert mark.loaded_at is not None
    assert abs(datetime.now(UTC) - mark.loaded_at) < timedelta(minutes=1)


def test_the_loads_of_a_stage_are_listed(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    load(warehouse, connection, B)
    with loading.once(connection, A, stage="mart", version="7"):
        pass
    listed = [(mark.stage, mark.checksum, mark.version) for mark in loading.loads(connection, stage="warehouse")]
    assert listed == sorted([("warehouse", A, "1"), ("warehouse", B, "1")])
    assert len(loading.loads(connection)) == 3


def test_a_forgotten_content_is_loaded_again(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    assert loading.forget(connection, A, stage="warehouse")
    assert load(warehouse, connection)


def test_forgetting_what_is_not_there_says_so(warehouse: Database, connection: Any) -> None:
    assert not loading.forget(connection, A, stage="warehouse")


def test_a_record_stands_for_its_content(warehouse: Database, connection: Any) -> None:
    assert load(warehouse, connection, record("a")).checksum == A


def test_several_contents_are_loaded_together_in_any_order(warehouse: Database, connection: Any) -> None:
    assert load(warehouse, connection, [A, B])
    assert not load(warehouse, connection, [B, A])


def test_more_contents_are_anotherload(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection, [A, B])
    assert load(warehouse, connection, [A, B, sha("c")])


def test_an_error_that_the_block_swallows_commits_all_or_nothing(warehouse: Database, connection: Any) -> None:
    """In DuckDB and PostgreSQL it has aborted the transaction; SQLite only takes back the one statement."""
    refused: list[LoadError] = []
    try:
        with loading.once(connection, A, stage="warehouse", version="1"):
            warehouse.insert(connection, A)
            with suppress(Exception):
                warehouse.execute(connection, "INSERT INTO no_such_table VALUES (1)")
    except LoadError as error:
        refused.append(error)
    connection.close()
    assert warehouse.prices() == ([] if refused else expected(A))
    assert all("swallowed" in str(error) for error in refused)


def test_a_block_that_commits_midway_is_noticed_if_it_does_not_end(warehouse: Database, connection: Any) -> None:
    fail(connection, lambda: _commit(warehouse, connection, after=range(2)))
    with pytest.raises(HalfLoadedError, match="some of its rows may be there"):
        load(warehouse, connection)


def test_a_half_load_is_loaded_again_after_it_is_forgotten(warehouse: Database, connection: Any) -> None:
    fail(connection, lambda: _commit(warehouse, connection))
    loading.forget(connection, A, stage="warehouse")
    assert load(warehouse, connection)


def test_a_block_that_rolls_back_is_told(warehouse: Database, connection: Any) -> None:
    with pytest.raises(LoadError, match="gone before the end"), loading.once(connection, A, stage="s", version="1"):
        _end(warehouse, connection, "rollback")


def test_another_table_can_hold_the_marks(warehouse: Database, connection: Any) -> None:
    with loading.once(connection, A, stage="warehouse", version="1", table="our_marks"):
        pass
    assert warehouse.execute(connection, "SELECT COUNT(*) AS n FROM our_marks").fetchall()


def test_a_table_of_another_shape_is_refused(warehouse: Database, connection: Any) -> None:
    warehouse.execute(connection, "CREATE TABLE manifestlog_loads (number INTEGER)")
    _commit(warehouse, connection)
    with pytest.raises(LoadError, match="not a table of loads"):
        load(warehouse, connection)


def test_a_table_without_its_key_is_refused(warehouse: Database, connection: Any) -> None:
    if "pg8000" in type(connection).__module__:
        pytest.skip("PEP 249 has no statement that shows it")
    warehouse.execute(
        connection,
        "CREATE TABLE manifestlog_loads (stage VARCHAR(9), checksum VARCHAR(64), version VARCHAR(9), loaded_at VARCHAR(40))",
    )
    _commit(warehouse, connection)
    with pytest.raises(LoadError, match="PRIMARY KEY"):
        load(warehouse, connection)
    connection.close()
    assert warehouse.prices() == []


def _commit(warehouse: Database, connection: Any, after: range = range(0)) -> None:
    warehouse.insert(connection, A, rows=after)
    _end(warehouse, connection, "commit")


def _end(warehouse: Database, connection: Any, how: str) -> None:
    if getattr(connection, "autocommit", None) is not True:
        getattr(connection, how)()
    else:
        warehouse.execute(connection, how.upper())
