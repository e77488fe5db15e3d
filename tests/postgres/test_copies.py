"""Copies into a database and out of it that are killed or cut off: they are there once and whole, or not at all."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from contract.builders import META, QUIET, record
from contract.copies import live, seen
from manifestlog import (
    CopyOutcome,
    DownloadManifestManager,
    ManifestError,
    ManifestNotFoundError,
    copy_manifest,
    maintenance,
    progress,
)
from manifestlog.engines.postgres import loading
from support.children import children
from support.faults import die

from .cutting import Cut, cutting
from .places import NAME

if TYPE_CHECKING:
    from pathlib import Path

    from support.children import Link
    from support.counts import Count

    from .cutting import Proxy
    from .places import Place

STEPS = 12
RECORDS = 3000
KILLS_MAX = 4
PAUSE_MAX_S = 1.5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / f"{NAME}.manifest.json"
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        live(manifest)
    return path


def _copy_until(_link: Link, source: Path | str, target: Path | str, number: int) -> None:
    """Copy, in small steps, and die at one of them."""
    loading._EVENTS_AT_ONCE = 5
    left = [number]

    def step(_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    with progress.shown(step):
        copy_manifest(source, target, options=QUIET)


@pytest.mark.parametrize("number", range(1, STEPS, 5))
def test_of_a_copy_that_is_killed_nothing_is_there(place: Place, source: Path, number: int) -> None:
    with children() as start:
        assert start(_copy_until, source, place.url(), number).join() == -9
    with pytest.raises(ManifestNotFoundError):
        DownloadManifestManager(place.url(), read_only=True)
    copy_manifest(source, place.url(), options=QUIET)
    assert seen(place.url()) == seen(source)


def test_a_killed_copy_leaves_no_row(place: Place, source: Path) -> None:
    with children() as start:
        assert start(_copy_until, source, place.url(), STEPS).join() == -9
    copy_manifest(source, place.url(), options=QUIET)
    assert maintenance.check(place.url()).findings == []
    with place.connect() as connection:
        found = connection.execute("SELECT count(DISTINCT manifest_id) FROM manifestlog.content").fetchall()
    assert found == [(1,)]


def _messages(place: Place, proxy: Proxy, source: Path) -> int:
    """How many messages a copy sends."""
    proxy.arm(0, Cut.BEFORE)
    copy_manifest(source, place.tcp_url(port=proxy.port), options=QUIET)
    return proxy.messages


def _cut_at(place: Place, proxy: Proxy, source: Path, number: int, cut: Cut) -> None:
    place.execute("DROP SCHEMA IF EXISTS manifestlog CASCADE")
    proxy.arm(number, cut)
    with suppress(ManifestError):
        copy_manifest(source, place.tcp_url(port=proxy.port), options=QUIET)
    assert proxy.cuts == 1
    copy_manifest(source, place.url(), options=QUIET)
    assert seen(place.url()) == seen(source)
    assert copy_manifest(source, place.url(), options=QUIET).outcome is CopyOutcome.ALREADY_THERE


@pytest.mark.parametrize("cut", Cut)
def test_a_copy_whose_end_is_cut_off_is_there_once(place: Place, source: Path, cut: Cut) -> None:
    with cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy:
        messages = _messages(place, proxy, source)
        for number in range(messages - 7, messages, 3):
            _cut_at(place, proxy, source, number, cut)


@pytest.mark.slow
@pytest.mark.parametrize("cut", Cut)
def test_a_copy_that_is_cut_at_any_message_is_there_once(place: Place, source: Path, cut: Cut, count: Count) -> None:
    with cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy:
        messages = _messages(place, proxy, source)
        for number in range(1, messages + 1):
            _cut_at(place, proxy, source, number, cut)
    count("cuts of copies", messages)


def test_two_copies_to_one_place_at_once_make_one(place: Place, source: Path) -> None:
    copy_manifest(source, place.url("other_download"), options=QUIET)  # so that the tables are there
    with children() as start:
        both = [start(_copy, source, place.url()) for _ in range(2)]
        assert sorted(str(one.result()) for one in both) == ["already_there", "copied"]
    assert seen(place.url()) == seen(source)


def _copy(_link: Link, source: Path, target: str) -> str:
    return copy_manifest(source, target).outcome


def test_a_manifest_that_is_created_beside_a_copy_does_not_wait_for_it(
    place: Place, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_manifest(source, place.url("other_download"), options=QUIET)
    created: list[int] = []

    def create(_: object) -> None:
        if not created:
            created.append(1)
            DownloadManifestManager(place.url("bodies_download"), META, options=QUIET).close()

    monkeypatch.setattr(loading, "_EVENTS_AT_ONCE", 5)
    with progress.shown(create):
        copy_manifest(source, place.url(), options=QUIET)
    assert (created, len(maintenance.check(place.url()).findings)) == ([1], 0)


# -- rounds ------------------------------------------------------------------------------------------------------------


def _round(chance: random.Random, source: str, target: str) -> int:
    """Kill copies at random moments until one ends by itself; return how many were killed."""
    command = [sys.executable, "-m", "manifestlog", "copy", source, target, "--quiet"]
    for kills in range(KILLS_MAX):
        with subprocess.Popen(command) as process:
            with suppress(subprocess.TimeoutExpired):
                assert process.wait(chance.uniform(0.2, PAUSE_MAX_S)) == 0
                return kills
            process.kill()
    assert subprocess.run(command, check=False).returncode == 0
    return KILLS_MAX


def _rounds(place: Place, tmp_path: Path, rounds: int) -> int:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    chance, killed = random.Random(seed), 0
    source = tmp_path / "large" / f"{NAME}.manifest.json"
    with DownloadManifestManager(source, META, options=QUIET) as manifest:
        manifest.add_many(record(f"c{n}", n, source=f"s{n % 50}") for n in range(RECORDS))
    for number in range(rounds):
        name, back = f"round{number}_download", tmp_path / f"back-{number}" / f"{NAME}.manifest.json"
        killed += _round(chance, str(source), place.url(name))
        with DownloadManifestManager(source, options=QUIET) as manifest:
            manifest.add(record(f"later {number}", RECORDS + number))
        killed += _round(chance, str(source), place.url(name))
        killed += _round(chance, place.url(name), str(back))
        assert seen(place.url(name)) == seen(source), number
        assert seen(back) == seen(source), number
        assert maintenance.check(back).findings == maintenance.check(place.url(name)).findings == []
    return killed


@pytest.mark.slow
def test_twenty_rounds_of_killed_copies_cost_nothing(place: Place, tmp_path: Path, count: Count) -> None:
    count("kills of copies", _rounds(place, tmp_path, 20))
