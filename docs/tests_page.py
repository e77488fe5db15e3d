"""Write `docs/tests.md`, the page that names the tests behind each rule, from `docs/tests.toml`.

Run it after a change of that file: `python docs/tests_page.py`. A test compares the page with what this would write.
"""

from __future__ import annotations

import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE / "tests.toml"
PAGE = HERE / "tests.md"

TOP = """# The tests behind each rule

This page is generated: edit [tests.toml](tests.toml), then run `python docs/tests_page.py`.

It names the tests that fail when a promise is broken. A name that begins with `::` is another test of the file before it.
[TESTING.md](TESTING.md) explains the methods. Two more tests cover every section of FORMAT.md:
`tests/simulation/test_crash_operations.py` reads every state that a simulated crash leaves and checks it against that
page, and `tests/golden/` opens directories that an earlier version wrote.
"""


def sections() -> list[dict[str, Any]]:
    """The promises, section by section, in the order of the pages that make them."""
    found: list[dict[str, Any]] = tomllib.loads(SOURCE.read_text("utf-8"))["section"]
    return found


def page() -> str:
    """The text of the page."""
    lines = [TOP]
    for name, group in groupby(sections(), key=lambda section: section["page"]):
        lines.append(f"## [{name}]({name})\n")
        for section in group:
            lines += [f"### {section['title']}\n", *_table(section["row"]), ""]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    numbered = "rule" in rows[0]
    head = ["| rule | text | tests |", "|---|---|---|"] if numbered else ["| promise | tests |", "|---|---|"]
    begin = [f"| {row['rule']} " if numbered else "" for row in rows]
    return head + [
        f"{first}| {row['promise']} | {_names(row['held_by'])} |" for first, row in zip(begin, rows, strict=True)
    ]


def _names(held_by: list[str]) -> str:
    """Tests as the page shows them: of several in one file, the later ones by their names alone."""
    shown, before = [], ""
    for one in held_by:
        place, mark, name = one.partition("::")
        shown.append(f"`::{name}`" if mark and place == before else f"`{one}`")
        before = place
    return ", ".join(shown)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
