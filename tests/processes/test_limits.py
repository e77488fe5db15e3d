"""What the system refuses: descriptors, processes, threads. A run goes on with fewer workers or ends; it never hangs."""

from __future__ import annotations

import errno
import http.server
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import Program, Result, open_manifest, records_of
from extract.builders import raw_config
from manifestlog import ManifestError
from manifestlog.cli.app import main
from manifestlog.extract import Defaults, ETLSource, PipelineOrchestrator
from manifestlog.workers.messages import Done, next_task
from manifestlog.workers.pool import Pool
from support.accepting import accepting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Link, Start

FILES = 60
FEWER = "the system cannot run"
NAME = "files_extractor"
UID = 54_321
"""Nobody else's, so that its processes are ours alone."""


@pytest.fixture
def run(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A manifest of sixty small files."""
    tree = tmp_path / "data"
    tree.mkdir()
    for n in range(FILES):
        (tree / f"{n}.txt").write_text(str(n), encoding="ascii")
    path = tmp_path / "manifests" / f"{NAME}.manifest.json"
    with open_manifest(path) as manifest:
        manifest.add_many(records_of(tree))
    return path


@pytest.fixture
def url() -> Iterator[str]:
    """A server of which every address is a file of its own."""

    class _Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.path.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server, accepting(server):
        yield f"http://127.0.0.1:{server.server_port}"


def limited(run: Program, limit: str, *arguments: object, before: tuple[str, ...] = ()) -> Result:
    """The program under a limit of its shell."""
    command = ["bash", "-c", f'ulimit {limit}; exec "$@"', "-", sys.executable, "-m", "manifestlog"]
    done = subprocess.run(
        [*before, *command, *map(str, arguments)], cwd=run.home, capture_output=True, text=True, timeout=40, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def test_verify_continues_with_fewer_workers(run: Program, filled: Path) -> None:
    result = limited(run, "-n 64", "verify", filled, "-j", 40, "--json")
    assert (result.code, result.json["ok"]) == (0, FILES)


@pytest.mark.usefixtures("filled")
def test_fewer_workers_are_logged_once(run: Program) -> None:
    assert limited(run, "-n 64", "verify", NAME, "-j", 40).err.count(FEWER) == 1


@pytest.mark.usefixtures("filled")
def test_with_enough_descriptors_nothing_is_logged(run: Program) -> None:
    assert FEWER not in limited(run, "-n 256", "verify", NAME, "-j", 4).err


def test_add_continues_with_fewer_workers(run: Program) -> None:
    (run.home / "data").mkdir()
    for n in range(12):  # each a batch of its own
        with (run.home / "data" / str(n)).open("wb") as file:
            file.write(bytes([n]))
            file.truncate(17 << 20)
    result = limited(run, "-n 52", "add", NAME, "data", "-j", 40, "--json")
    assert (result.code, result.json["new"], result.err.count(FEWER)) == (0, 12, 1)


def test_extract_continues_with_fewer_workers(run: Program, url: str) -> None:
    sources = [{"source_id": f"s{n}", "dataset": "dumps", "url": f"{url}/{n}"} for n in range(50)]
    (run.home / "c.json").write_text(json.dumps(raw_config(*sources, defaults={"jobs": 50, "retries": 0})))
    result = limited(run, "-n 72", "extract", "c.json", "--json")
    assert (result.code, result.json["new"], result.err.count(FEWER)) == (0, 50, 1)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("most", range(9, 40, 3))
def test_no_number_of_descriptors_makes_a_run_hang(run: Program, most: int) -> None:
    assert limited(run, f"-n {most}", "verify", NAME, "-j", 40).code in {0, 1}


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to be somebody else")
@pytest.mark.parametrize("most", [1, 2, 3, 8, 12])
def test_no_number_of_processes_makes_a_run_hang(run: Program, filled: Path, most: int) -> None:
    keeps = "-all,+dac_override"  # the right to read our files; root itself has no limit
    other = ("setpriv", f"--reuid={UID}", f"--inh-caps={keeps}", f"--ambient-caps={keeps}")
    result = limited(run, f"-u {most}", "verify", filled, "-j", 16, before=other)
    assert (result.code in {0, 1}, len(result.err.splitlines()) <= 2) == (True, True), result  # a warning, an error


class _Heard:
    def __init__(self) -> None:
        self.results: list[Any] = []

    def on_progress(self, news: Any) -> None:
        """Nothing is told."""

    def on_done(self, result: Any) -> None:
        self.results.append(result)

    def on_worker_died(self, task: Any, how: str) -> bool:
        raise AssertionError(f"{task}: {how}")


def _never(_parent: Link, _job: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _one_at_a_time(parent: Link, job: str) -> None:
    """A worker of a system that has room for one."""
    try:
        os.close(os.open(job, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
    try:
        while (task := next_task(parent)) is not None:
            parent.send(Done(task))
    finally:
        os.unlink(job)


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_it_is_an_error_if_no_worker_can_start(jobs: int) -> None:
    with pytest.raises(ManifestError, match="no worker process"), Pool(_never, None, iter(range(9)), jobs) as pool:
        pool.run(_Heard())


def test_the_task_of_a_worker_that_could_not_start_is_done_by_another(tmp_path: Path) -> None:
    heard = _Heard()
    with Pool(_one_at_a_time, str(tmp_path / "room"), iter(range(40)), 6) as pool:
        pool.run(heard)
    assert sorted(heard.results) == list(range(40))


def test_an_error_while_workers_are_started_leaves_none() -> None:
    def tasks() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        Pool(_never, None, tasks(), 4)
    assert multiprocessing.active_children() == []


# -- where worker processes are forbidden ------------------------------------------------------------------------------


def _daemonic(body: Callable[..., object], *args: object) -> Any:
    """What a daemonic process finds, as Celery's and Airflow's workers are."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(body(*args)), daemon=True)
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    ours.close()
    return found


def _extract(path: Path, data_dir: Path, url: str) -> list[str]:
    sources = [ETLSource(source_id=f"s{n}", dataset="dumps", url=f"{url}/{n}") for n in range(3)]
    with open_manifest(path) as manifest:
        orchestrator = PipelineOrchestrator(manifest, data_dir=data_dir, defaults=Defaults(jobs=2))
        return [outcome.result for outcome in orchestrator.run(sources).outcomes]


def test_a_daemonic_process_fetches_by_itself(tmp_path: Path, url: str) -> None:
    path = tmp_path / "manifests" / "systems_download.manifest.json"
    assert _daemonic(_extract, path, tmp_path / "data", url) == ["new"] * 3


def _said(*arguments: str) -> tuple[int, str]:
    return (result := Program(Path.cwd()).here(*arguments)).code, result.err


def test_a_verb_in_a_daemonic_process_says_what_to_do(filled: Path) -> None:
    code, said = _daemonic(_said, "verify", str(filled))
    assert (code, "daemonic" in said, said.count("\n")) == (1, True, 1)


def test_doctor_in_a_daemonic_process_ends_well(filled: Path) -> None:
    assert _daemonic(_said, "--dir", str(filled.parent), "doctor")[0] == 0


def test_a_verb_runs_in_any_thread(start: Start, filled: Path) -> None:
    assert start(_in_thread, filled).result() == 0


def _in_thread(_link: Link, path: Path) -> int:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["verify", str(path), "--quiet"])))
    thread.start()
    thread.join()
    return codes[0]
