"""Which file system a folder is on, from the kernel's table of mounts; and the warnings on opening."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog.engines.filelog import driver, mounts
from manifestlog.engines.filelog.mounts import Kind, file_system, kind
from manifestlog.files import system

from .builders import record

if TYPE_CHECKING:
    from .conftest import Opener

TABLE = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:40 / /mnt/etl rw,relatime shared:7 - nfs4 server:/etl rw,vers=4.2,addr=10.0.0.1
31 27 0:41 / /mnt/with\\040space rw,relatime - cifs //server/share rw
32 27 0:42 / /mnt/etl/scratch rw - tmpfs tmpfs rw,size=1g
33 27 0:43 / /home/me/remote rw shared:9 master:2 - fuse.sshfs me@host:/ rw
34 27 0:44 /sub /data rw - btrfs /dev/vdb rw,subvol=/sub
35 27 0:45 / /mnt/etl/scratch rw - overlay overlay rw,lowerdir=/a:/b
"""
UNKNOWN = os.makedev(0, 999)


@pytest.mark.parametrize(
    ("minor", "found"), [(40, "nfs4"), (41, "cifs"), (42, "tmpfs"), (43, "fuse.sshfs"), (44, "btrfs"), (4, None)]
)
def test_a_device_is_found_by_its_number(minor: int, found: str | None) -> None:
    assert file_system(TABLE, os.makedev(0, minor), "relative") == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/srv/etl", "ext4"),
        ("/mnt/etl", "nfs4"),
        ("/mnt/etl/manifests", "nfs4"),
        ("/mnt/etl2", "ext4"),
        ("/mnt/with space/x", "cifs"),
        ("/mnt/etl/scratch/x", "overlay"),
    ],
)
def test_without_its_number_the_innermost_mount_counts(path: str, found: str) -> None:
    assert file_system(TABLE, UNKNOWN, path) == found


@pytest.mark.parametrize("table", ["", "\n", "junk\n", "1 2 3\n", "1 2 0:999 / / rw\n", " - \n"])
def test_a_table_without_the_device_gives_none(table: str) -> None:
    assert file_system(table, UNKNOWN, "/srv") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ext4", Kind.LOCAL),
        ("xfs", Kind.LOCAL),
        ("fuseblk", Kind.LOCAL),
        ("fuse.mergerfs", Kind.LOCAL),
        (None, Kind.LOCAL),
        ("nfs", Kind.NETWORK),
        ("smb3", Kind.NETWORK),
        ("9p", Kind.NETWORK),
        ("fuse", Kind.NETWORK),
        ("fuse.s3fs", Kind.NETWORK),
        ("tmpfs", Kind.MEMORY),
        ("overlay", Kind.OVERLAY),
    ],
)
def test_each_type_has_a_meaning(name: str | None, expected: Kind) -> None:
    assert kind(name) is expected


def test_a_block_device_is_not_looked_up() -> None:
    assert not mounts.may_be_remote(os.makedev(254, 0))


# -- on opening -------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_nfs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every folder is on an NFS; gives the looks at the table of mounts."""
    looks: list[str] = []

    def table() -> str:
        looks.append("look")
        return TABLE

    monkeypatch.setattr(system, "device", lambda _path: os.makedev(0, 40))
    monkeypatch.setattr(system, "mount_table", table)
    driver._warn_of_network.cache_clear()
    return looks


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_opening_on_a_network_file_system_warns(
    on_nfs: list[str], opener: Opener, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opener()
    (said,) = _warnings(caplog)
    assert str(directory) in said
    assert "nfs4" in said
    assert "keep the manifest on a local disk" in said


def test_it_warns_once_a_process_and_directory(
    on_nfs: list[str], opener: Opener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opener().close()
    opener().close()
    opener(path=path.with_name("other_download.manifest.json"))
    assert len(_warnings(caplog)) == 1


def test_another_directory_is_another_warning(
    on_nfs: list[str], opener: Opener, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opener()
    opener(path=directory.parent / "more" / "other_download.manifest.json")
    assert len(_warnings(caplog)) == 2


def test_the_table_of_mounts_is_read_once(on_nfs: list[str], opener: Opener) -> None:
    for _ in range(3):
        opener().close()
    assert on_nfs == ["look"]


def test_a_local_disk_gives_no_warning(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    opener()
    assert _warnings(caplog) == []


def test_an_unreadable_mount_table_does_not_prevent_opening(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: str) -> int:
        raise OSError

    monkeypatch.setattr(system, "device", fail)
    assert opener().add(record()).verdict == "new"


def test_a_canonical_with_two_names_gives_a_warning(
    opener: Opener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opener().close()
    os.link(path, path.with_name("copy.json"))
    opener()
    (said,) = _warnings(caplog)
    assert "has 2 names" in said


def test_a_name_left_by_a_dead_creator_gives_no_warning(
    opener: Opener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opener().close()
    os.link(path, f"{path}.tmp-999999-deadbeef")
    opener().compact()
    assert _warnings(caplog) == []
