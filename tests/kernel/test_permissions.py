"""A directory, and files in it, that somebody else has made: what a process without rights can do, and what it is told.

Holds that reading needs nothing but the right to read (`docs/FORMAT.md`, section 8), that a manifest which cannot be read
is never taken for one that is not there or is damaged, and that an error names the file and says what to do.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from manifestlog.cli.app import main
from support.integrity import active_segment, checked, load_canonical
from support.records import NAME, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Child, Link, Start

NOBODY = 65534
COUNT = 10


@pytest.fixture
def path() -> Iterator[Path]:
    """A manifest of ours, with canonical, index and log, where others may read and nobody else write."""
    with tempfile.TemporaryDirectory() as root:  # not below `tmp_path`, which is for its owner only
        os.chmod(root, 0o755)
        with checked(Path(root) / "manifests") as directory:
            found = directory / NAME
            with DownloadManifestManager(found, metadata(), options=QUICK) as manifest:
                manifest.add_many([make_record(n) for n in range(5)])
                manifest.compact()
                manifest.add_many([make_record(n) for n in range(5, COUNT)])
            modes = {entry: entry.stat().st_mode & 0o777 for entry in (directory, *directory.iterdir())}
            yield found
            for entry, mode in modes.items():
                if entry.exists():
                    entry.chmod(mode)


def as_nobody(link: Link, act: Callable[..., object], *args: object) -> object:
    """For a child: do it without the rights that root has over every file."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return act(link, *args)


@pytest.fixture
def nobody(start: Start) -> Callable[..., Child]:
    """Start a child without rights: `nobody(function, *args)`."""
    return lambda act, *args: start(as_nobody, act, *args)


def read(_link: Link, path: Path) -> list[str]:
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert manifest.get(checksum(7)) == make_record(7)
        return list(manifest)


def add(_link: Link, path: Path) -> str:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        return manifest.add(make_record(COUNT)).verdict


def failure(_link: Link, act: Callable[..., object], path: Path) -> tuple[str, str]:
    """The kind of the error, and what it says."""
    try:
        act(_link, path)
    except OSError as error:
        return type(error).__name__, str(error)
    raise AssertionError("it was allowed")


def program(_link: Link, *arguments: str) -> tuple[int, str]:
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(arguments)
    return code, said.getvalue()


EVERYTHING = sorted(checksum(n) for n in range(COUNT))


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o755, 0o555])
def test_reading_needs_no_right_to_write(path: Path, nobody: Callable[..., Child], mode: int) -> None:
    """Neither in the directory nor in the files, lock files included."""
    path.parent.chmod(mode)
    for name in (".lock", ".compact.lock"):
        path.with_name(NAME.replace(".json", name)).chmod(0o600)
    assert nobody(read, path).result() == EVERYTHING


def test_an_unreadable_index_is_ignored(path: Path, nobody: Callable[..., Child]) -> None:
    """It is derived: the canonical says the same."""
    path.with_name(NAME.replace(".json", ".idx")).chmod(0)
    assert nobody(read, path).result() == EVERYTHING


UNREADABLE: dict[str, Callable[[Path], None]] = {
    "directory without search": lambda path: path.parent.chmod(0o644),
    "directory without listing": lambda path: path.parent.chmod(0o711),
    "canonical": lambda path: path.chmod(0),
    "segment": lambda path: active_segment(path).chmod(0),
}


@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("act", [read, add])
def test_an_unreadable_file_is_reported(
    path: Path, nobody: Callable[..., Child], what: str, act: Callable[..., object]
) -> None:
    """It is no missing and no damaged manifest, and never one with less in it: the error names the place."""
    UNREADABLE[what](path)
    kind, text = nobody(failure, act, path).result()
    assert kind == "PermissionError"
    assert str(path.parent) in text


