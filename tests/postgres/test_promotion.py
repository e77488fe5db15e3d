"""A standby takes over: with synchronous replication nothing that was acknowledged is lost, and clients go on by themselves."""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from contract.builders import META, record, sha
from manifestlog import DownloadManifestManager, ManifestOptions
from support.children import PATIENCE_S, time_limit
from support.postgres import DURABLE, Server, as_user, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
PATIENT = ManifestOptions(lock_timeout_s=120.0)
WRITERS = 4


@contextmanager
def standby(primary: Server) -> Iterator[Server]:
    """A server that follows the primary; it is not started."""
    folder = primary.folder / "standby"
    folder.mkdir()
    subprocess.run(["chown", "--reference", primary.folder, folder], check=True)
    other = Server(folder, primary.programs, free_port(), DURABLE)
    command = [
        str(primary.programs / "pg_basebackup"),
        "--write-recovery-conf",
        "--pgdata",
        str(other.data),
        "--no-sync",
    ]
    source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=two"
    subprocess.run([*command, "--dbname", source], check=True, capture_output=True, cwd="/", **as_user())
    try:
        yield other
    finally:
        other.stop()


def wait_until_synchronous(primary: Server) -> None:
    with time_limit(PATIENCE_S):
        while primary.administrator.execute("SELECT sync_state FROM pg_stat_replication").fetchall() != [("sync",)]:
            threading.Event().wait(0.05)


def test_after_a_promotion_every_acknowledged_record_is_there_and_writers_go_on() -> None:
    with serving(DURABLE) as primary, standby(primary) as second:
        second.start()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'two'", "SELECT pg_reload_conf()")
        wait_until_synchronous(primary)
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{second.port}"
        url = f"postgresql://postgres@{hosts}/postgres/systems_download?target_session_attrs=read-write"
        acknowledged: list[str] = []
        enough, promoted, after = threading.Event(), threading.Event(), threading.Event()

        def write(number: int) -> None:
            with DownloadManifestManager(url, META, options=PATIENT) as manifest:
                for count in range(100_000):
                    name = f"{number}-{count}"
                    manifest.add(record(name, count, source=name))
                    acknowledged.append(sha(name))
                    if len(acknowledged) > 100:
                        enough.set()
                    if promoted.is_set() and count > 0:
                        after.set()
                        return

        with DownloadManifestManager(url, META, options=PATIENT):
            pass
        writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        assert enough.wait(PATIENCE_S)
        primary.kill()
        second.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_promote()")
        promoted.set()
        for writer in writers:
            writer.join(PATIENCE_S)
        assert after.is_set()
        with DownloadManifestManager(url, read_only=True) as manifest:
            assert [one for one in acknowledged if one not in manifest] == []
            assert len(manifest) == len(set(acknowledged))
            assert len([event for event in manifest.history() if event.verdict]) == len(acknowledged)
