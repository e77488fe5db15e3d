"""A follower beside writers and compactions sees every acknowledged event once and in order, however often it is killed."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from manifestlog import DownloadManifestManager, Event, EventKind
from manifestlog.engines.filelog.history import keep
from support.records import QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.children import Child, Link, Start

WRITERS = 4
OPERATIONS = 120
KILLS = 6
"""How often the follower is killed at least; each of its lives has at most 40 of the 600 events."""
SMALL = replace(QUICK, segment_bytes_max=8192)
END = "the end"
LAST = 10**9


class Seen(NamedTuple):
    """What a test compares of an event."""

    cursor: str
    kind: str
    what: str
    """The content, or the source of a failure."""


def seen(event: Event) -> Seen:
    return Seen(event.cursor, event.kind.value, str(event.checksum or event.source_id))


def write(link: Link, path: Path, writer: int, seed: int) -> list[tuple[str, str]]:
    """Do random operations; return the events that they were acknowledged for, in order."""
    chance = random.Random(seed * 100 + writer)
    numbers = iter(range(writer * 10**6, 10**9))
    mine: list[int] = []
    done: list[tuple[str, str]] = []
    with DownloadManifestManager(path, options=SMALL) as manifest:
        for _ in range(OPERATIONS):
            match chance.randrange(6):
                case 0 if mine:
                    number = mine.pop(chance.randrange(len(mine)))
                    assert manifest.forget(checksum(number))
                    done.append(("forget", checksum(number)))
                case 1:
                    some = [next(numbers) for _ in range(chance.randrange(1, 5))]
                    manifest.add_many(make_record(number) for number in some)
                    mine += some
                    done += [("put", checksum(number)) for number in some]
                case 2:
                    source = f"bad-{next(numbers)}"
                    manifest.fail(SimpleNamespace(source_id=source, dataset="d"), "no answer")
                    done.append(("failed", source))
                case _:
                    mine.append(next(numbers))
                    manifest.add(make_record(mine[-1]))
                    done.append(("put", checksum(mine[-1])))
    return done


def compact_on(link: Link, path: Path) -> int:
    """Compact again and again until the parent says something."""
    rounds = 0
    with DownloadManifestManager(path, options=replace(SMALL, history=link.recv())) as manifest:
        while not link.poll():
            manifest.compact()
            rounds += 1
    return rounds


def follow(link: Link, path: Path, since: str | None) -> str:
    """Send every event after a cursor, until the last one, and the whole of its snapshot if it is in one."""
    in_snapshot, last = False, False
    with DownloadManifestManager(path, options=SMALL, read_only=True) as manifest:
        for event in manifest.changes(since, wait_s=None):
            link.send((seen(event), event.row))
            in_snapshot = event.kind in (EventKind.RESET, EventKind.SNAPSHOT) and event.cursor == since
            since = event.cursor if not in_snapshot else since
            last = last or event.checksum == checksum(LAST)
            if last and not in_snapshot:
                break
    return END


class Storm:
    """Writers and a compactor, and a follower that is killed and started again."""

    def __init__(self, start: Start, path: Path, seed: int, history: str, *, registered: bool = False) -> None:
        self.chance = random.Random(seed)
        self._start = start
        self._path = path
        self._history = history
        with DownloadManifestManager(path, metadata(), options=SMALL) as manifest:
            self.begin = manifest.cursor
            if registered:
                manifest.register_follower("mirror", self.begin)
        self.compactor = self._compactor()
        self.writers = [start(write, path, writer, seed) for writer in range(1, WRITERS + 1)]
        self.kills = 0

    def _compactor(self) -> Child:
        child = self._start(compact_on, self._path)
        child.send(self._history)
        return child

    def opened(self) -> DownloadManifestManager:
        return DownloadManifestManager(self._path, options=replace(SMALL, history=self._history))

    def follow(self, deal: Callable[[Seen, object], None]) -> list[list[tuple[str, str]]]:
        """Deal with each event; return what the writers were acknowledged for."""
        cursor: str | None = self.begin
        results = None
        while True:
            follower = self._start(follow, self._path, cursor)
            lives = 10**9 if results and self.kills >= KILLS else self.chance.randrange(1, 40)
            for _ in range(lives):
                message = follower.receive()
                if message == END:
                    return results or []
                deal(*message)
                cursor = message[0].cursor
            follower.kill()
            follower.join()
            self.kills += 1
            if self.kills % 3 == 0:
                self.compactor.kill()
                self.compactor = self._compactor()
            if results is None and all(writer.link.poll() for writer in self.writers):
                results = [writer.result() for writer in self.writers]
                self._write_the_last()

    def _write_the_last(self) -> None:
        """Add the last record, and cut the history before it, unless it is kept."""
        self.compactor.kill()
        with self.opened() as manifest:
            manifest.add(make_record(LAST))
            manifest.save()


@pytest.mark.parametrize("seed", range(3))
def test_every_acknowledged_event_comes_once_and_in_order(
    path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The follower is killed again and again, and continues from the last cursor that arrived."""
    monkeypatch.setattr(keep, "SEGMENTS_MAX", 8)
    storm = Storm(start, path, seed, "forever")
    found: list[Seen] = []
    written = storm.follow(lambda event, _row: found.append(event))
    with DownloadManifestManager(path, options=SMALL) as manifest:
        assert found == [seen(event) for event in manifest.history()]
    order = {(event.kind, event.what): place for place, event in enumerate(found)}
    assert len(order) == len(found)
    for events in written:
        places = [order[event] for event in events]
        assert places == sorted(places)
    assert storm.kills >= KILLS


@pytest.mark.parametrize("seed", range(3))
def test_a_mirror_is_right_although_the_history_is_cut(path: Path, start: Start, seed: int) -> None:
    """After a reset and its snapshot, the follower holds what the manifest holds."""
    storm = Storm(start, path, seed, "off")
    mirror: dict[str, object] = {}
    resets = 0

    def deal(event: Seen, row: object) -> None:
        nonlocal resets
        match event.kind:
            case "reset":
                resets += 1
                mirror.clear()
            case "put" | "snapshot":
                mirror[event.what] = row
            case "forget":
                del mirror[event.what]

    storm.follow(deal)
    with DownloadManifestManager(path, options=SMALL) as manifest:
        assert mirror == {row["checksum"]: row for row in manifest.snapshot().rows()}
    assert resets > 0


@pytest.mark.parametrize("seed", range(2))
def test_a_registered_follower_sees_no_reset_although_the_history_is_off(path: Path, start: Start, seed: int) -> None:
    """What its last registered cursor needs is kept, so each event comes at least once, and none is missing."""
    storm = Storm(start, path, seed, "off", registered=True)
    found: list[Seen] = []

    def register(cursor: str) -> None:
        with storm.opened() as manifest:
            manifest.register_follower("mirror", cursor)

    def deal(event: Seen, _row: object) -> None:
        found.append(event)
        if len(found) % 5 == 0:
            register(event.cursor)

    written = storm.follow(deal)
    assert {event.kind for event in found} <= {"put", "forget", "failed"}
    told = [(event.kind, event.what) for event in found]
    assert len(set(told)) == len(told)
    assert {event for events in written for event in events} <= set(told)
