"""What is looked at to answer a question by source: as much as the answer needs, however much the source has.

Counted in rows and records, never in seconds; that the answers are right is for `tests/property/`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import QUIET, record
from manifestlog import DownloadManifestManager, ManifestOptions, Verdict
from manifestlog.engines.filelog.canonical.index import Index
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.engines.filelog.overlay import Overlay
from support.records import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FEW, MANY = 40, 2_560
ROWS_MORE = 60
"""Seven halvings more in each of the few searches by bisection, and none where few need no search."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a sighting of the overlay, a row of the index and a record of the canonical was looked at."""
    found: Counter[str] = Counter()

    def counted(owner: type, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def look(self: object, *args: Any) -> Any:
            found[name] += 1
            return original(self, *args)

        monkeypatch.setattr(owner, name, look)

    counted(Overlay, "_counts")
    counted(Index, "_source")
    counted(Canonical, "record")
    return found


@pytest.fixture(params=["log", "canonical", "both"])
def with_records(
    request: pytest.FixtureRequest, directory: Path, looks: Counter[str]
) -> Iterator[Callable[[Callable[[int], float], int], DownloadManifestManager]]:
    """A manifest in which one source has so many contents, at these minutes, in the log, in the canonical, or in either."""
    opened = []

    def make(minute: Callable[[int], float], count: int) -> DownloadManifestManager:
        options = ManifestOptions(**{**_fields(QUIET), "segment_bytes_max": 64 << 20})
        manager = DownloadManifestManager(directory / f"n{count}_download.manifest.json", metadata(), options=options)
        opened.append(manager)
        half = count // 2 if request.param == "both" else count
        manager.add_many(record(f"{n}", minute(n)) for n in range(half))
        if request.param != "log":
            manager.save()
        manager.add_many(record(f"{n}", minute(n)) for n in range(half, count))
        manager.get_record_by_source("src")  # what waits to be looked into is looked into once
        looks.clear()
        return manager

    yield make
    for manager in opened:
        manager.close()


def _fields(options: ManifestOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


MINUTES: dict[str, Callable[[int], float]] = {"one after the other": float, "all at one time": lambda _: 7.0}
EVENTS = {"older than all": -1, "in the middle": 7.0, "newer than all": 10_000.0}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("minutes", MINUTES)
def test_an_addition_looks_at_no_more_of_a_source_that_has_much(
    with_records: Any, looks: Counter[str], minutes: str, event: str
) -> None:
    cost = {}
    for count in (FEW, MANY):
        manager = with_records(MINUTES[minutes], count)
        assert manager.add(record("another", EVENTS[event])).verdict is Verdict.CHANGED
        cost[count] = Counter(looks)
    assert cost[MANY]["record"] <= cost[FEW]["record"] + 1
    assert cost[MANY]["_counts"] <= cost[FEW]["_counts"] + 1
    assert cost[MANY]["_source"] <= cost[FEW]["_source"] + ROWS_MORE


@pytest.mark.parametrize("minutes", MINUTES)
def test_an_update_looks_at_no_more_of_a_source_that_has_much(
    with_records: Any, looks: Counter[str], minutes: str
) -> None:
    """Of its oldest record."""
    cost = {}
    for count in (FEW, MANY):
        manager = with_records(MINUTES[minutes], count)
        oldest = record("0", MINUTES[minutes](0))
        value = {"checksum": oldest.checksum, "etag": "x", "file_path": "/q", "file_size": 7}
        assert manager.update(oldest.checksum, value).verdict is Verdict.REFRESHED
        cost[count] = Counter(looks)
    assert cost[MANY]["record"] <= cost[FEW]["record"] + 1
    assert cost[MANY]["_counts"] <= cost[FEW]["_counts"] + 1
    assert cost[MANY]["_source"] <= cost[FEW]["_source"] + ROWS_MORE


def test_replaced_observations_are_not_read_repeatedly(
    with_records: Any, looks: Counter[str], request: pytest.FixtureRequest
) -> None:
    """One record that is updated many times, under newer ones."""
    manager = with_records(float, FEW)
    oldest = record("0", 0)
    value = {"checksum": oldest.checksum, "file_path": "/q", "file_size": 7}
    for n in range(100):
        manager.update(oldest.checksum, value | {"etag": f"{n}"})
    assert looks["_counts"] < 100 * 8, request.node.name


# -- checksums that begin alike: all that a source row of the index tells of one -----------------------------------------

ALIKE = ["ab" * 8 + f"{n:048x}" for n in range(4)]


@pytest.mark.parametrize("minutes", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 2, 2, 2)])
def test_the_latest_of_contents_that_begin_alike_is_found(directory: Path, minutes: tuple[int, ...]) -> None:
    with DownloadManifestManager(directory / "a_download.manifest.json", metadata(), options=QUIET) as manager:
        for checksum, minute in zip(ALIKE, minutes, strict=True):
            manager.add(record("x", minute, checksum=checksum))
        in_log = manager.get_record_by_source("src")
        manager.save()
        assert manager.get_record_by_source("src") == in_log


def test_a_change_in_the_log_does_not_hide_what_begins_alike(directory: Path) -> None:
    """The newest is forgotten, and the next is another's; the row of the first still names its neighbour, which is older."""
    with DownloadManifestManager(directory / "a_download.manifest.json", metadata(), options=QUIET) as manager:
        for checksum, minute in zip((ALIKE[0], "cd" * 32, ALIKE[1]), (1, 2, 3), strict=True):
            manager.add(record("x", minute, checksum=checksum))
        manager.save()
        manager.forget(ALIKE[1])
        latest = manager.get_record_by_source("src")
        assert latest is not None
        assert latest.checksum == "cd" * 32
