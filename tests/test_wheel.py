"""The wheel builds, and works with its runtime dependencies alone."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with nothing but the built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("manifestlog-*.whl")
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
