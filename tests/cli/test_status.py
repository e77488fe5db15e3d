"""`status`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, open_manifest, records_of

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


@pytest.fixture
def aged(run: Program, tree: Path) -> Path:
    """A manifest whose newest record is three days and a bit old."""
    path = run.home / "manifests" / "aged_extractor.manifest.json"
    with open_manifest(path) as manifest:
        manifest.add_many(records_of(tree, ts_downloaded=ago(days=3, hours=2)))
    return path


def test_one_row_per_manifest(run: Program, filled: Path) -> None:
    run.here("init", "other_loader", "--process", "loader")
    result = run.here("status")
    head, *rows = [line.split() for line in result.out.splitlines()]
    columns = ["manifest", "records", "canonical", "log", "segments", "history", "updated", "newest", "failed", "state"]
    assert head == columns
    assert [(row[0], row[1], row[-1]) for row in rows] == [("files_extractor", "3", "ok"), ("other_loader", "0", "ok")]
    assert [row["name"] for row in run.here("status", "other_loader", "--json").json] == ["other_loader"]
    row = run.here("--json", "status", filled).json[0]
    assert row["total_records"] == 3
    assert row["canonical_bytes"] == filled.stat().st_size
    assert row["log_bytes"] == sum(p.stat().st_size for p in filled.parent.glob("files*.wal-*"))
    assert row["reason"] is None


def test_records_in_the_log_are_reported(run: Program, filled: Path, tree: Path) -> None:
    (tree / "new.txt").write_bytes(b"new")
    with open_manifest(filled, compact_on_close=False) as manifest:
        manifest.add_many(records_of(tree))
        # Read beside a writer that is alive.
        row = run("status", "--json").json[0]
    assert (row["state"], row["total_records"]) == ("to merge", 4)


def test_a_damaged_manifest_among_sound_ones(run: Program, filled: Path) -> None:
    run("init", "good_loader", "--process", "loader")
    filled.write_bytes(filled.read_bytes()[:-20])
    result = run("status")
    assert result.code == 12
    assert "files_extractor" in result.out
    assert "damaged: " in result.out
    assert "good_loader" in result.out
    assert one_line(result.err)
    rows = {row["name"]: row for row in run("status", "--json").json}
    assert rows["files_extractor"]["state"] == "damaged"
    assert "byte" in rows["files_extractor"]["reason"]
    assert rows["good_loader"]["state"] == "ok"


def test_a_lost_canonical_beside_its_log_is_shown(run: Program, filled: Path) -> None:
    filled.unlink()
    result = run("status", "--json")
    assert result.code == 12
    assert [row["state"] for row in result.json] == ["damaged"]
    assert result.json[0]["log_bytes"] > 0


def test_an_empty_directory_is_reported_and_ends_with_0(run: Program, home: Path) -> None:
    (home / "manifests").mkdir()
    result = run("status")
    assert (result.code, result.out) == (0, "")
    assert "no manifests" in result.err
    assert run("status", "--json").json == []
    (home / "manifests").rmdir()
    assert run("status").code == 0


def test_a_named_manifest_must_exist(run: Program, filled: Path) -> None:
    result = run.here("status", "nope_extractor", filled)
    assert result.code == 10
    assert one_line(result.err)
    assert "files_extractor" in result.out
    assert run.here("--dir", "nowhere", "status").code == 10
    assert run("status", MANIFESTLOG_DIR="nowhere").code == 10


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_is_reported_and_skipped(run: Program) -> None:
    result = run("status", "--json")
    assert ([row["name"] for row in result.json], result.code) == (["files_extractor"], 0)
    assert one_line(result.err)
    assert "backup-2024.json" in result.err


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_cannot_be_named(run: Program) -> None:
    result = run("status", "a_latest")
    assert (result.code, one_line(result.err)) == (2, True)


def test_failing_sources_are_counted(run: Program, filled: Path) -> None:
    with open_manifest(filled) as manifest:
        manifest.fail(SimpleNamespace(source_id="bad", dataset="data"), "gone")
    (row,) = run.here("status", "--json").json
    assert (row["failed_sources"], row["state"]) == (1, "ok")


@pytest.mark.usefixtures("aged")
def test_the_age_of_the_newest_record_is_shown(run: Program) -> None:
    head, row = run.here("status").out.splitlines()
    assert row[head.index("newest") - 2 : head.index("failed")].strip() == "3 d"


@pytest.mark.usefixtures("aged")
def test_json_has_the_time_of_the_newest_record(run: Program) -> None:
    (row,) = run.here("status", "--json").json
    assert (row["newest"][:10], row["stale"]) == (f"{ago(days=3, hours=2):%F}", None)


@pytest.mark.usefixtures("aged")
@pytest.mark.parametrize(("limit", "code", "state"), [("4d", 0, "ok"), ("26h", 1, "stale")])
def test_a_manifest_is_stale_if_its_newest_record_is_too_old(run: Program, limit: str, code: int, state: str) -> None:
    result = run.here("status", "--max-age", limit, "--json")
    assert (result.code, result.json[0]["state"], result.json[0]["stale"]) == (code, state, state == "stale")


def test_a_manifest_without_records_is_stale(run: Program, filled: Path) -> None:
    run.here("init", "empty_loader", "--process", "loader")
    result = run.here("status", "empty_loader", "--max-age", "26h")
    assert (result.code, result.err) == (1, "manifestlog: stale: empty_loader\n")


@pytest.mark.usefixtures("aged")
def test_health_is_one_line_that_names_what_is_wrong(run: Program, filled: Path) -> None:
    with open_manifest(filled) as manifest:
        manifest.fail(SimpleNamespace(source_id="bad", dataset="data"), "gone")
        manifest.fail(SimpleNamespace(source_id="worse", dataset="data"), "gone")
    result = run.here("status", "--max-age", "26h", "--exit-code")
    said = "stale: aged_extractor, files_extractor; failing sources: 2"
    assert (result.code, result.err) == (1, f"manifestlog: {said}\n")


@pytest.mark.usefixtures("aged")
def test_health_is_one_line_also_if_all_is_well(run: Program) -> None:
    result = run.here("status", "--max-age", "4d", "--exit-code")
    assert (result.code, result.err) == (0, "manifestlog: healthy manifests: 1 of 1\n")


@pytest.mark.usefixtures("aged")
def test_if_all_is_well_quiet_leaves_the_line_out(run: Program) -> None:
    assert run.here("status", "--max-age", "4d", "--quiet").err == ""


def test_a_failing_source_is_no_error_unless_asked_for(run: Program, filled: Path) -> None:
    with open_manifest(filled) as manifest:
        manifest.fail(SimpleNamespace(source_id="bad", dataset="data"), "gone")
    assert (run.here("status").code, run.here("status", "--exit-code").code) == (0, 1)


@pytest.mark.usefixtures("aged")
def test_damage_goes_before_staleness(run: Program, filled: Path) -> None:
    filled.write_bytes(filled.read_bytes()[:-20])
    result = run.here("status", "--max-age", "26h")
    assert (result.code, "stale: aged_extractor; cannot be read: files_extractor" in result.err) == (12, True)


@pytest.mark.parametrize("asked", [("--max-age", "26h"), ("--exit-code",)])
def test_a_directory_without_manifests_is_not_well(run: Program, home: Path, asked: tuple[str, ...]) -> None:
    (home / "manifests").mkdir()
    result = run.here("status", *asked)
    assert (result.code, "no manifests found" in result.err, one_line(result.err)) == (1, True, True)


@pytest.mark.parametrize("wrong", ["0s", "yesterday", ""])
def test_a_wrong_age_is_a_usage_error(run: Program, filled: Path, wrong: str) -> None:
    result = run.here("status", "--max-age", wrong)
    assert (result.code, "--max-age" in result.err, one_line(result.err)) == (2, True, True)


@pytest.mark.usefixtures("aged")
def test_a_manifest_was_as_old_as_it_was_then(run: Program, tree: Path, aged: Path) -> None:
    moment = datetime.now(UTC).isoformat()
    (tree / "new.txt").write_bytes(b"new")
    with open_manifest(aged) as manifest:
        manifest.add_many(records_of(tree, ts_downloaded=ago(seconds=0)))
    assert [run.here("status", "--max-age", "26h", *then).code for then in ((), ("--as-of", moment))] == [0, 1]
