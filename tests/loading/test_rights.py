"""Loading by a user who may not create the table, or may not write to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from loading.databases import Database, database
from loading.test_once import A, load
from manifestlog import LoadError, loading
from manifestlog.loading.marks import definition
from support.postgres import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import Server


@pytest.fixture
def warehouse(tmp_path: Path, postgres_server: Server) -> Iterator[Database]:
    with database("psycopg", tmp_path, lambda: postgres_server) as found:
        yield found


@pytest.fixture
def limited(warehouse: Database, postgres_server: Server) -> Iterator[Any]:
    """A connection of a user who may only insert into the user's own table."""
    with closing(warehouse.connect()) as owner:
        owner.execute("GRANT INSERT ON prices TO reader")
        owner.commit()
    given: dict[str, Any] = {"host": str(postgres_server.folder), "port": postgres_server.port, "dbname": "warehouse"}
    with closing(psycopg.connect(user="reader", password=PASSWORD, **given)) as found:
        yield found


def _grant(warehouse: Database, rights: str) -> None:
    with closing(warehouse.connect()) as owner:
        owner.execute(definition("manifestlog_loads"))
        owner.execute(f"GRANT {rights} ON manifestlog_loads TO reader")
        owner.commit()


def test_who_may_not_create_the_table_is_told_what_to_ask_for(warehouse: Database, limited: Any) -> None:
    with pytest.raises(LoadError, match=r"cannot be created .*let its owner create it.*CREATE TABLE"):
        load(warehouse, limited)


def test_who_is_given_the_table_can_load(warehouse: Database, limited: Any) -> None:
    _grant(warehouse, "SELECT, INSERT, UPDATE")
    assert load(warehouse, limited)


def test_who_may_not_write_to_the_table_is_told(warehouse: Database, limited: Any) -> None:
    _grant(warehouse, "SELECT")
    with pytest.raises(LoadError, match=r"a mark cannot be written .*SELECT, INSERT and UPDATE"):
        load(warehouse, limited)
    assert warehouse.prices() == []


def test_who_may_not_read_the_table_is_told(warehouse: Database, limited: Any) -> None:
    _grant(warehouse, "INSERT")
    with pytest.raises(LoadError, match="SELECT, INSERT and UPDATE"):
        load(warehouse, limited)


def test_after_a_refusal_the_connection_is_usable(warehouse: Database, limited: Any) -> None:
    with pytest.raises(LoadError):
        load(warehouse, limited)
    _grant(warehouse, "SELECT, INSERT, UPDATE")
    assert load(warehouse, limited)


def test_a_database_that_is_open_to_read_is_refused(tmp_path: Path) -> None:
    with (
        database("sqlite", tmp_path, lambda: pytest.fail("no server")) as warehouse,
        closing(sqlite3.connect(f"file:{tmp_path}/warehouse.sqlite?mode=ro", uri=True)) as connection,
        pytest.raises(LoadError, match="readonly"),
    ):
        load(warehouse, connection)


def test_a_lost_connection_loads_nothing(warehouse: Database, postgres_server: Server) -> None:
    """The block's own error comes out; the rows are gone with the transaction."""

    def lose() -> None:
        with loading.once(connection, A, stage="warehouse", version="1"):
            warehouse.insert(connection, A)
            postgres_server.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
            warehouse.insert(connection, A)

    with closing(warehouse.connect()) as connection, pytest.raises(psycopg.OperationalError):
        lose()
    assert warehouse.prices() == []
