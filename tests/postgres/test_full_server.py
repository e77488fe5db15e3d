"""A server that has no room left: on its disk, or for another connection. One line says so, and nothing is half written."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest

from cli.program import Program
from contract.builders import META, record
from manifestlog import (
    DiskFullError,
    DownloadManifestManager,
    IndeterminateWriteError,
    ManifestOptions,
    ServerError,
    ServerUnavailableError,
)
from support import mounts
from support.children import children
from support.postgres import DURABLE, FAST, cluster, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog import ManifestRecord
    from support.mounts import Mounted
    from support.postgres import Server

# -- the disk ------------------------------------------------------------------------------------------------------------

T = TypeVar("T")
SIZE_BYTES = 48 << 20
BATCH = 500


class Full(NamedTuple):
    """What a client has seen while the disk of its server was full."""

    message: str
    acknowledged: int
    records: int
    """How many there were afterwards."""
    events: int
    looked_up: bool
    """Whether what is there could be read meanwhile."""
    again: int
    """How many of the refused batch are new once there is room."""


def fill(mounted: Mounted, port: int, folder: str) -> Full:
    """Add records to a manifest whose tables are on this file system until it is full, and again when it is not."""
    url = f"postgresql:///narrow/systems_download?host={folder}&port={port}&user=postgres"
    with DownloadManifestManager(url, META) as manifest:
        manifest.add(record("first", source="first"))
        mounted.fill(spare_pages=64)
        acknowledged = 1
        try:
            while True:
                acknowledged += len(manifest.add_each(_batch(acknowledged)))
        except DiskFullError as error:
            message = str(error)
        counted = len(manifest), sum(1 for _ in manifest.history()), manifest.has_checksum(next(iter(manifest)))
        mounted.empty()
        again = sum(one.verdict == "new" for one in manifest.add_each(_batch(acknowledged)))
        return Full(message, acknowledged, *counted, again)


def _batch(first: int) -> list[ManifestRecord]:
    return [record(f"c{n}", n, source=f"s{n}") for n in range(first, first + BATCH)]


def on_a_small_disk(mounted: Mounted) -> Full:
    """For a child: a server whose one database is on this file system; its log of changes is elsewhere."""
    with serving(FAST) as server:
        tables = mounted.root / "tables"
        tables.mkdir()
        shutil.chown(tables, server.folder.owner())
        server.execute(f"CREATE TABLESPACE small LOCATION '{tables}'", "CREATE DATABASE narrow TABLESPACE small")
        try:
            return fill(mounted, server.port, str(server.folder))
        finally:
            mounted.empty()


def on_a_file_system_of_its_own(body: Callable[[Mounted], T]) -> T:
    """Return what a child returns that has a small file system."""
    mounts.need(mounts.on_tmpfs, 1 << 20)
    root = Path(tempfile.mkdtemp(prefix="small-"))  # pytest's own directories are closed to the server's user
    root.chmod(0o755)
    try:
        with children() as start:
            found: T = start(mounts.on_tmpfs, root, body, SIZE_BYTES).result()
            return found
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def full() -> Full:
    return on_a_file_system_of_its_own(on_a_small_disk)


def test_the_message_names_the_servers_disk_in_one_line(full: Full) -> None:
    assert "the server's disk is full" in full.message
    assert "free some space, then retry" in full.message
    assert "\n" not in full.message


def test_what_was_acknowledged_is_there_and_nothing_else(full: Full) -> None:
    assert (full.records, full.events) == (full.acknowledged, full.acknowledged)


def test_what_is_there_can_be_looked_up(full: Full) -> None:
    assert full.looked_up


def test_with_room_again_the_same_manager_goes_on(full: Full) -> None:
    assert full.again == BATCH


def with_a_small_log(mounted: Mounted) -> tuple[str, int, int]:
    """For a child: fill the file system that has the server's log of changes, without which it ends.

    Return what a client hears, how many records were acknowledged, and how many are there after a restart with room.
    """
    few = {"wal_keep_size": "0", "max_wal_size": "32MB", "min_wal_size": "32MB", "autovacuum": "off"}
    with cluster({**DURABLE, **few}) as server:
        there = mounted.root / "wal"
        shutil.move(server.data / "pg_wal", there)
        (server.data / "pg_wal").symlink_to(there)
        subprocess.run(["chown", "-R", "--reference", server.folder, there], check=True)
        server.start()
        url, acknowledged, message = server.url("systems_download"), 0, ""
        with DownloadManifestManager(url, META, options=ManifestOptions(lock_timeout_s=1.0)) as manifest:
            mounted.fill()
            try:
                while True:
                    acknowledged += len(manifest.add_each(_batch(acknowledged)))
            except (ServerUnavailableError, IndeterminateWriteError) as error:
                message = str(error)
            server.stop()
            mounted.empty()
            server.start()
            return message, acknowledged, len(manifest)


def test_a_server_that_has_no_room_for_its_log_loses_nothing() -> None:
    """It ends, and starts once there is room. The batch that was in doubt is there as a whole, or not at all."""
    message, acknowledged, records = on_a_file_system_of_its_own(with_a_small_log)
    assert ("\n" in message, "within 1 s" in message) == (False, True)
    assert acknowledged > 0
    assert records in (acknowledged, acknowledged + BATCH)


# -- connections ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    """A server for few connections, with a manifest."""
    with serving({**FAST, "max_connections": "8", "superuser_reserved_connections": "3"}) as server:
        server.execute("CREATE ROLE etl LOGIN", "GRANT CREATE ON DATABASE postgres TO etl")
        with DownloadManifestManager(url_of(server), META) as manifest:
            manifest.add(record("a"))
        yield server


def url_of(server: Server) -> str:
    return server.url("systems_download", user="etl").replace("user=postgres&", "")


@pytest.fixture
def crowded(narrow: Server) -> Iterator[Server]:
    """The same, without room for another connection."""
    others = [narrow.connect(user="etl") for _ in range(5)]
    yield narrow
    for one in others:
        one.close()


def test_an_opening_without_room_is_refused_at_once(crowded: Server) -> None:
    with pytest.raises(ServerError, match=r"end some sessions, raise max_connections, or put a pooler") as found:
        DownloadManifestManager(url_of(crowded))
    assert "\n" not in str(found.value)


def test_a_verb_without_room_says_so_in_one_line(crowded: Server, tmp_path: Path) -> None:
    found = Program(tmp_path).here("list", url_of(crowded))
    assert (found.code, found.err.count("\n"), "raise max_connections" in found.err) == (1, 1, True)


def test_an_open_manifest_waits_for_room_and_then_says_so(narrow: Server) -> None:
    with DownloadManifestManager(url_of(narrow), options=ManifestOptions(lock_timeout_s=0.3)) as manifest:
        narrow.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'etl'")
        others = [narrow.connect(user="etl") for _ in range(5)]
        try:
            with pytest.raises(ServerUnavailableError, match=r"within 0\.3 s \(.*(slots|too many)") as found:
                len(manifest)
        finally:
            for one in others:
                one.close()
        assert "\n" not in str(found.value)
        assert len(manifest) == 1
