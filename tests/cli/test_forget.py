"""`forget`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.program import one_line, records_of

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program

UNKNOWN = "0" * 64


def test_each_checksum_is_reported_as_found_or_not(run: Program, filled: Path, tree: Path) -> None:
    first, second, third = (record.checksum for record in records_of(tree))
    result = run.here("forget", filled, first, UNKNOWN)
    assert result.code == 1
    assert result.out.splitlines() == [f"{first}\tforgotten", f"{UNKNOWN}\twas not there"]
    assert run.here("has", filled, first).code == 1
    result = run.here("forget", filled, second.upper(), "--json")
    assert result.code == 0
    assert result.json == {"forgotten": [second], "not_there": []}
    assert run.here("forget", filled, third, "--quiet") == (0, "", "")
    assert run.here("list", filled).out == ""


def test_an_invalid_checksum_prevents_every_removal(run: Program, filled: Path, tree: Path) -> None:
    first = records_of(tree)[0].checksum
    result = run.here("forget", filled, first, "abc")
    assert result.code == 2
    assert one_line(result.err)
    assert run.here("has", filled, first).code == 0


def test_a_missing_manifest_is_not_created(run: Program, home: Path) -> None:
    assert run("forget", "no_such", UNKNOWN).code == 10
    assert list(home.iterdir()) == []
