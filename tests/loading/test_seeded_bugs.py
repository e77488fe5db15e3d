"""Each safeguard of a load, switched off in turn: the test named with it notices."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from loading import test_concurrent, test_connections, test_once
from loading.databases import database
from simulation.seeding import Edit, missed
from support.children import children

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.counts import Count

_DUCKDB = test_concurrent.test_of_two_threads_in_duckdb_the_rows_of_one_stay
_NEW_VERSION = test_concurrent.test_who_waits_in_postgresql_for_a_new_version_is_told_that_it_is_there
SEEDED: list[tuple[str, str, Callable[..., None], Edit]] = [
    (
        "the mark is written with the rows",
        "sqlite",
        test_once.test_the_rows_are_there_once,
        Edit("loading.exactly_once:_mark", "is_ours = marks.begin(target, key, load.version)", "is_ours = True"),
    ),
    (
        "what is loaded is looked up",
        "sqlite",
        test_once.test_the_rows_are_there_once,
        Edit("loading.exactly_once:_decided", "found is None or found.version != version", "True"),
    ),
    (
        "the mark states that the load has ended",
        "sqlite",
        test_once.test_the_second_load_is_told_that_the_content_is_there,
        Edit("loading.marks:end", "loaded_at = {{now}}", "loaded_at = NULL"),
    ),
    (
        "a mark without an end is noticed",
        "sqlite",
        test_once.test_a_block_that_commits_midway_is_noticed_if_it_does_not_end,
        Edit("loading.exactly_once:_decided", "found is not None and found.loaded_at is None", "False"),
    ),
    (
        "a block that fails is rolled back",
        "duckdb",
        test_once.test_after_an_error_in_the_block_the_next_load_is_the_first,
        Edit("loading.targets:_duckdb_target", "connection.rollback()", "connection.commit()"),
    ),
    (
        "a mark that is gone at the end is noticed",
        "sqlite",
        test_once.test_a_block_that_rolls_back_is_told,
        Edit("loading.exactly_once:_end", "if not there:", "if False:"),
    ),
    (
        "an aborted transaction is noticed at the end",
        "psycopg",
        test_once.test_an_error_that_the_block_swallows_commits_all_or_nothing,
        Edit("loading.exactly_once:_end", "there = marks.end(target, key, version)", "there = True"),
    ),
    (
        "of two new versions one is told that it came too late",
        "psycopg",
        _NEW_VERSION,
        Edit("loading.marks:supersede", " AND version = {{old}}", ""),
    ),
    (
        "a loader that lost at the commit looks who won",
        "duckdb",
        _DUCKDB,
        Edit("loading.exactly_once:_commit", "with suppress(Exception):", "while False:"),
    ),
    (
        "a table without its key is refused",
        "sqlite",
        test_once.test_a_table_without_its_key_is_refused,
        Edit("loading.marks:begin", "if target.has_on_conflict:  # it also", "if False:  # it also"),
    ),
    (
        "the transaction of the caller is not committed",
        "psycopg",
        test_connections.test_an_open_transaction_is_refused,
        Edit("loading.targets:_psycopg_target", "connection.info.transaction_status != _POSTGRES_IDLE", "False"),
    ),
    (
        "a driver that commits each statement is refused",
        "pg8000",
        test_connections.test_a_driver_that_commits_each_statement_is_refused,
        Edit("loading.targets:_plain_target", "if _commits_each(connection):", "if False:"),
    ),
]


def _run(test: Callable[..., None], kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """Call a test with the fixtures that it names."""
    wanted = test.__code__.co_varnames[: test.__code__.co_argcount]

    def server() -> Any:
        return request.getfixturevalue("postgres_server")

    with ExitStack() as around:
        given: dict[str, Any] = {"tmp_path": folder, "kind": kind}
        if "postgres_server" in wanted:
            given["postgres_server"] = server()
        if "warehouse" in wanted:
            given["warehouse"] = around.enter_context(database(kind, folder, server))
        if "connection" in wanted:
            given["connection"] = given["warehouse"].connect()
            around.callback(_close, given["connection"])
        if "start" in wanted:
            given["start"] = around.enter_context(children())
        test(**{name: given[name] for name in wanted})


def _close(connection: Any) -> None:
    with suppress(Exception):
        connection.close()


@pytest.mark.parametrize(("name", "kind", "test", "edit"), SEEDED, ids=[name for name, *_ in SEEDED])
def test_a_safeguard_that_is_switched_off_is_missed(
    name: str,
    kind: str,
    test: Callable[..., None],
    edit: Edit,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    count: Count,
) -> None:
    with missed(edit, Exception, pytest.fail.Exception):
        _run(test, kind, tmp_path, request)
    count("seeded bugs caught")
