"""The Python examples of README and guide are typed: they pass mypy in a strict project."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md")))
_PYTHON = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _examples() -> dict[str, str]:
    """Return every block by a unique file name."""
    return {
        f"{page.stem.lower()}_{number}.py".replace("-", "_"): code
        for page in PAGES
        for number, code in enumerate(_PYTHON.findall(page.read_text("utf-8")), 1)
    }


def test_readme_and_guide_have_examples() -> None:
    assert {name.partition("_")[0] for name in _examples()} == {
        "readme",
        "python",
        "history",
        "follow",
        "stages",
        "loading",
        "copy",
    }


def test_mypy_strict_finds_no_error(tmp_path: Path) -> None:
    """Run mypy with `--strict` and no other configuration, as in a reader's own project."""
    examples = _examples()
    for name, code in examples.items():
        (tmp_path / name).write_text(code, "utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *sorted(examples)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
