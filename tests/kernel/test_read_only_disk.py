"""A file system that becomes read-only: by hand, and as ext4 does it when it finds an error, under an open manager.

Holds "reading takes no lock and never writes" of `docs/FORMAT.md`, section 8, where writing is impossible, "acknowledged
means kept" over the remount, and that an error says what happened, where, and what to do.
"""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import AddManyStoppedError, DownloadManifestManager, ManifestError
from support.integrity import load_canonical, temporaries
from support.records import MANUAL, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.mounts import Mounted

ROUNDS = (1, 2)


def _create(mounted: Mounted) -> None:
    """A manifest with a canonical, an index, and a log behind them."""
    with DownloadManifestManager(mounted.path, metadata(), options=QUICK) as manifest:
        manifest.add_many([make_record(n) for n in range(5)])
        manifest.compact()
        manifest.add_many([make_record(n) for n in range(5, 10)])


def _check_reading(manifest: DownloadManifestManager, count: int = 10) -> None:
    assert list(manifest) == sorted(checksum(n) for n in range(count))
    assert [manifest.get(checksum(n)) for n in range(count)] == [make_record(n) for n in range(count)]
    assert manifest.get_record_by_source("source-3") == make_record(3)


def _refused(act: Callable[[], object]) -> OSError:
    """The error of a change; it says where, and what to do."""
    with pytest.raises(OSError, match="Read-only file system") as caught:
        act()
    assert caught.value.errno == errno.EROFS
    assert caught.value.filename is not None
    assert "read_only=True" in str(caught.value)
    return caught.value


