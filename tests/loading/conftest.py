"""A database for each way to one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from loading.databases import KINDS, Database, database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with database(request.param, tmp_path, lambda: request.getfixturevalue("postgres_server")) as found:
        yield found


@pytest.fixture
def connection(warehouse: Database) -> Iterator[Any]:
    found = warehouse.connect()
    yield found
    with suppress(Exception):  # some drivers refuse to close twice
        found.close()
