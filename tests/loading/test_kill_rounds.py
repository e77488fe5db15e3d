"""`kill -9` of a loader at random moments until a run ends by itself: each row is there once, and each content recorded."""

from __future__ import annotations

import random
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from contract.builders import record, sha
from loading.databases import Database, database, expected
from manifestlog import DownloadManifestManager, ETLProcess, ProcessedManifestManager, loading
from support.records import MANUAL, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Link, Start
    from support.counts import Count

CONTENTS = 12
KILLS_MAX = 6
SHARE_MAX = 0.7
"""A kill comes after at most this share of the time that the fastest run so far has taken."""
STAGE = "warehouse"


class _Source(NamedTuple):
    source_id: str
    dataset: str


class _Event(NamedTuple):
    """The load of one content, as `add_output` takes it."""

    sha256: str
    file_path: Path
    file_size_bytes: int
    etag: str | None
    ts_download_completed: datetime


class Home(NamedTuple):
    """The two manifests of a round."""

    upstream: Path
    own: Path


def home(folder: Path) -> Home:
    """An upstream manifest with some contents, and an empty one for the stage."""
    found = Home(folder / "systems_download.manifest.json", folder / "systems_loading.manifest.json")
    with DownloadManifestManager(found.upstream, metadata(), options=MANUAL) as upstream:
        upstream.add_many([record(f"content {number}") for number in range(CONTENTS)])
    loader = metadata().model_copy(update={"process": ETLProcess.LOADER})
    ProcessedManifestManager(found.own, loader, options=MANUAL).close()
    return found


def run(link: Link, where: Home, warehouse: Database) -> None:
    """One run of the stage: what is pending is loaded, then recorded. The kill comes anywhere in between."""
    with (
        DownloadManifestManager(where.upstream, read_only=True) as upstream,
        ProcessedManifestManager(where.own, options=MANUAL) as own,
        closing(warehouse.connect()) as connection,
    ):
        link.send("ready")
        for one in own.pending(upstream):
            with loading.once(connection, one, stage=STAGE, version="1") as first:
                if first:
                    warehouse.insert(connection, one.checksum)
            event = _Event(one.checksum, one.file_path, one.file_size, None, datetime.now(UTC))
            own.add_output(_Source(one.source_id, one.dataset), event, [one.checksum])


@contextmanager
def round_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Home, Database]]:
    folder.mkdir()
    with database(kind, folder, lambda: request.getfixturevalue("postgres_server")) as warehouse:
        yield home(folder), warehouse


def whole_run_s(kind: str, folder: Path, start: Start, request: pytest.FixtureRequest) -> float:
    """Return how long a run takes that nobody kills, from the moment that it has opened everything."""
    with round_of(kind, folder, request) as (where, warehouse):
        child = start(run, where, warehouse)
        child.receive()
        began = time.monotonic()
        assert child.result() is None
        return time.monotonic() - began


def kill_until_it_ends(
    start: Start, where: Home, warehouse: Database, chance: random.Random, fastest_s: float
) -> tuple[int, float]:
    """Start runs and kill them; return how many were killed, and how long the fastest run takes.

    A run that ends before its kill was faster than any before it: the machine had other work when those were measured.
    """
    for kills in range(KILLS_MAX):
        child = start(run, where, warehouse)
        child.receive()
        began = time.monotonic()
        if child.link.poll(chance.uniform(0, SHARE_MAX * fastest_s)):
            took_s = time.monotonic() - began
            child.receive()
            return kills, min(fastest_s, took_s) if kills == 0 else fastest_s
        child.kill()
        child.join()
    last = start(run, where, warehouse)
    last.receive()
    assert last.result() is None
    return KILLS_MAX, fastest_s


def wrong(where: Home, warehouse: Database) -> list[str]:
    """What is not as one run without a kill would have left it."""
    contents = sorted(sha(f"content {number}") for number in range(CONTENTS))
    with ProcessedManifestManager(where.own, read_only=True) as own:
        recorded = sorted(own)
    with closing(warehouse.connect()) as connection:
        marked = [mark.checksum for mark in loading.loads(connection, stage=STAGE) if mark.loaded_at]
    rows = warehouse.prices()
    found = {"records": recorded == contents, "marks": marked == contents}
    found["rows"] = rows == [row for one in contents for row in expected(one)]
    return [name for name, is_right in found.items() if not is_right]


def _rounds(
    rounds: int, kind: str, folder: Path, start: Start, request: pytest.FixtureRequest
) -> tuple[int, list[str]]:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    chance, killed, found = random.Random(seed), 0, []
    fastest_s = min(whole_run_s(kind, folder / f"whole-{one}", start, request) for one in range(3))
    for number in range(rounds):
        with round_of(kind, folder / f"round-{number}", request) as (where, warehouse):
            kills, fastest_s = kill_until_it_ends(start, where, warehouse, chance, fastest_s)
            killed += kills
            found += [f"round {number}: {what}" for what in wrong(where, warehouse)]
    return killed, found


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "psycopg"])
def test_a_killed_loader_costs_nothing(
    kind: str, tmp_path: Path, start: Start, request: pytest.FixtureRequest, count: Count
) -> None:
    killed, found = _rounds(2, kind, tmp_path, start, request)
    count("kills of loaders", killed)
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "psycopg"])
def test_fifty_rounds_of_killed_loaders_cost_nothing(
    kind: str, tmp_path: Path, start: Start, request: pytest.FixtureRequest, count: Count
) -> None:
    killed, found = _rounds(50, kind, tmp_path, start, request)
    count("kills of loaders", killed)
    assert found == []
    assert killed > 50


def test_a_kill_between_the_commit_and_the_record_is_made_good(tmp_path: Path, start: Start) -> None:
    """The next run finds the row in the target, loads nothing, and records."""
    where = home(tmp_path)
    with database("sqlite", tmp_path, lambda: pytest.fail("no server")) as warehouse:
        with closing(warehouse.connect()) as connection:
            for number in range(CONTENTS):
                with loading.once(connection, sha(f"content {number}"), stage=STAGE, version="1") as first:
                    warehouse.insert(connection, first.checksum)
        child = start(run, where, warehouse)
        child.receive()
        assert child.result() is None
        assert wrong(where, warehouse) == []
