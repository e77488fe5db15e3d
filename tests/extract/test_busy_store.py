"""A store that asks for fewer requests: it is asked again for a while, and what has gone up already is not sent anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.running import pattern
from extract.stores import PART
from manifestlog.objects import s3_patience
from support import answers
from support.busystore import busy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extract.stores import There
    from support.badserver import BadServer
    from support.busystore import BusyStore
    from support.s3 import Folder

SMALL, LARGE = pattern(3000), pattern(3 * PART)
ALL = len(s3_patience._PAUSES_S) + 1
"""How often a request is sent at most."""


@pytest.fixture
def store(s3_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusyStore]:
    """A store that can be busy, whose clients do not wait as long as they would."""
    monkeypatch.setattr(s3_patience, "_PAUSES_S", tuple(0.001 for _ in s3_patience._PAUSES_S))
    with busy(s3_folder.server.url) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.url)
        yield found


def test_a_store_that_is_busy_for_a_while_fails_nothing(store: BusyStore, there: There, bad: BadServer) -> None:
    store.refuse("PUT", "/raw/systems/", ALL - 1)
    outcome = there.fetch(bad.script("/a", answers.whole(SMALL)))
    assert (outcome.result, store.refused) == ("new", ALL - 1)


def test_an_upload_goes_on_after_the_store_was_busy(store: BusyStore, there: There, bad: BadServer) -> None:
    """The source sends its body once."""
    store.refuse("PUT", "partNumber=2", ALL - 1)
    outcome = there.fetch(bad.script("/a", answers.whole(LARGE)))
    assert (outcome.result, len(bad.asked("/a"))) == ("new", 1)


def test_a_store_that_stays_busy_fails_its_source_in_one_line(store: BusyStore, there: There, bad: BadServer) -> None:
    store.refuse("PUT", "/raw/systems/", 100)
    outcome = there.fetch(bad.script("/a", answers.whole(SMALL)))
    assert outcome.result == "failed"
    assert outcome.error is not None
    assert outcome.error.endswith("the store is busy (SlowDown): run again later")


def test_who_sets_the_number_of_attempts_gets_that_number(
    store: BusyStore, there: There, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store.refuse("PUT", "/raw/systems/", 100)
    there.fetch(bad.script("/a", answers.whole(SMALL)))
    assert store.refused == 1
