"""`diagnose`: what it finds on a good folder, and that each trouble is found by the test that is for it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.recovery import probes
from manifestlog.engines.filelog.recovery.doctor import diagnose
from manifestlog.engines.reports import ProbeResult, ProbeStatus
from manifestlog.files import disk, system

from .builders import record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Start

    from .conftest import Opener

TESTS = [
    "file system",
    "permissions",
    "owners",
    "free space",
    "free inodes",
    "writing",
    "atomic rename",
    "locks exclude",
    "locks end",
    "hard links",
    "directory sync",
    "sync cost",
    "file times",
    "clock",
]
LOCAL = "27 1 9:99 / / rw - ext4 /dev/vda rw\n"


def found(directory: Path, **more: Any) -> dict[str, ProbeResult]:
    return {one.test: one for one in diagnose(str(directory), **more)}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the folder without a second process, for tests of what comes before or after."""
    monkeypatch.setattr(probes, "_with_second_process", lambda _place: iter(()))


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that any user can reach; pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="manifestlog-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_good_directory_passes_every_test(directory: Path) -> None:
    assert list(found(directory)) == TESTS


def test_a_good_directory_fails_no_test(directory: Path) -> None:
    assert [one for one in found(directory).values() if one.status is ProbeStatus.FAILED] == []


def test_nothing_is_left_behind(directory: Path) -> None:
    found(directory)
    assert list(directory.iterdir()) == []


def test_manifests_are_not_touched(directory: Path, opener: Opener) -> None:
    opener().add(record())
    before = {path.name: (path.read_bytes(), path.stat()) for path in directory.iterdir()}
    found(directory)
    after = {path.name: (path.read_bytes(), path.stat()) for path in directory.iterdir()}
    for name, (data, stat) in before.items():
        assert (data, stat.st_mtime_ns, stat.st_ino) == (
            after[name][0],
            after[name][1].st_mtime_ns,
            after[name][1].st_ino,
        )
    assert before.keys() == after.keys()


def test_it_works_beside_a_writer(directory: Path, opener: Opener) -> None:
    manifest = opener()
    for number, one in enumerate(diagnose(str(directory))):
        manifest.add(record(f"beside {number}"))
        assert one.status is not ProbeStatus.FAILED


@pytest.mark.usefixtures("quick")
def test_an_iterator_that_is_closed_early_leaves_nothing(directory: Path) -> None:
    findings = diagnose(str(directory))
    while next(findings).test != "hard links":
        pass
    assert len(list(directory.iterdir())) == 1
    findings.close()
    assert list(directory.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_directory_left_by_a_killed_run_is_removed(directory: Path) -> None:
    left = directory / ".manifestlog-doctor-0123456789ab"
    left.mkdir()
    (left / "junk").touch()
    found(directory)
    assert not left.exists()


@pytest.mark.usefixtures("quick")
def test_the_directory_of_another_run_stays(directory: Path) -> None:
    findings = diagnose(str(directory))
    while next(findings).test != "hard links":
        pass
    (other,) = directory.iterdir()
    found(directory)
    assert other.exists()
    assert [one.status for one in findings if one.status is ProbeStatus.FAILED] == []


# -- what is looked at -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("file_system", "means"),
    [
        ("nfs4", "network"),
        ("cifs", "network"),
        ("tmpfs", "power cut"),
        ("overlay", "container"),
        ("fuse.sshfs", "network"),
    ],
)
def test_a_doubtful_file_system_is_a_warning(directory: Path, file_system: str, means: str) -> None:
    table = LOCAL + f"30 27 0:900 / {directory} rw - {file_system} x rw\n"
    one = found(directory, table=table)["file system"]
    assert one.status is ProbeStatus.WARNING
    assert file_system in one.found
    assert means in one.found
    assert one.advice


@pytest.mark.usefixtures("quick")
def test_a_directory_that_others_may_write_is_a_warning(directory: Path) -> None:
    directory.chmod(0o777)
    one = found(directory)["permissions"]
    assert one.status is ProbeStatus.WARNING
    assert "mode 0777" in one.found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("suffix", ["json", "idx", "lock", "wal-000001.jsonl"])
def test_a_file_that_others_may_write_is_a_warning(directory: Path, opener: Opener, suffix: str) -> None:
    manifest = opener()
    manifest.add(record())
    manifest.compact()
    manifest.close()
    file = next(
        path for path in directory.iterdir() if path.name.endswith(suffix) or suffix in path.name or "wal" in suffix
    )
    file.chmod(0o666)
    one = found(directory)["permissions"]
    assert one.status is ProbeStatus.WARNING
    assert file.name in one.found


