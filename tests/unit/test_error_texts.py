"""The texts of errors: where, what, and what to do."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from manifestlog import DiskFullError
from manifestlog.error_texts import explained, named, reason
from manifestlog.files import disk

if TYPE_CHECKING:
    from pathlib import Path


def said(number: int, path: str | bytes | int | None = "/none/file") -> OSError:
    """Return an error as the system raises it."""
    return OSError(number, os.strerror(number)) if path is None else OSError(number, os.strerror(number), path)


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_has_advice(number: int) -> None:
    what, _, advice = reason(said(number)).partition("; ")
    assert (what, bool(advice)) == (os.strerror(number), True)


def test_the_place_comes_first() -> None:
    assert explained(said(errno.EIO)).startswith("/none/file: Input/output error; ")


def test_a_place_of_bytes_is_text() -> None:
    assert explained(said(errno.EIO, b"/none/file")).startswith("/none/file: ")


def test_without_a_place_it_is_the_system_that_reports() -> None:
    expected = "the system reports: Too many open files; raise the limit on open files (`ulimit -n`)"
    assert explained(said(errno.EMFILE, None)) == expected


def test_advice_that_is_there_is_kept() -> None:
    assert explained(OSError(errno.EIO, "it broke; mend it", "/f")) == "/f: it broke; mend it"


def test_an_error_of_this_library_stays_as_it_is() -> None:
    error = DiskFullError("/m", said(errno.ENOSPC))
    assert explained(error) == error.message


def test_an_error_without_text_is_named_by_its_class() -> None:
    assert explained(ValueError()) == "ValueError"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR])
def test_a_file_that_cannot_be_created_is_reported_of_the_directory(tmp_path: Path, number: int) -> None:
    path = tmp_path / "below" / "a_b.manifest.lock"
    assert explained(said(number, str(path))).startswith(f"{tmp_path}: ")


def test_a_relative_path_ends_at_the_working_directory() -> None:
    assert explained(said(errno.EACCES, "no-such-file")).startswith(".: Permission denied; ")


def test_a_symbolic_link_is_called_so(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("target")
    with pytest.raises(OSError, match="symbolic links") as found:
        disk.open_read(str(link))
    assert explained(found.value) == (
        f"{link}: it is a symbolic link (to target), which is not followed here; use the file itself"
    )


def test_a_circle_of_links_above_a_file_is_not_called_a_link(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links") as found:
        disk.open_read(str(tmp_path / "circle" / "file"))
    assert reason(found.value).startswith(f"{os.strerror(errno.ELOOP)}; correct the symbolic links")


def test_a_link_to_itself_is_not_called_a_link(tmp_path: Path) -> None:
    """Nothing is at its end that could be used."""
    (link := tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links") as found:
        link.stat()
    assert reason(found.value).startswith(f"{os.strerror(errno.ELOOP)}; correct the symbolic links")


def test_an_error_of_other_code_keeps_its_class() -> None:
    assert named(ValueError("no header")) == "ValueError: no header"


def test_an_error_of_other_code_without_text_is_its_class_alone() -> None:
    assert named(ValueError()) == "ValueError"


# -- the disk names its files ------------------------------------------------------------------------------------------


def test_a_failed_read_names_its_file(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError) as found:
            disk.read(fd, 1, 0)
    finally:
        disk.close(fd)
    assert found.value.filename == str(tmp_path)


def test_a_failed_append_names_its_file() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left") as found:
            disk.append(fd, b"x")
    finally:
        disk.close(fd)
    assert found.value.filename == "/dev/full"


def test_a_failed_sync_names_its_file() -> None:
    fd = os.open("/dev/null", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="Invalid argument") as found:
            disk.sync_data(fd)
    finally:
        disk.close(fd)
    assert found.value.filename == "/dev/null"


def test_a_pipe_has_no_name() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError) as found:
            disk.append(writing, b"x")
    finally:
        disk.close(writing)
    assert found.value.filename is None
