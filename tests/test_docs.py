"""The README shows what happens, the picture is up to date, and the tests that documents name exist."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog.engines.protocol import Capability, Driver
from support.reader import blocks, reading
from test_layout import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


def _quick_start() -> str:
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def _promised() -> list[str]:
    """What the quick start prints, as its comments say."""
    return [line.rpartition("# ")[2].strip() for line in _quick_start().splitlines() if "print(" in line]


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


def test_the_quick_start_prints_what_its_comments_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _quick_start()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.splitlines(), done.stderr) == (_promised(), "")


def test_the_commands_print_what_is_shown(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    with reading(tmp_path) as reader:
        for block in blocks(page):
            if block.kind != "python":
                reader.follow(block)
        assert reader.said
        (reader.home / "quick_start.py").write_text(_quick_start(), "utf-8")
        said = reader.run("python quick_start.py; manifestlog --quiet verify galaxy_download")
        assert said.splitlines() == _promised(), "the two quick starts get in each other's way"


# -- the picture of the README -----------------------------------------------------------------------------------------

_TEXT = re.compile(r"<text [^>]*>([^<]*)</text>")


def test_the_picture_shows_what_its_commands_print(tmp_path: Path) -> None:
    drawn = tmp_path / "demo.svg"
    subprocess.run([sys.executable, str(ROOT / "docs" / "picture.py"), str(drawn)], check=True)
    new, committed = (_TEXT.findall(path.read_text("utf-8")) for path in (drawn, ROOT / "docs" / "demo.svg"))
    assert new == committed, "the output has changed: run `make picture`"


def test_the_picture_loads_nothing() -> None:
    picture = (ROOT / "docs" / "demo.svg").read_text("utf-8")
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+|url\((?!#)[^)]*\)|<script|<image", picture) == []


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# -- tests that documents name -----------------------------------------------------------------------------------------

PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "README.md")
_REFERENCE = re.compile(r"`((?:tests|benchmarks|src)/[^`:*@ ]*)?(?:::(\w+))?`")


def _named(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield each (file or directory, test) that a page names; `::name` alone is a test of the previous file."""
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
        if place.startswith("src/") and Path(place).stem.isupper():
            continue  # a placeholder, such as `verbs/VERB.py`
        assert (ROOT / place).exists(), f"{page.name}: {place}"
        if name is not None:
            assert name in _tests_in(place), f"{page.name}: {place} has no {name}"
        elif place.endswith(".py") and Path(place).name.startswith("test_"):
            assert _tests_in(place), f"{page.name}: there is no test in {place}"


def _section(page: str, title: str, level: str = "##") -> str:
    found = re.search(rf"^{level} {re.escape(title)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


# -- the generated page of tests ---------------------------------------------------------------------------------------

FORMAT = (ROOT / "docs" / "FORMAT.md").read_text("utf-8")
TESTS_PAGE = (ROOT / "docs" / "tests.md").read_text("utf-8")
PROMISES = tomllib.loads((ROOT / "docs" / "tests.toml").read_text("utf-8"))["section"]


def test_the_page_of_tests_is_up_to_date() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "tests_page.py"))["page"]()
    assert written == TESTS_PAGE, "run `python docs/tests_page.py`"


@pytest.mark.parametrize("section", PROMISES, ids=lambda section: section["title"])
def test_every_promise_names_a_test(section: dict[str, Any]) -> None:
    for row in section["row"]:
        assert row["promise"]
        assert row["held_by"], row["promise"]
        assert len(list(_named(" ".join(f"`{one}`" for one in row["held_by"])))) == len(row["held_by"])


@pytest.mark.parametrize("section", PROMISES, ids=lambda section: section["title"])
def test_the_page_of_tests_names_each_of_them(section: dict[str, Any]) -> None:
    shown = _section(TESTS_PAGE, section["title"], "###")
    held_by = [one for row in section["row"] for one in row["held_by"]]
    assert [f"{place}::{name}" if name else place for place, name in _named(shown)] == held_by


@pytest.mark.parametrize("title", ["7. Writers MUST", "8. Readers MUST"])
def test_every_rule_of_the_format_names_a_test(title: str) -> None:
    rules = re.findall(r"^(\d+)\. ", _section(FORMAT, title), re.MULTILINE)
    table = _section(TESTS_PAGE, title, "###")
    held = [
        number for number, cell in re.findall(r"^\| (\d+) \| .* \| (.*) \|$", table, re.MULTILINE) if list(_named(cell))
    ]
    assert rules
    assert held == rules


