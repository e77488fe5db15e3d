"""Hosts that share a database are killed, and stopped while others take their work over: everything is there once, and whole.

What a host makes of an item differs from what another one makes, so work that was recorded twice shows as a second output.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import META
from manifestlog import DownloadManifestManager, ManifestError, ManifestRecord, ProcessedManifestManager
from manifestlog.engines.postgres.writing import NOW
from manifestlog.extract import ETLSource, PipelineOrchestrator, Result
from manifestlog.stages import FunctionWork, Stage, run_stage
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.children import Child, Link, Start
    from support.counts import Count

    from .places import Place

HOSTS, ITEMS = 3, 40
PAUSE_MAX_S = 0.3


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Round:
    """Some hosts that do the same until all is done, and what happens to them."""

    def __init__(self, place: Place, begin: Callable[[], Child], chance: random.Random, count: Count) -> None:
        self.place, self.begin, self.chance, self.count = place, begin, chance, count
        self.hosts = [begin() for _ in range(HOSTS)]

    def disturb(self) -> None:
        """Kill a host, and let another one begin; or stop one for so long that others may take over what it has."""
        number = self.chance.randrange(HOSTS)
        host = self.hosts[number]
        if host.ended_within(self.chance.uniform(0, PAUSE_MAX_S)):
            self.hosts[number] = self.begin()
        elif self.chance.random() < 0.5:
            host.kill()
            host.join()
            self.hosts[number] = self.begin()
            self.count("hosts killed")
        else:
            host.kill(signal.SIGSTOP)
            self.place.execute(f"UPDATE manifestlog.claim SET expires = {NOW} - 1 WHERE pid = {host.pid}")
            time.sleep(self.chance.uniform(0, PAUSE_MAX_S))  # how long it is away
            host.kill(signal.SIGCONT)
            self.count("hosts stopped")

    def until(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            self.disturb()
        for host in self.hosts:
            host.join()


def again_and_again(link: Link, act: Callable[[], bool]) -> None:
    """Child process: do something until it says that nothing is left."""
    del link
    while True:
        with suppress(ManifestError):  # such as a claim that was lost where nothing else can be said
            if act():
                return


# -- stages ------------------------------------------------------------------------------------------------------------


def stage_of(home: Path) -> Stage:
    def work(item: Any) -> bytes:
        time.sleep(0.005)  # so that there is a middle to be stopped in
        return f"{item.source_id} by {os.getpid()} at {time.monotonic_ns()}".encode()

    return Stage("x_download", "x_parse", FunctionWork(work), output_dir=home / "out", output="{source_id}.out")


def downloads(place: Place, home: Path) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    records = []
    for number in range(ITEMS):
        path = home / f"{number}.txt"
        path.write_text(str(number), encoding="ascii")
        records.append(
            ManifestRecord(
                source_id=f"s{number}",
                dataset="set",
                checksum=sha(path.read_bytes()),
                file_path=path,
                file_size=path.stat().st_size,
                ts_downloaded=moment + timedelta(minutes=number),
                version="1",
            )
        )
    with DownloadManifestManager(place.url("x_download"), META) as manifest:
        manifest.add_many(records)


def hosts_run_a_stage(place: Place, start: Start, home: Path, chance: random.Random, count: Count) -> None:
    downloads(place, home)
    url, stage = place.url(""), stage_of(home)

    def work() -> bool:
        return not run_stage(stage, url).counts.total()

    def is_done() -> bool:
        with suppress(ManifestError), ProcessedManifestManager(place.url("x_parse"), read_only=True) as manifest:
            return len(manifest) == ITEMS
        return False

    Round(place, lambda: start(again_and_again, work), chance, count).until(is_done)
    run_stage(stage, url)
    with ProcessedManifestManager(place.url("x_parse"), read_only=True) as made:
        records = list(made.records.values())
        assert all(sha(made.locate(one).read_bytes()) == one.checksum for one in records)
        derivations = [event.inputs for event in made.history(kinds=["put", "derived"])]
    assert sorted(one.derived_from for one in records) == sorted(derivations) == sorted(set(derivations))
    assert len(records) == ITEMS


# -- downloads ---------------------------------------------------------------------------------------------------------


def hosts_fetch(place: Place, start: Start, home: Path, chance: random.Random, count: Count) -> None:
    url = place.url("x_download")
    DownloadManifestManager(url, META).close()
    with misbehaving() as server:
        bodies = {f"s{number}": os.urandom(1 << (10 + number % 12)) for number in range(ITEMS)}
        sources = [
            ETLSource(source_id=name, dataset="set", url=server.script(f"/{name}", answers.whole(body, f'"{name}"')))
            for name, body in bodies.items()
        ]

        def fetch() -> bool:
            with DownloadManifestManager(url, META) as manifest:
                report = PipelineOrchestrator(manifest, data_dir=home / "raw").run(sources)
            return report.counts[Result.UNCHANGED] == ITEMS

        def is_done() -> bool:
            with DownloadManifestManager(url, read_only=True) as manifest:
                return len(manifest) == ITEMS

        Round(place, lambda: start(again_and_again, fetch), chance, count).until(is_done)
        assert fetch()
    with DownloadManifestManager(url, read_only=True) as manifest:
        found = {one.source_id: manifest.locate(one).read_bytes() for one in manifest.records.values()}
        assert len(list(manifest.history(kinds=["put"]))) == ITEMS
    assert found == bodies


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scenario", [hosts_run_a_stage, hosts_fetch])
def test_hosts_that_are_killed_and_stopped_cost_nothing(
    place: Place, start: Start, tmp_path: Path, scenario: Callable[..., None], seed: int, count: Count
) -> None:
    scenario(place, start, tmp_path, random.Random(seed), count)
