"""`repair` on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cli.program import Program, one_line
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.names import resolve

if TYPE_CHECKING:
    from pathlib import Path


def _damage(path: Path) -> None:
    """In the middle of the last record."""
    data = bytearray(path.read_bytes())
    data[data.rindex(b'"version"')] ^= 1
    path.write_bytes(data)


def _folder(path: Path) -> Path:
    (found,) = (path.parent / "quarantine").iterdir()
    return found


def test_a_sound_manifest_is_reported_as_sound(run: Program, filled: Path) -> None:
    result = run("repair", str(filled))
    assert (result.code, result.out) == (0, f"{filled}: sound; nothing to repair\n")


def test_a_loss_ends_with_1(run: Program, filled: Path) -> None:
    _damage(filled)
    assert run("repair", str(filled)).code == 1


def test_a_repair_without_loss_ends_with_0(run: Program, filled: Path) -> None:
    filled.write_text(json.dumps(json.loads(filled.read_bytes())), encoding="utf-8")
    result = run("repair", str(filled))
    assert result.code == 0
    assert "nothing lost" in result.out


def test_the_loss_is_named_on_stdout(run: Program, filled: Path) -> None:
    _damage(filled)
    assert f"lost: {filled.name} at byte" in run("repair", str(filled)).out


def test_the_quarantine_is_named_on_stderr(run: Program, filled: Path) -> None:
    _damage(filled)
    result = run("repair", str(filled))
    assert one_line(result.err)
    assert str(_folder(filled)) in result.err


def test_quiet_reports_only_findings_and_losses(run: Program, filled: Path) -> None:
    _damage(filled)
    result = run("repair", "--quiet", str(filled))
    assert {line.split(":")[0] for line in result.out.splitlines()} == {"found", "lost"}
    assert result.err == ""


def test_check_finds_nothing_afterwards(run: Program, filled: Path) -> None:
    _damage(filled)
    run("repair", str(filled))
    assert run("check", str(filled)).code == 0


def test_a_second_run_has_nothing_to_do(run: Program, filled: Path) -> None:
    _damage(filled)
    run("repair", str(filled))
    result = run("repair", str(filled))
    assert (result.code, "nothing to repair" in result.out) == (0, True)


def test_a_dry_run_changes_nothing(run: Program, filled: Path) -> None:
    _damage(filled)
    before = {p: p.read_bytes() for p in filled.parent.rglob("*") if p.is_file()}
    result = run("repair", "--dry-run", str(filled))
    assert (result.code, "would be repaired" in result.out) == (1, True)
    assert {p: p.read_bytes() for p in filled.parent.rglob("*") if p.is_file()} == before


def test_a_dry_run_reports_that_a_bad_index_would_be_rebuilt(run: Program, filled: Path) -> None:
    filled.with_suffix(".idx").write_bytes(b"junk")
    assert "index would be rebuilt" in run("repair", "--dry-run", str(filled)).out


def test_a_bad_index_is_rebuilt(run: Program, filled: Path) -> None:
    filled.with_suffix(".idx").write_bytes(b"junk")
    result = run("repair", str(filled))
    assert (result.code, "index was rebuilt" in result.out) == (0, True)


def test_json_has_everything(run: Program, filled: Path) -> None:
    _damage(filled)
    report = run("repair", str(filled), "--json").json
    assert (report["outcome"], report["records"]) == ("repaired", 2)
    assert set(report["lost"][0]) == {"file", "offset", "bytes", "meaning", "checksums"}
    assert report["quarantine"] == str(_folder(filled))


def test_an_error_comes_with_advice(run: Program, filled: Path) -> None:
    _damage(filled)
    result = run("compact", str(filled))
    assert result.code == 12
    assert one_line(result.err)
    assert "`manifestlog check` to list all damage, then `manifestlog repair`" in result.err


def test_a_missing_manifest_ends_with_10(run: Program, filled: Path) -> None:
    assert run("repair", str(filled.with_name("none_download.manifest.json"))).code == 10


def test_a_held_lock_ends_with_11(run: Program, filled: Path) -> None:
    _damage(filled)
    lock = FileLock(resolve(filled).append_lock, 1.0)
    with lock:
        assert run("repair", str(filled), "--lock-timeout", "0.05").code == 11
    lock.close()
    assert run("repair", str(filled)).code == 1


def test_a_bad_name_is_a_usage_error(run: Program) -> None:
    assert run("repair", "Bad Name").code == 2


def test_a_manifest_is_rebuilt_from_its_log_alone(run: Program, filled: Path) -> None:
    filled.unlink()
    result = run("repair", str(filled))
    assert (result.code, "records lost: 3" in result.out) == (1, True)
    assert run("check", str(filled)).code == 0