SECTIONS = (
    "2. The directory",
    "3. The canonical file",
    "4. A log line",
    "4a. Events",
    "4b. Cursors and followers",
    "5. The life of a segment",
    "6. The index",
    "6a. The history",
    "6b. What a stage keeps",
    "6c. Replicas",
    "9. Compaction: the eight steps, and what a crash leaves",
    "10. Repair: the eight steps, and what a crash leaves",
    "11. Other moments",
    "12. Versions",
    "14. Assumptions and limits",
)


@pytest.mark.parametrize("title", SECTIONS)
def test_every_promise_of_a_section_of_the_format_names_a_test(title: str) -> None:
    assert _section(FORMAT, title, "###" if title[1] in "abc" else "##")
    rows = re.findall(r"^\| (?!promise |-).*\|$", _section(TESTS_PAGE, title, "###"), re.MULTILINE)
    assert rows, f"{title}: no table of promises"
    assert [row for row in rows if not list(_named(row))] == []


def test_the_page_of_tests_knows_every_section_of_the_format_that_promises_something() -> None:
    """What the terms mean (1) and the worked example (13) promise nothing of their own."""
    titles = re.findall(r"^###? (\d.*)$", FORMAT, re.MULTILINE)
    promising = [title for title in titles if title.split(".")[0] not in ("1", "13")]
    assert [section["title"] for section in PROMISES if section["page"] == "FORMAT.md"] == promising


@pytest.mark.parametrize(("page", "title"), [("docs/TESTING.md", "What is guaranteed")])
def test_every_promise_in_a_table_of_promises_names_a_test(page: str, title: str) -> None:
    section = _section((ROOT / page).read_text("utf-8"), title)
    table = re.search(r"^\| \w+ \| (?:held|shown) by \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", section, re.MULTILINE)
    assert table, f"{page}, {title}: no table of promises"
    assert [row for row in table[1].splitlines() if not list(_named(row))] == []


# -- architecture and decisions ----------------------------------------------------------------------------------------

DECISIONS = ROOT / "docs" / "decisions"
GROUPS = sorted(path for path in DECISIONS.glob("*.md") if path.name not in ("index.md", "left-undone.md"))


def test_the_table_of_imports_is_the_one_that_is_enforced() -> None:
    section = _section((ROOT / "docs" / "ARCHITECTURE.md").read_text("utf-8"), "Who may import whom")
    rows = re.findall(r"^\| `([\w.]+)` \| [^|]+ \|(.*)\|$", section, re.MULTILINE)
    assert {folder: set(re.findall(r"`([\w.]+)`", known)) for folder, known in rows} == FOLDERS


def test_the_seam_is_described_with_every_capability_and_every_way_in() -> None:
    section = _section((ROOT / "docs" / "ARCHITECTURE.md").read_text("utf-8"), "The seam")
    ways_in = {name for name in vars(Driver) if not name.startswith("_") and name != "capabilities"}
    assert ways_in
    assert {*ways_in, *Capability.__members__} - set(re.findall(r"`(\w+)`", section)) == set()


def _decisions(page: Path) -> dict[int, str]:
    """The titles of the decisions on a page, by number."""
    return {
        int(number): title for number, title in re.findall(r"^## (\d+)\. (.*)$", page.read_text("utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("page", GROUPS, ids=lambda page: page.name)
def test_every_decision_has_context_decision_and_consequence(page: Path) -> None:
    assert list(_decisions(page)) == sorted(_decisions(page)), "newest last"
    for record in re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        parts = re.findall(r"^\*\*(\w+)\.\*\* ", record, re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequence"], record.splitlines()[0]


def test_the_index_of_decisions_has_each_of_them_once() -> None:
    index = (DECISIONS / "index.md").read_text("utf-8")
    listed = re.findall(r"^\| (\d+) \| \[(.*)\]\(([\w-]+\.md)#([\w-]+)\) \|$", index, re.MULTILINE)
    assert [int(number) for number, *_ in listed] == list(range(1, len(listed) + 1))
    kept = {(str(n), title, page.name) for page in GROUPS for n, title in _decisions(page).items()}
    assert {(number, title, page) for number, title, page, _ in listed} == kept
    assert len(kept) == len(listed)


@pytest.mark.parametrize("page", [ROOT / "docs" / "ARCHITECTURE.md", *GROUPS], ids=lambda page: page.name)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    """A module is named by its path below the package, from any of its folders on."""
    modules = [f"/{path.relative_to(ROOT)}" for path in (*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.py"))]
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", page.read_text("utf-8"))
    named = [name for name in named if not name.startswith("tests/")]
    assert [name for name in named if not any(module.endswith(f"/{name}") for module in modules)] == []
