"""`verify` of files in an object store: presence and size by listing, content by reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.running import pattern
from manifestlog import audit
from manifestlog.audit import Level, VerifyOptions
from support import s3

if TYPE_CHECKING:
    from extract.running import Put
    from extract.stores import There
    from manifestlog.audit import AuditReport

BODY = pattern(1000)
OTHER = pattern(1000, 1)


@pytest.fixture
def two(there: There, put: Put) -> There:
    """Two files that are registered; what a test does to them is mended before they are checked."""
    there.fetch(put("a.json", BODY))
    there.fetch(put("b.json", pattern(2000)), source_id="b", dataset="others")
    return there


def verify(there: There, level: Level = Level.FULL, untracked: tuple[str, ...] = ()) -> AuditReport:
    return audit.run(there.manifest, VerifyOptions(level=level, untracked=untracked), jobs=1)


def states(report: AuditReport) -> dict[str, int]:
    return {state.value: number for state, number in report.states.items() if number}


@pytest.mark.parametrize("level", Level)
def test_what_is_there_is_ok(two: There, level: Level) -> None:
    assert states(verify(two, level)) == {"ok": 2}


def test_only_a_full_verification_reads(two: There) -> None:
    assert [verify(two, level).bytes for level in Level] == [0, 0, 3000]


@pytest.mark.parametrize("level", Level)
def test_what_is_not_there_is_missing(two: There, level: Level) -> None:
    two.bucket.delete("raw/systems/a.json")
    report = verify(two, level)
    assert (states(report), report.findings[0].reason) == ({"ok": 1, "missing": 1}, "the file does not exist")
    two.bucket.put("raw/systems/a.json", BODY)


@pytest.mark.parametrize("level", [Level.SIZE, Level.FULL])
def test_another_size_is_changed(two: There, level: Level) -> None:
    two.bucket.put("raw/systems/a.json", BODY[:-1])
    assert states(verify(two, level)) == {"ok": 1, "changed": 1}
    two.bucket.put("raw/systems/a.json", BODY)


def test_other_content_of_the_same_size_is_changed(two: There) -> None:
    two.bucket.put("raw/systems/a.json", OTHER)
    assert states(verify(two)) == {"ok": 1, "changed": 1}
    two.bucket.put("raw/systems/a.json", BODY)


def test_files_of_worker_processes_are_verified(two: There) -> None:
    assert states(audit.run(two.manifest, jobs=2)) == {"ok": 2}


def test_a_store_that_refuses_makes_its_files_unreadable(two: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-such-secret")
    report = verify(two)
    assert states(report) == {"unreadable": 2}
    assert "the store rejects the credentials (SignatureDoesNotMatch)" in report.findings[0].reason


def test_without_rights_to_read_a_file_is_unreadable(two: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.LISTER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.LISTER_SECRET)
    assert (states(verify(two, Level.SIZE)), states(verify(two))) == ({"ok": 2}, {"unreadable": 2})


def test_local_files_and_objects_are_verified_together(two: There, put: Put) -> None:
    two.data_dir, there = two.manifest.root / "data", two.data_dir
    two.fetch(put("c.json", pattern(3000)), source_id="c")
    assert states(verify(two)) == {"ok": 3}
    two.manifest.forget(two.record("c").checksum)
    two.data_dir = there


def test_an_object_that_no_record_names_is_unregistered(two: There) -> None:
    two.bucket.put("raw/systems/stray.json", b"stray")
    report = verify(two, Level.PRESENCE, (f"{two.bucket.url}/raw",))
    assert [(one.state, one.file_path) for one in report.findings] == [
        ("unregistered", f"{two.bucket.url}/raw/systems/stray.json")
    ]
