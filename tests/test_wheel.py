"""The sdist and the wheel build. The sdist has what `make test` needs; the wheel works with its dependencies alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import manifestlog

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with nothing but the built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = built.glob("manifestlog-*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", str(wheel)], check=True)
    return python.parent


def _run(command: Path, *arguments: str, cwd: Path) -> str:
    return subprocess.run([command, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_the_installed_program_registers_and_finds_a_file(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("content")
    program = installed / "manifestlog"
    added = json.loads(_run(program, "--json", "add", "files_download", "data", "--jobs", "2", cwd=tmp_path))
    record = json.loads(_run(program, "get", "files_download", "--source", "a.txt", "--json", cwd=tmp_path))
    _run(program, "has", "files_download", record["checksum"], cwd=tmp_path)
    assert (added["new"], record["file_size"]) == (1, 7)


def test_the_installed_package_tells_type_checkers_that_it_is_typed(installed: Path, tmp_path: Path) -> None:
    code = "import manifestlog, os; print(os.listdir(os.path.dirname(manifestlog.__file__)))"
    assert "py.typed" in _run(installed / "python", "-c", code, cwd=tmp_path)


# -- what is in them ---------------------------------------------------------------------------------------------------

FOR_MAKE_TEST = (
    ".ci",
    ".github",
    "LICENSE",
    "Makefile",
    "README.md",
    "manifests",
    "pyproject.toml",
    "requirements-dev.lock",
)
SOURCES = ("src", "tests", "benchmarks", "docs", "examples", "manifests")


@pytest.fixture(scope="module")
def in_the_sdist(built: Path) -> set[str]:
    """The names of its files, without the folder that all of them are in."""
    (sdist,) = built.glob("manifestlog-*.tar.gz")
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def test_the_sdist_has_what_make_test_needs(in_the_sdist: set[str]) -> None:
    top = {name.partition("/")[0] for name in in_the_sdist}
    assert set(FOR_MAKE_TEST) | set(SOURCES) <= top


def test_the_sdist_has_every_source(in_the_sdist: set[str]) -> None:
    here = {str(path.relative_to(ROOT)) for folder in SOURCES for path in (ROOT / folder).rglob("*.py")}
    assert here - in_the_sdist == set()


def test_the_sdist_has_nothing_that_was_built(in_the_sdist: set[str]) -> None:
    built = {".venv", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "dist", "build", "site"}
    assert {name for name in in_the_sdist if name.partition("/")[0] in built or name.endswith(".pyc")} == set()


@pytest.fixture(scope="module")
def metadata(built: Path) -> Message:
    """The metadata of the wheel."""
    (wheel,) = built.glob("manifestlog-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_the_metadata_names_licence_and_links(metadata: Message) -> None:
    links = {link.partition(",")[0] for link in metadata.get_all("Project-URL", [])}
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert links >= {"Homepage", "Documentation", "Changelog", "Issues", "Source"}


def test_the_metadata_has_the_packages_version(metadata: Message) -> None:
    assert metadata["Version"] == manifestlog.__version__