@pytest.mark.usefixtures("quick")
def test_other_files_beside_manifests_are_ignored(directory: Path) -> None:
    (directory / "notes.txt").touch()
    (directory / "notes.txt").chmod(0o666)
    assert found(directory)["permissions"].status is ProbeStatus.OK


@pytest.mark.usefixtures("quick")
def test_a_file_of_another_user_is_a_warning(directory: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    opener().close()
    monkeypatch.setattr(system, "access", lambda _path: system.Access(0o644, os.geteuid() + 77, True))
    one = found(directory)["owners"]
    assert one.status is ProbeStatus.WARNING
    assert str(os.geteuid() + 77) in one.found


@pytest.mark.usefixtures("quick")
def test_a_file_that_we_may_not_write_fails(directory: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    opener().close()
    monkeypatch.setattr(system, "access", lambda _path: system.Access(0o644, os.geteuid() + 77, False))
    assert found(directory)["owners"].status is ProbeStatus.FAILED


@pytest.mark.usefixtures("quick")
def test_a_manifest_that_is_a_link_is_a_warning(directory: Path, opener: Opener, path: Path) -> None:
    opener().close()
    elsewhere = directory.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / path.name).symlink_to(path)
    one = found(elsewhere)["links"]
    assert one.status is ProbeStatus.WARNING
    assert str(directory) in one.advice


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("free", "verdict"), [(1000, ProbeStatus.FAILED), (50 << 20, ProbeStatus.WARNING), (1 << 40, ProbeStatus.OK)]
)
def test_free_space_must_be_enough_for_a_compaction(
    directory: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch, free: int, verdict: ProbeStatus
) -> None:
    opener().add_many(record(f"r{n}", n) for n in range(20))
    monkeypatch.setattr(system, "space", lambda _path: system.Space(free, None))
    assert found(directory)["free space"].status is verdict


@pytest.mark.usefixtures("quick")
def test_the_largest_manifest_counts(directory: Path, opener: Opener) -> None:
    opener().add_many(record(f"r{n}", n) for n in range(20))
    opener(path=directory / "small_download.manifest.json")
    assert "systems_download" in found(directory)["free space"].found


@pytest.mark.usefixtures("quick")
def test_few_inodes_are_a_warning(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "space", lambda _path: system.Space(1 << 40, 3))
    assert found(directory)["free inodes"].status is ProbeStatus.WARNING


def test_a_read_only_directory_fails_with_its_reason(open_to_all: Path, start: Start) -> None:
    def look(_link: object) -> list[ProbeResult]:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        return list(diagnose(str(open_to_all)))

    open_to_all.chmod(0o555)
    findings = {one.test: one for one in start(look).result()}
    assert findings["writing"].status is ProbeStatus.FAILED
    assert "manifests can be read" in findings["writing"].found
    assert "locks exclude" not in findings


# -- what is tried -----------------------------------------------------------------------------------------------------


def test_two_holders_of_one_lock_fail(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileLock, "try_acquire", lambda _self: True)
    one = found(directory)["locks exclude"]
    assert one.status is ProbeStatus.FAILED
    assert "two processes" in one.found


_SECOND = """
import signal, sys
from multiprocessing import util
from manifestlog.engines.filelog.recovery import probes

def spawn(path, args, passed):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if "--multiprocessing-fork" in map(str, args):
        print(sorted(map(int, blocked)))
    return real(path, args, passed)

real, util.spawnv_passfds = util.spawnv_passfds, spawn
second = probes._Second(sys.argv[1])
second.start()
print(second.ask("lock"))
second.kill()
"""
_ENDED = """
import os, signal, sys
from multiprocessing import active_children, util
from manifestlog.engines.filelog.recovery import probes

def spawn(path, args, passed):
    if "--multiprocessing-fork" in map(str, args):
        os.kill(os.getpid(), signal.SIGTERM)
    return real(path, args, passed)

real, util.spawnv_passfds = util.spawnv_passfds, spawn
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    list(probes.run_probes(sys.argv[1]))
except SystemExit as end:
    print(end.code, active_children())
"""


