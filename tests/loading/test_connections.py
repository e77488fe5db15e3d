"""Every way to open a connection: transactions by hand, autocommit, other classes of rows, other drivers."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from contract.builders import sha
from loading.databases import WAYS, Database, database, expected
from loading.test_once import A, B, fail, load
from manifestlog import LoadError, loading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=WAYS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with database(request.param, tmp_path, lambda: request.getfixturevalue("postgres_server")) as found:
        yield found


def test_a_load_is_committed_when_its_block_ends(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    connection.close()
    assert warehouse.prices() == expected(A)


def test_a_load_is_rolled_back_if_its_block_fails(warehouse: Database, connection: Any) -> None:
    fail(connection, lambda: warehouse.insert(connection, A))
    assert load(warehouse, connection)
    connection.close()
    assert warehouse.prices() == expected(A)


def test_a_connection_serves_many_loads(warehouse: Database, connection: Any) -> None:
    found = [bool(load(warehouse, connection, one)) for one in (A, B, A, B, sha("c"))]
    assert found == [True, True, False, False, True]


def test_a_new_version_is_told_the_one_before(warehouse: Database, connection: Any) -> None:
    load(warehouse, connection)
    previous = load(warehouse, connection, version="2").previous
    assert previous is not None
    assert previous.version == "1"


def test_an_open_transaction_is_refused(warehouse: Database, connection: Any) -> None:
    if getattr(connection, "autocommit", None) is False and "sqlite3" in type(connection).__module__:
        pytest.skip("its transaction is always open")
    if "pg8000" in type(connection).__module__:
        pytest.skip("PEP 249 has no way to ask")
    load(warehouse, connection)
    warehouse.execute(connection, "BEGIN")
    warehouse.execute(connection, "SELECT 1").fetchall()
    with pytest.raises(LoadError, match="a transaction is open"):
        load(warehouse, connection, B)


def test_after_a_load_no_transaction_is_open(warehouse: Database, connection: Any) -> None:
    for _ in range(2):
        load(warehouse, connection)
        if "sqlite3" in type(connection).__module__ and getattr(connection, "autocommit", None) is not False:
            assert not connection.in_transaction
        elif "psycopg" in type(connection).__module__:
            assert connection.info.transaction_status == 0


def test_sqlite_keeps_what_was_written_before_where_a_transaction_is_always_open(tmp_path: Path) -> None:
    if not hasattr(sqlite3.Connection, "autocommit"):
        pytest.skip("from Python 3.12 on")
    with database("sqlite-pep249", tmp_path, lambda: pytest.fail("no server")) as warehouse:
        with closing(warehouse.connect()) as connection:
            warehouse.insert(connection, B)
            fail(connection, list)
        assert warehouse.prices() == expected(B)


def test_what_is_no_connection_is_refused() -> None:
    with pytest.raises(TypeError, match="no database connection"):
        loading.loads(object())  # type: ignore[arg-type] # the point


def test_an_asynchronous_connection_is_refused(postgres_server: Any) -> None:
    async def attempt() -> None:
        url = f"host={postgres_server.folder} port={postgres_server.port} user=postgres"
        async with await psycopg.AsyncConnection.connect(url) as connection:
            loading.loads(connection)

    with pytest.raises(TypeError, match="asynchronous"):
        asyncio.run(attempt())


def test_a_driver_that_commits_each_statement_is_refused(postgres_server: Any, tmp_path: Path) -> None:
    with database("pg8000", tmp_path, lambda: postgres_server) as warehouse, closing(warehouse.connect()) as connection:
        connection.autocommit = True
        with pytest.raises(LoadError, match="turn its autocommit off"):
            load(warehouse, connection)


def test_the_paramstyle_can_be_given(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as connection:
        with loading.once(connection, A, stage="s", version="1", paramstyle="named") as first:
            assert first
        assert [mark.checksum for mark in loading.loads(connection, paramstyle="named")] == [A]


def test_an_unknown_paramstyle_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as connection, pytest.raises(ValueError, match="paramstyle"):
        loading.loads(connection, paramstyle="dollar")