@pytest.mark.parametrize("what", ["directory without search", "canonical", "segment"])
def test_the_program_reports_an_unreadable_file(path: Path, nobody: Callable[..., Child], what: str) -> None:
    """It ends with 1, not with "no", "no such manifest" or "damaged", and says why."""
    UNREADABLE[what](path)
    code, said = nobody(program, "--dir", str(path.parent), "list", "systems_download").result()
    assert (code, "Permission denied" in said, str(path.parent) in said) == (1, True, True), said


@pytest.mark.parametrize("what", ["directory without search", "canonical", "segment"])
def test_the_program_says_what_to_do_about_an_unreadable_file(
    path: Path, nobody: Callable[..., Child], what: str
) -> None:
    UNREADABLE[what](path)
    _, said = nobody(program, "--dir", str(path.parent), "list", "systems_download").result()
    assert "Permission denied; ask its owner for access" in said, said


def test_the_program_refuses_a_directory_that_it_may_not_list(path: Path, nobody: Callable[..., Child]) -> None:
    """As a wrong value of `--dir`: usage."""
    path.parent.chmod(0o711)
    code, said = nobody(program, "--dir", str(path.parent), "list", "systems_download").result()
    assert (code, "not readable; ask its owner for access" in said) == (2, True), said


def test_nothing_is_created_over_an_unreadable_file(path: Path, nobody: Callable[..., Child]) -> None:
    """With metadata at hand, an unreadable manifest is not taken for a missing one."""
    before = path.read_bytes()
    path.chmod(0)
    path.parent.chmod(0o777)
    kind, _ = nobody(failure, create, path).result()
    assert (kind, path.read_bytes()) == ("PermissionError", before)


def create(_link: Link, path: Path) -> None:
    DownloadManifestManager(path, metadata(), options=QUICK).close()


# -- writing -----------------------------------------------------------------------------------------------------------


def _all_writable(path: Path) -> None:
    for entry in path.parent.iterdir():
        entry.chmod(0o777 if entry.is_dir() else 0o666)


def _all_but_the_segment(path: Path) -> None:
    _all_writable(path)
    active_segment(path).chmod(0o644)


def _all_but_the_lock(path: Path) -> None:
    _all_writable(path)
    path.with_name(NAME.replace(".json", ".lock")).chmod(0o644)


UNWRITABLE: dict[str, Callable[[Path], None]] = {
    "files": lambda path: path.parent.chmod(0o777),
    "segment": _all_but_the_segment,
    "lock file": _all_but_the_lock,
}


@pytest.mark.parametrize("what", UNWRITABLE)
def test_an_unwritable_file_is_reported(path: Path, nobody: Callable[..., Child], what: str) -> None:
    """`add` says where the right is missing, that nothing was written, and how to read all the same."""
    UNWRITABLE[what](path)
    kind, text = nobody(failure, add, path).result()
    assert kind == "PermissionError"
    assert all(part in text for part in (str(path.parent), "nothing was written", "read_only=True"))


def test_the_program_reports_an_unwritable_file(path: Path, nobody: Callable[..., Child]) -> None:
    """One line and exit code 1."""
    code, said = nobody(program, "--dir", str(path.parent), "forget", "systems_download", checksum(1)).result()
    assert (code, "ask for write permission" in said, "Traceback" in said) == (1, True, False), said


def test_the_program_gives_no_advice_for_python(path: Path, nobody: Callable[..., Child]) -> None:
    """Nobody can pass `read_only=True` to a command."""
    _, said = nobody(program, "--dir", str(path.parent), "forget", "systems_download", checksum(1)).result()
    assert "ask for write permission here; nothing was written" in said


UNWRITABLE_DIRECTORY = {
    "init": ["--dir", "{directory}", "init", "bodies_download"],
    "init below": ["--dir", "{directory}/below", "init", "bodies_download"],
    "add": ["--dir", "{directory}", "add", "bodies_download", "{data}"],
    "copy": ["--dir", "{directory}", "copy", "systems_download", "{directory}/below/"],
    "mirror": ["--dir", "{directory}", "mirror", "systems_download", "{directory}/below", "--once"],
}


