"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _quick_start() -> str:
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_quick_start_prints_what_its_comments_say(tmp_path: Path) -> None:
    code = _quick_start()
    expected = [line.rpartition("# ")[2].strip() for line in code.splitlines() if "print(" in line]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_test_folder_that_the_readme_names_as_a_promise_s_proof_exists() -> None:
    for target in re.findall(r"`((?:tests|benchmarks)/[^`]*)`", (ROOT / "README.md").read_text("utf-8")):
        assert (ROOT / target).exists(), target