def test_no_signal_ends_it_before_the_second_process_knows_what_it_is(directory: Path) -> None:
    command = [sys.executable, "-c", _SECOND, os.fspath(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{sorted([int(signal.SIGINT), int(signal.SIGTERM)])}\nTrue\n"


def test_a_signal_while_the_second_process_starts_ends_that_too(directory: Path) -> None:
    command = [sys.executable, "-c", _ENDED, os.fspath(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("143 []\n", "")


def test_a_lock_that_outlives_its_holder_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill = probes._Second.kill
    calls = []

    def later(self: probes._Second) -> None:
        calls.append(self)
        if len(calls) > 1:
            kill(self)

    monkeypatch.setattr(probes._Second, "kill", later)
    monkeypatch.setattr(probes, "PATIENCE_S", 0.5)
    assert found(directory)["locks end"].status is ProbeStatus.FAILED


def test_a_system_without_locks_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FileLock) -> bool:
        if self.path.endswith("alive"):
            return True
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "try_acquire", fail)
    one = found(directory)["locks exclude"]
    assert one.status is ProbeStatus.FAILED
    assert os.strerror(errno.ENOLCK) in one.found


def test_a_second_process_that_dies_is_reported(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = probes._Second.ask

    def die(self: probes._Second, order: str) -> Any:
        self.kill()
        return ask(self, order)

    monkeypatch.setattr(probes._Second, "ask", die)
    one = found(directory)["locks exclude"]
    assert one.status is ProbeStatus.FAILED
    assert "died" in one.found


def test_a_replacement_with_a_gap_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clumsy(source: str, target: str) -> None:
        os.unlink(target)
        time.sleep(1e-3)
        os.rename(source, target)

    real = disk.replace
    monkeypatch.setattr(disk, "replace", lambda a, b: clumsy(a, b) if os.path.exists(b) else real(a, b))
    one = found(directory)["atomic rename"]
    assert one.status is ProbeStatus.FAILED
    assert " 0 times no file" not in one.found


def test_a_replacement_that_shows_half_a_file_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clumsy(source: str, target: str) -> None:
        with open(source, "rb") as new, open(target, "r+b" if os.path.exists(target) else "wb") as old:
            data = new.read()
            old.write(data[: len(data) // 2])
            old.flush()
            time.sleep(1e-3)
            old.write(data[len(data) // 2 :])
        os.unlink(source)

    monkeypatch.setattr(disk, "replace", clumsy)
    one = found(directory)["atomic rename"]
    assert one.status is ProbeStatus.FAILED
    assert " 0 times a partial file" not in one.found


@pytest.mark.usefixtures("quick")
def test_a_system_without_hard_links_is_a_warning(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", fail)
    assert found(directory)["hard links"].status is ProbeStatus.WARNING


@pytest.mark.usefixtures("quick")
def test_a_new_file_that_replaces_another_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "publish_new", os.rename)
    assert found(directory)["hard links"].status is ProbeStatus.FAILED


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("name", "test"), [("sync_directory", "directory sync"), ("sync_data", "sync cost")])
def test_a_sync_that_is_refused_fails(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, test: str) -> None:
    def fail(_what: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(disk, name, fail)
    assert found(directory)[test].status is ProbeStatus.FAILED


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0, ProbeStatus.WARNING), (0.001, ProbeStatus.OK), (0.03, ProbeStatus.WARNING)]
)
def test_a_sync_that_is_too_fast_or_slow_is_a_warning(
    directory: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, verdict: ProbeStatus
) -> None:
    now = [0.0]

    def sync(_fd: int) -> None:
        now[0] += seconds

    monkeypatch.setattr(disk, "sync_data", sync)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    one = found(directory)["sync cost"]
    assert one.status is verdict
    assert "median of" in one.found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("step_ns", [0, 2_000_000_000])
def test_coarse_file_times_are_a_warning(directory: Path, monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    now = time.time_ns()
    seen = iter([now])
    monkeypatch.setattr(disk, "stamp", lambda _fd: disk.Stamp(1, next(seen, now + step_ns), 1))
    monkeypatch.setattr(probes, "_GRANULARITY_S", 0.05)
    one = found(directory)["file times"]
    assert one.status is ProbeStatus.WARNING
    assert "coarse" in one.found


@pytest.mark.usefixtures("quick")
def test_file_times_from_another_clock_are_a_warning(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = disk.stamp
    monkeypatch.setattr(disk, "stamp", lambda fd: real(fd)._replace(mtime_ns=real(fd).mtime_ns + 60_000_000_000))
    assert "another clock" in found(directory)["file times"].found


@pytest.mark.usefixtures("quick")
def test_a_clock_that_is_set_meanwhile_is_a_warning(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    times = iter([real()])
    monkeypatch.setattr(time, "time", lambda: next(times, real() - 3600))
    one = found(directory)["clock"]
    assert one.status is ProbeStatus.WARNING
    assert "jumped by -3600" in one.found


@pytest.mark.usefixtures("quick")
def test_a_manifest_from_the_future_is_a_warning(directory: Path, opener: Opener, path: Path) -> None:
    opener().close()
    os.utime(path, (time.time() + 500, time.time() + 500))
    one = found(directory)["clock"]
    assert one.status is ProbeStatus.WARNING
    assert "set back" in one.found
