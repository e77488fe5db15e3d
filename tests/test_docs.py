"""What the README shows is what happens, and the tests that documents name are there."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# -- tests that documents name -----------------------------------------------------------------------------------------

PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
_REFERENCE = re.compile(r"`((?:tests|benchmarks)/[^`:*@ ]*)?(?:::(\w+))?`")


def _named(text: str) -> Iterator[tuple[str, str | None]]:
    """Every (file or folder, test) that a page names; `::name` alone is a test of the file before it."""
    place = ""
    for found in _REFERENCE.finditer(text):
        place = found[1] or place
        if found[1] or found[2]:
            yield place, found[2]


@cache
def _tests_in(place: str) -> set[str]:
    return set(re.findall(r"^ *def (test_\w+)\(", (ROOT / place).read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_document_names_exists(page: Path) -> None:
    for place, name in _named(page.read_text("utf-8")):
        assert (ROOT / place).exists(), f"{page.name}: {place}"
        if name is not None:
            assert name in _tests_in(place), f"{page.name}: {place} has no {name}"
        elif place.endswith(".py") and Path(place).name.startswith("test_"):
            assert _tests_in(place), f"{page.name}: there is no test in {place}"


def _section(page: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


@pytest.mark.parametrize("title", ["7. Writers MUST", "8. Readers MUST"])
def test_every_rule_of_the_format_names_a_test(title: str) -> None:
    section = _section((ROOT / "docs" / "FORMAT.md").read_text("utf-8"), title)
    rules = re.findall(r"^(\d+)\. ", section, re.MULTILINE)
    held = [
        number for number, cell in re.findall(r"^\| (\d+) \| (.*) \|$", section, re.MULTILINE) if list(_named(cell))
    ]
    assert rules
    assert held == rules


SECTIONS = (
    "2. The directory",
    "3. The canonical file",
    "4. A log line",
    "5. The life of a segment",
    "6. The index",
    "9. Compaction: the eight steps, and what a crash leaves",
    "10. Repair: the eight steps, and what a crash leaves",
    "11. Other moments",
    "12. Versions",
    "14. Assumptions and limits",
)


@pytest.mark.parametrize(
    ("page", "title"), [*(("docs/FORMAT.md", title) for title in SECTIONS), ("README.md", "What is guaranteed")]
)
def test_every_promise_in_a_table_of_promises_names_a_test(page: str, title: str) -> None:
    section = _section((ROOT / page).read_text("utf-8"), title)
    table = re.search(r"^\| \w+ \| (?:held|shown) by \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", section, re.MULTILINE)
    assert table, f"{page}, {title}: no table of promises"
    assert [row for row in table[1].splitlines() if not list(_named(row))] == []
