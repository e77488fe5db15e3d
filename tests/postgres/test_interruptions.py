"""What happens beside the calls of a client: its pooler restarts, or the server stands still."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from cli.program import Program, finish
from contract.builders import META, record, sha
from manifestlog import (
    DownloadManifestManager,
    IndeterminateWriteError,
    ManifestError,
    ManifestOptions,
    Verdict,
    progress,
)
from support import answers
from support.badserver import misbehaving
from support.children import PATIENCE_S, time_limit
from support.pgbouncer import poolers

from .places import engine_of

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from manifestlog.engines.postgres.slots import Slot

    from .places import Place

MODES = ["transaction", "session"]
PATIENT = ManifestOptions(lock_timeout_s=60.0)
IMPATIENT = ManifestOptions(lock_timeout_s=0.2)


def begun(folder: Path, manifests_dir: str, url: str, *arguments: str) -> subprocess.Popen[str]:
    """A run of one source."""
    config = {
        "etl_version": "1.0.0",
        "manifests_dir": manifests_dir,
        "data_dir": "data",
        "manifest": "files_download",
        "defaults": {"jobs": 2, "retries": 0},
        "sources": [{"source_id": "a", "dataset": "raw", "url": url}],
    }
    (folder / "etl.config.json").write_text(json.dumps(config), encoding="utf-8")
    return Program(folder).start("extract", "etl.config.json", "--json", *arguments)


# -- a pooler that restarts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_while_a_pooler_restarts_every_addition_is_made_once(place: Place, mode: str) -> None:
    with poolers(place.server, mode) as pooler, ThreadPoolExecutor(1) as threads:
        url = place.tcp_url(port=pooler.port)
        begun, restarted = threading.Event(), threading.Event()

        def write() -> list[str]:
            heard: list[str] = []
            with DownloadManifestManager(url, META, options=PATIENT) as manifest:
                while not restarted.is_set() or len(heard) % 100:
                    name = f"c{len(heard)}"
                    heard.append(str(manifest.add(record(name, len(heard), source=name)).verdict))
                    begun.set()
            return heard

        writer = threads.submit(write)
        assert begun.wait(PATIENCE_S)
        pooler.stop()
        pooler.start()
        restarted.set()
        heard = writer.result(PATIENCE_S)
    with DownloadManifestManager(place.url(), read_only=True) as manifest:
        assert (set(heard), len(manifest)) == ({"new"}, len(heard))


@pytest.mark.parametrize("mode", MODES)
def test_a_run_registers_what_it_fetched_while_its_pooler_restarted(place: Place, tmp_path: Path, mode: str) -> None:
    go_on = threading.Event()
    with poolers(place.server, mode) as pooler, misbehaving() as server:
        url = server.script("/a", answers.slow(b"a body of some length", 5, go_on))
        process = begun(tmp_path, place.tcp_url("", port=pooler.port), url)
        server.wait_until(lambda books: books.bodies["/a"] > 0)
        pooler.stop()
        go_on.set()
        pooler.start()
        found = finish(process)
    assert (found.code, found.json["new"]) == (0, 1)


# -- a server that stands still ------------------------------------------------------------------------------------------


def test_a_call_waits_for_a_server_that_stands_still(place: Place) -> None:
    with DownloadManifestManager(place.url(), META, options=PATIENT) as manifest, ThreadPoolExecutor(1) as threads:
        manifest.add(record("a"))
        with place.server.still():
            added = threads.submit(manifest.add, record("b", 1))
            with pytest.raises(TimeoutError):
                added.result(0.5)
        assert added.result(PATIENCE_S).verdict is Verdict.CHANGED


def test_a_call_gives_a_server_up_that_stands_still_for_longer_than_the_limit(place: Place) -> None:
    with DownloadManifestManager(place.url(connect_timeout="2"), META, options=IMPATIENT) as manifest:
        manifest.add(record("a"))
        with place.server.still(), pytest.raises(IndeterminateWriteError, match=r"within 0\.2 s \(it stands still"):
            manifest.add(record("b", 1))
        manifest.add(record("b", 1))
        assert list(manifest) == sorted(map(sha, "ab"))


def test_a_call_that_fails_in_a_transaction_ends_although_the_server_stands_still(place: Place) -> None:
    """What it has begun cannot be rolled back."""
    with (
        DownloadManifestManager(place.url(connect_timeout="2"), META, options=IMPATIENT) as manifest,
        ExitStack() as stack,
    ):

        def fails(slot: Slot) -> None:
            slot.rows("BEGIN")
            stack.enter_context(place.server.still())
            raise ValueError("refused")

        with time_limit(PATIENCE_S), pytest.raises(ValueError, match="refused"):
            engine_of(manifest).pool.call(fails)


@pytest.mark.parametrize("records", [1, 20_000])
def test_a_copy_ends_if_the_server_stands_still(place: Place, records: int) -> None:
    """Whether it waits for an answer, or for room to send more."""
    with DownloadManifestManager("memory:x_copied", META, options=IMPATIENT) as source, ExitStack() as stack:
        source.add_many([record(f"c{number}", number) for number in range(records)])
        steps: list[progress.Step] = []

        def stop(step: progress.Step) -> None:
            if not steps:
                stack.enter_context(place.server.still())
            steps.append(step)

        with (
            time_limit(PATIENCE_S),
            progress.shown(stop),
            pytest.raises(ManifestError, match="it stands still"),
        ):
            source.copy_to(place.url(connect_timeout="2"))
        assert steps


def test_a_call_that_takes_longer_than_the_limit_is_waited_for_if_the_server_is_there(place: Place) -> None:
    with DownloadManifestManager(place.url(), META, options=IMPATIENT) as manifest:
        slept = engine_of(manifest).pool.call(lambda slot: slot.rows("SELECT 1 FROM pg_sleep(1.5)"))
        assert slept == [(1,)]


@pytest.mark.slow
def test_a_run_ends_if_the_server_stands_still(place: Place, tmp_path: Path) -> None:
    go_on = threading.Event()
    with misbehaving() as server:
        url = server.script("/a", answers.slow(b"a body of some length", 5, go_on))
        process = begun(tmp_path, place.url("", connect_timeout="2"), url, "--lock-timeout", "1")
        server.wait_until(lambda books: books.bodies["/a"] > 0)
        with place.server.still():
            go_on.set()
            found = finish(process)
        assert (found.code, found.error["message"].count("it stands still")) == (11, 1)


def test_who_comes_while_a_server_stands_still_hears_so_in_one_line(place: Place, tmp_path: Path) -> None:
    run = Program(tmp_path)
    run.here("init", place.url())
    with place.server.still():
        found = run.here("list", place.url(connect_timeout="2"))
    assert (found.code, found.err.count("\n"), "no connection: " in found.err) == (1, 1, True)
