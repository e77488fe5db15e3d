"""Several loaders of one target: of one content one wins, and the others wait or are told."""

from __future__ import annotations

import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import wait_until
from contract.builders import sha
from loading.databases import SHARED, Database, database, expected
from loading.test_once import A, B, load
from manifestlog import LoadError, loading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.children import Link, Start
    from support.postgres import Server


@pytest.fixture(params=SHARED)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with database(request.param, tmp_path, lambda: request.getfixturevalue("postgres_server")) as found:
        yield found


def hold(link: Link, warehouse: Database, version: str = "1") -> None:
    """Load, say whether we are the first, and end the block when told how."""
    with closing(warehouse.connect()) as connection:
        link.send("trying")
        with suppress(ZeroDivisionError), loading.once(connection, A, stage="warehouse", version=version) as first:
            if first:
                warehouse.insert(connection, A, version)
            link.send(bool(first))
            if first and link.recv() == "fail":
                _ = 1 / 0


def _holding(warehouse: Database, start: Start, version: str = "1") -> Any:
    child = start(hold, warehouse, version)
    assert [child.receive(), child.receive()] == ["trying", True]
    return child


def test_the_second_loader_waits_and_is_told(warehouse: Database, start: Start) -> None:
    one, other = _holding(warehouse, start), start(hold, warehouse)
    assert other.receive() == "trying"
    one.send("end")
    assert other.receive() is False
    assert warehouse.prices() == expected(A)


def test_the_second_loader_is_the_first_if_that_one_is_killed(warehouse: Database, start: Start) -> None:
    one, other = _holding(warehouse, start), start(hold, warehouse)
    assert other.receive() == "trying"
    one.kill()
    assert other.receive() is True
    other.send("end")
    other.join()
    assert warehouse.prices() == expected(A)


def test_the_second_loader_is_the_first_if_that_one_fails(warehouse: Database, start: Start) -> None:
    one, other = _holding(warehouse, start), start(hold, warehouse)
    assert other.receive() == "trying"
    one.send("fail")
    assert other.receive() is True
    other.send("end")
    other.join()
    assert warehouse.prices() == expected(A)


def test_of_two_loaders_of_a_new_version_one_replaces(warehouse: Database, start: Start) -> None:
    with closing(warehouse.connect()) as connection:
        load(warehouse, connection, version="0", rows=range(0))
    one, other = _holding(warehouse, start), start(hold, warehouse)
    assert other.receive() == "trying"
    one.send("end")
    assert other.receive() is False
    assert warehouse.prices() == expected(A)


def _waits(server: Server) -> bool:
    with server.connect() as connection:
        return bool(connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())


@pytest.mark.parametrize("kind", ["psycopg", "pg8000"])
def test_who_waits_in_postgresql_for_a_new_version_is_told_that_it_is_there(
    kind: str, tmp_path: Path, postgres_server: Server, start: Start
) -> None:
    with database(kind, tmp_path, lambda: postgres_server) as warehouse:
        with closing(warehouse.connect()) as connection:
            load(warehouse, connection, version="0", rows=range(0))
        one, other = _holding(warehouse, start), start(hold, warehouse)
        assert other.receive() == "trying"
        wait_until(lambda: _waits(postgres_server))
        one.send("end")
        assert other.receive() is False
        assert warehouse.prices() == expected(A)


@pytest.mark.parametrize("kind", ["psycopg", "pg8000"])
def test_who_waits_in_postgresql_for_a_first_load_is_told_that_it_is_there(
    kind: str, tmp_path: Path, postgres_server: Server, start: Start
) -> None:
    with database(kind, tmp_path, lambda: postgres_server) as warehouse:
        with closing(warehouse.connect()) as connection:
            load(warehouse, connection, B, rows=range(0))
        one, other = _holding(warehouse, start), start(hold, warehouse)
        assert other.receive() == "trying"
        wait_until(lambda: _waits(postgres_server))
        one.send("end")
        assert other.receive() is False
        assert warehouse.prices() == expected(A)


def race(link: Link, warehouse: Database, seed: int, contents: list[str]) -> int:
    """Load all of them in an order of our own; return how often we were the first."""
    order = random.Random(seed).sample(contents, len(contents))
    with closing(warehouse.connect()) as connection:
        return sum(bool(load(warehouse, connection, one)) for one in order)


def test_of_many_loaders_one_loads_each_content(warehouse: Database, start: Start) -> None:
    contents = [sha(f"content {number}") for number in range(20)]
    racers = [start(race, warehouse, seed, contents) for seed in range(3)]
    assert sum(racer.result() for racer in racers) == len(contents)
    assert warehouse.prices() == sorted(row for one in contents for row in expected(one))


def test_a_loader_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    with (
        database("sqlite", tmp_path, lambda: pytest.fail("no server")) as warehouse,
        closing(warehouse.connect()) as one,
        closing(sqlite3.connect(tmp_path / "warehouse.sqlite", timeout=0)) as other,
    ):
        load(warehouse, one, B)
        with (
            loading.once(one, A, stage="warehouse", version="1"),
            pytest.raises(LoadError, match="in the way for 0 s"),
            loading.once(other, A, stage="warehouse", version="1", wait_s=0),
        ):
            pytest.fail("the other one has the content")


def test_of_two_threads_in_duckdb_the_rows_of_one_stay(tmp_path: Path) -> None:
    """It tells only at the commit that another transaction wrote the same mark; the loser's rows go with it."""
    both_in = threading.Barrier(2)
    with database("duckdb", tmp_path, lambda: pytest.fail("no server")) as warehouse:
        with closing(warehouse.connect()) as connection:
            load(warehouse, connection, B)  # the table is there

            def run(own: Any) -> bool:
                with loading.once(own, A, stage="warehouse", version="1") as first:
                    both_in.wait(60)
                    warehouse.insert(own, A)
                return bool(first)

            with ThreadPoolExecutor(2) as threads:
                assert list(threads.map(run, [connection.cursor() for _ in range(2)])) == [True, True]
        assert warehouse.prices(A) == expected(A)


def test_of_two_threads_in_duckdb_one_replaces_a_version(tmp_path: Path) -> None:
    with database("duckdb", tmp_path, lambda: pytest.fail("no server")) as warehouse:
        with closing(warehouse.connect()) as connection:
            load(warehouse, connection, rows=range(0))
            with ThreadPoolExecutor(4) as threads:
                own = [connection.cursor() for _ in range(4)]
                found = list(threads.map(lambda one: bool(load(warehouse, one, version="2")), own))
        assert sorted(found) == [False, False, False, True]
        assert warehouse.prices(A) == expected(A, "2")