def _program(mounted: Mounted, *arguments: str) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("manifestlog")), "--dir", str(mounted.path.parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


# -- by hand -----------------------------------------------------------------------------------------------------------


def read_on_a_read_only_disk(mounted: Mounted) -> None:
    _create(mounted)
    with DownloadManifestManager(mounted.path, options=MANUAL, read_only=True) as manifest:
        _check_reading(manifest)
        mounted.remount("ro")
        _check_reading(manifest)
    with DownloadManifestManager(mounted.path, options=MANUAL, read_only=True) as manifest:
        _check_reading(manifest)
    mounted.remount("rw")


def test_reading_continues_when_the_disk_becomes_read_only(on_tmpfs: Callable[..., None]) -> None:
    """For a reader that is open, and for one that opens then."""
    on_tmpfs(read_on_a_read_only_disk)


def write_on_a_read_only_disk(mounted: Mounted) -> None:
    _create(mounted)
    mounted.remount("ro")
    error = _refused(lambda: DownloadManifestManager(mounted.path, options=QUICK))
    assert str(mounted.path.parent) in str(error)
    mounted.remount("rw")
    with DownloadManifestManager(mounted.path, options=QUICK) as manifest:
        assert manifest.add(make_record(10)).verdict == "new"
        _check_reading(manifest, 11)
        manifest.save()


def test_a_writer_cannot_open_on_a_read_only_disk(on_tmpfs: Callable[..., None]) -> None:
    """It says that the file system is read-only and how to read all the same; writable again, all goes on."""
    on_tmpfs(write_on_a_read_only_disk)


def change_under_an_open_writer(mounted: Mounted) -> None:
    # Without a log no file is open for writing yet, and the kernel lets the disk be made read-only.
    DownloadManifestManager(mounted.path, metadata(), options=QUICK).close()
    with DownloadManifestManager(mounted.path, options=QUICK) as manifest:
        for number in ROUNDS:
            before = mounted.path.read_bytes()
            mounted.remount("ro")
            _refused(functools.partial(manifest.add, make_record(number)))
            _refused(manifest.compact)
            with pytest.raises(AddManyStoppedError, match="Read-only file system"):
                manifest.add_many([make_record(number)])
            assert (list(manifest), mounted.path.read_bytes()) == ([], before)
            mounted.remount("rw")
        assert manifest.add(make_record(0)).verdict == "new"
        manifest.save()


def test_changes_are_refused_while_the_disk_is_read_only(on_tmpfs: Callable[..., None]) -> None:
    """`add`, `add_many` and `compact` say so, each time; reading goes on, and so does writing afterwards."""
    on_tmpfs(change_under_an_open_writer)


def create_on_a_read_only_disk(mounted: Mounted) -> None:
    mounted.path.parent.mkdir(exist_ok=True)
    mounted.remount("ro")
    _refused(lambda: DownloadManifestManager(mounted.path, metadata(), options=QUICK))
    _refused(lambda: DownloadManifestManager(mounted.root / "new" / mounted.path.name, metadata(), options=QUICK))
    mounted.remount("rw")
    assert os.listdir(mounted.path.parent) == []


def test_creating_on_a_read_only_disk_is_refused(on_tmpfs: Callable[..., None]) -> None:
    """Nothing is made, and the error says what to do."""
    on_tmpfs(create_on_a_read_only_disk)


def use_the_program(mounted: Mounted) -> dict[str, tuple[int, str]]:
    _create(mounted)
    raw = mounted.root / "raw.csv"
    raw.write_text("1,2,3")
    mounted.remount("ro")
    name = "systems_download"
    said = {
        "has": _program(mounted, "has", name, checksum(3)),
        "list": _program(mounted, "list", name),
        "check": _program(mounted, "check", name),
        "add": _program(mounted, "add", name, str(raw)),
        "compact": _program(mounted, "compact", name),
        "init": _program(mounted, "init", "bodies_download"),
    }
    mounted.remount("rw")
    return said


def test_the_program_on_a_read_only_disk(on_tmpfs: Callable[..., dict[str, tuple[int, str]]]) -> None:
    """What reads succeeds; what writes ends with 1 and one line that says why, without a traceback."""
    said = on_tmpfs(use_the_program)
    codes = {verb: code for verb, (code, _) in said.items()}
    reads = ("has", "list", "check")
    assert codes == {verb: 0 if verb in reads else 1 for verb in said}, said
    for verb in ("add", "compact", "init"):
        assert "Read-only file system" in said[verb][1]
        assert "Traceback" not in said[verb][1]


# -- by an error of the file system ------------------------------------------------------------------------------------


def lose_the_disk_under_a_writer(mounted: Mounted, device: str) -> None:
    _create(mounted)
    with DownloadManifestManager(mounted.path, options=MANUAL) as manifest:
        manifest.add(make_record(10))
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")
        with pytest.raises((ManifestError, OSError)) as caught:
            manifest.add(make_record(11))
        assert str(mounted.path.parent) in str(caught.value)
        assert "nothing was written, and all earlier writes are kept" in str(caught.value)
        for act in (manifest.compact, lambda: manifest.forget(checksum(1)), lambda: manifest.add(make_record(12))):
            with pytest.raises((ManifestError, OSError)):
                act()
        _check_reading(manifest, 11)
    with DownloadManifestManager(mounted.path, options=MANUAL, read_only=True) as manifest:
        _check_reading(manifest, 11)
    mounted.mount_again(device, "errors=remount-ro")
    with DownloadManifestManager(mounted.path, options=MANUAL) as manifest:
        _check_reading(manifest, 11)
        assert manifest.add(make_record(11)).verdict == "new"
        manifest.save()
    assert temporaries(mounted.path.parent) == []
    assert len(load_canonical(mounted.path)["records"]) == 12


def test_an_error_of_the_file_system_under_an_open_writer(on_ext4: Callable[..., None]) -> None:
    """The kernel makes it read-only: changes are refused, reading goes on; mounted again, all that was acknowledged is there."""
    on_ext4(lose_the_disk_under_a_writer)


def test_the_mount_is_seen_by_no_other_process(on_tmpfs: Callable[..., None], root: Path) -> None:
    """The helper mounts in a namespace of the child's own: a killed test leaves nothing mounted."""
    on_tmpfs(_create)
    assert list(root.iterdir()) == []
