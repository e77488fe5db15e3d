"""Many writers at once, while nothing happens, while sessions are ended, and while the server is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog.engines.registry import driver_for
from support.children import PATIENCE_S
from support.postgres import DURABLE, serving

from .history_check import Told, check, work
from .places import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog import DownloadManifestManager
    from support.children import Start
    from support.counts import Count

    from .places import Place


def told_by(start: Start, url: str, writers: int, calls: int, disturb: Callable[[], object] | None = None) -> Told:
    """What so many processes were told; `disturb` is called again and again while they work."""
    children = [start(work, url, number, calls) for number in range(writers)]
    for child in children:
        assert child.receive() == "ready"
    for child in children:
        child.send("go")
    told: Told = []
    waiting = list(children)
    while waiting:
        message = waiting[0].receive(4 * PATIENCE_S)
        if message is not None:
            told += message
            waiting.pop(0)
        elif disturb is not None:
            disturb()
    return told


def is_sound(url: str) -> bool:
    driver = driver_for(url)
    return not driver.check(driver.locate(url)).findings


def test_one_order_explains_what_all_were_told(place: Place, manifest: DownloadManifestManager, start: Start) -> None:
    told = told_by(start, place.url(), writers=4, calls=40)
    assert check(manifest, told) > 50
    assert is_sound(place.url())


def test_sessions_that_are_ended_change_no_answer(
    place: Place, manifest: DownloadManifestManager, start: Start
) -> None:
    def end_sessions() -> None:
        place.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'manifestlog'"
        )

    told = told_by(start, place.url(), writers=4, calls=40, disturb=end_sessions)
    assert check(manifest, told) > 50


@pytest.mark.slow
def test_one_order_explains_what_many_were_told(
    place: Place, manifest: DownloadManifestManager, start: Start, count: Count
) -> None:
    told = told_by(start, place.url(), writers=8, calls=300)
    count("calls of many writers", len(told))
    assert check(manifest, told) > 500


@pytest.mark.slow
def test_what_was_acknowledged_outlives_kills_of_the_server(start: Start, count: Count) -> None:
    """Each kill takes everything from the server that is not on its disk."""
    with serving(DURABLE) as server:
        url = server.url("systems_download")
        with opened(url) as manifest:

            def kill() -> None:
                server.kill()
                server.start()
                count("kills of the server", 1)

            told = told_by(start, url, writers=4, calls=500, disturb=kill)
            assert check(manifest, told) > 200
            assert not [mark for mark, verdict in told if verdict == "?"]
        assert is_sound(url)