@pytest.mark.parametrize("verb", UNWRITABLE_DIRECTORY)
def test_the_program_names_a_directory_that_it_may_not_write(
    path: Path, nobody: Callable[..., Child], verb: str
) -> None:
    """And not the internal file that it could not create there; and it says what to do."""
    data = path.parent.parent / "data"
    data.mkdir()
    (data / "a.txt").write_text("a")
    arguments = [text.format(directory=path.parent, data=data) for text in UNWRITABLE_DIRECTORY[verb]]
    code, said = nobody(program, *arguments).result()
    assert (code, f"manifestlog: {path.parent}: Permission denied; ask " in said) == (1, True), said


def test_the_program_says_what_to_do_about_a_directory_of_files_that_it_may_not_read(
    path: Path, nobody: Callable[..., Child]
) -> None:
    _all_writable(path)
    path.parent.chmod(0o777)
    data = path.parent.parent / "data"
    data.mkdir(mode=0o700)
    _, said = nobody(program, "--dir", str(path.parent), "add", "systems_download", str(data)).result()
    assert f"{data}: Permission denied; ask its owner for access" in said, said


def compact(_link: Link, path: Path) -> None:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.compact()


def test_a_directory_without_write_permission_lets_lines_in(path: Path, nobody: Callable[..., Child]) -> None:
    """Who may write the files can add; nothing is created for that."""
    _all_writable(path)
    path.parent.chmod(0o555)
    assert nobody(add, path).result() == "new"


def test_a_directory_without_write_permission_lets_no_compaction_in(path: Path, nobody: Callable[..., Child]) -> None:
    """It says so, and the canonical stays."""
    _all_writable(path)
    path.parent.chmod(0o555)
    before = path.read_bytes()
    kind, text = nobody(failure, compact, path).result()
    assert (kind, "ask for write permission" in text, path.read_bytes()) == ("PermissionError", True, before)


def begin(_link: Link, path: Path) -> list[str]:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(1))
        manifest.compact()
    return os.listdir(path.parent / "history")


def test_a_history_can_be_used_by_who_made_it(path: Path, nobody: Callable[..., Child]) -> None:
    """Its directory has the mode of the manifest's: with that of a file, nobody but root could enter it."""
    path.parent.chmod(0o777)
    shutil.rmtree(path.parent / "history")
    found = nobody(begin, path.with_name("bodies_download.manifest.json")).result()
    assert found == ["bodies_download.manifest.wal-000001.jsonl"]


# -- a change under an open manager ------------------------------------------------------------------------------------


def go_on(link: Link, path: Path) -> list[str]:
    """Add and compact before, during and after a time without the right to write in the directory."""
    outcomes: list[str] = []
    with DownloadManifestManager(path, options=QUICK) as manifest:
        for number in range(3):
            link.send("ready")
            link.recv()
            outcomes.append(manifest.add(make_record(100 + number)).verdict)
            try:
                outcomes.append(manifest.compact().outcome)
            except PermissionError as error:
                outcomes.append(f"refused, {'with advice' if 'ask for write permission' in str(error) else error}")
            assert len(manifest) == COUNT + number + 1
    return outcomes


def test_rights_that_are_taken_from_an_open_writer_and_given_back(path: Path, nobody: Callable[..., Child]) -> None:
    """Without them it adds on and does not compact; with them it does, and all is there."""
    _all_writable(path)
    child = nobody(go_on, path)
    for mode in (0o777, 0o555, 0o777):
        assert child.receive() == "ready"
        path.parent.chmod(mode)
        child.send("go")
    assert child.result() == ["new", "compacted", "new", "refused, with advice", "new", "compacted"]
    assert len(load_canonical(path)["records"]) == COUNT + 3
