"""A run with a clock ahead of time: later runs with the right clock fetch what is new, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from extract.running import pattern
from manifestlog.extract import Result
from support import answers

if TYPE_CHECKING:
    from extract.running import Here
    from support.badserver import BadServer

YEAR = timedelta(days=365)


@pytest.fixture
def address(here: Here, bad: BadServer) -> str:
    """Its first content was fetched while the clock was a year ahead; then comes another, then nothing new."""
    url = bad.script(
        "/a", *(answers.exactly(200, {"ETag": f'"{n}"', "Content-Length": "1000"}, pattern(1000, n)) for n in (1, 2, 2))
    )
    here.fetch(url)
    found = here.record()
    here.manifest.update(found.checksum, found.model_dump() | {"ts_downloaded": datetime.now(UTC) + YEAR})
    return url


def test_new_content_is_changed(here: Here, address: str) -> None:
    assert here.fetch(address).result is Result.CHANGED


def test_new_content_is_current(here: Here, address: str) -> None:
    here.fetch(address)
    assert here.record().etag == '"2"'


def test_nothing_new_is_unchanged(here: Here, address: str) -> None:
    assert [here.fetch(address).result for _ in range(2)] == [Result.CHANGED, Result.UNCHANGED]


def test_the_outcome_warns_with_both_times(here: Here, address: str) -> None:
    warning = here.fetch(address).warning
    assert warning is not None
    assert all(f"{when.year}-" in warning for when in (datetime.now(UTC), datetime.now(UTC) + YEAR))
