"""The Python examples of README and guide are typed: whoever pastes one into a strict project gets no error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "GUIDE.md")
_PYTHON = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _examples() -> dict[str, str]:
    """Every block by a name of its own."""
    return {
        f"{page.stem.lower()}_{number}.py": code
        for page in PAGES
        for number, code in enumerate(_PYTHON.findall(page.read_text("utf-8")), 1)
    }


def test_both_pages_have_examples() -> None:
    assert {name.partition("_")[0] for name in _examples()} == {"readme", "guide"}


def test_mypy_strict_has_nothing_to_say(tmp_path: Path) -> None:
    """With no configuration but `--strict`, as in a project of the reader's own."""
    examples = _examples()
    for name, code in examples.items():
        (tmp_path / name).write_text(code, "utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *sorted(examples)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
