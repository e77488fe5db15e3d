"""The committed directory of format 2 opens, and says exactly what was put into it and what happened."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from golden.make_v1 import sha
from golden.make_v2 import pack
from manifestlog import DownloadManifestManager, NewerFormatError, maintenance
from manifestlog.engines.filelog.log import lines
from support.records import MANUAL

V2 = Path(__file__).parent / "v2"
NAME = "systems_download.manifest.json"
STEM = "systems_download.manifest."

RECORDS = {
    sha("plain"): ("spansh", "/srv/etl/moved/plain", '"e2"'),
    sha("shared"): ("edsm", "/srv/fixed", '"fixed"'),
    sha("batch two"): ("batch", "/srv/etl/moved/batch two", None),
    sha("Übergröße 🪐"): ("ünï/cöde", "/srv/etl/moved/odd", None),
}
EVENTS = [
    ("put", sha("plain"), "spansh"),
    ("put", sha("shared"), "spansh"),
    ("begun", None, None),
    ("put", sha("shared"), "edsm"),
    ("put", sha("shared"), "inara"),
    ("put", sha("Übergröße 🪐"), "ünï/cöde"),
    ("failed", None, "eddb"),
    ("ended", None, None),
    ("put", sha("batch one"), "batch"),
    ("put", sha("batch two"), "batch"),
    ("put", sha("batch two"), "batch"),
    ("put", sha("plain"), "spansh"),
    ("put", sha("forgotten"), "eddb"),
    ("forget", sha("forgotten"), "eddb"),
    ("relocate", sha("batch one"), "batch"),
    ("relocate", sha("Übergröße 🪐"), "ünï/cöde"),
    ("relocate", sha("batch two"), "batch"),
    ("relocate", sha("plain"), "spansh"),
    ("relocate", sha("shared"), "edsm"),
    ("meta", None, None),
    ("update", sha("shared"), "edsm"),
    ("derived", sha("batch two"), "batch"),
    ("forget", sha("batch one"), "batch"),
]
VERDICTS = ["new", "changed", "alias", "alias", "new", "new", "changed", "refreshed", "reverted", "new"]
AFTER_THE_RUN = "2026-11-29T17:05:34.800870Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the directory, for nobody to write in the original."""
    return Path(shutil.copytree(V2, tmp_path / "v2")) / NAME


def _told(path: Path) -> list[tuple[str, str | None, str | None]]:
    with DownloadManifestManager(path, read_only=True) as manager:
        return [(event.kind.value, event.checksum, event.source_id) for event in manager.history(reverse=False)]


def test_the_directory_is_whole() -> None:
    """A pack, two kept segments, a canonical, an index, a sealed segment and an active one: all committed."""
    found = [os.path.relpath(file, V2).replace(STEM, "") for file in V2.rglob("*") if file.is_file()]
    assert sorted(found) == [
        "history/history-000001-000002.jsonl.zst",
        "history/wal-000003.jsonl",
        "history/wal-000004.jsonl",
        "idx",
        "json",
        "wal-000005.jsonl",
        "wal-000006.jsonl",
    ]


@pytest.mark.parametrize("read_only", [True, False])
def test_it_opens_with_exactly_its_records(path: Path, *, read_only: bool) -> None:
    with DownloadManifestManager(path, read_only=read_only, options=MANUAL) as manager:
        found = {key: (record.source_id, str(record.file_path), record.etag) for key, record in manager.records.items()}
    assert found == RECORDS


def test_every_event_is_there_in_order(path: Path) -> None:
    assert _told(path) == EVENTS


def test_the_verdicts_are_there(path: Path) -> None:
    with DownloadManifestManager(path, read_only=True) as manager:
        assert [event.verdict for event in manager.history(reverse=False) if event.verdict] == VERDICTS


def test_an_attempt_says_why_it_failed_and_where_without_its_secrets(path: Path) -> None:
    with DownloadManifestManager(path, read_only=True) as manager:
        (failed,) = [event for event in manager.history() if event.kind == "failed"]
    assert (failed.error, failed.status, failed.url) == ("gone for ever", 410, "https://example.org/eddb?key=***")


def test_a_download_says_where_it_came_from(path: Path) -> None:
    with DownloadManifestManager(path, read_only=True) as manager:
        found = next(iter(manager.history(source_id="ünï/cöde", reverse=False)))
    assert (found.url, found.status, found.seconds) == ("https://***@example.org/odd?token=***", 200, 1.5)


def test_a_run_says_who_ran_it_and_what_came_of_it(path: Path) -> None:
    with DownloadManifestManager(path, read_only=True) as manager:
        begun, ended = (e for e in manager.history(reverse=False) if e.kind in ("begun", "ended"))
    assert (begun.details["name"], begun.details["host"], begun.details["user"]) == ("nightly", "etl-1", "etl")
    assert (ended.run, ended.details["outcome"], ended.details["counts"]) == (begun.run, "ok", {"unchanged": 5})


def test_it_is_seen_as_it_was(path: Path) -> None:
    with DownloadManifestManager(path, read_only=True) as manager:
        then = manager.as_of(datetime.fromisoformat(AFTER_THE_RUN))
        assert sorted(then) == sorted(map(sha, ("plain", "shared", "Übergröße 🪐")))
        assert str(then.records[sha("plain")].file_path) == "/srv/etl/raw/plain"


def test_the_sources_before_an_event_follow_from_those_after_it(path: Path) -> None:
    with DownloadManifestManager(path, read_only=True) as manager:
        (event,) = manager.history(source_id="inara")
    assert event.was is not None
    stored = event.details["was"]["also_seen"]
    assert (stored, [one["source_id"] for one in event.was["also_seen"]]) == ({"remove": [0]}, ["spansh"])


@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_a_cursor_leads_on(path: Path, number: int) -> None:
    with DownloadManifestManager(path, read_only=True) as manager:
        cursors = [event.cursor for event in manager.history(reverse=False)]
        found = [event.cursor for event in manager.changes(since=cursors[number])]
    assert found == cursors[number + 1 :]


def test_check_finds_nothing_but_its_torn_tail(path: Path) -> None:
    assert [finding.level for finding in maintenance.check(path).findings] == ["note"]


def test_it_is_compacted_and_packed_with_all_its_events(path: Path) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manager:
        manager.compact()
    pack(path)
    assert [name.replace(STEM, "") for name in os.listdir(path.parent / "history")] == [
        "history-000001-000006.jsonl.zst"
    ]
    assert _told(path) == EVENTS


def test_a_program_of_format_1_refuses_it_by_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FORMAT", 1)
    with pytest.raises(NewerFormatError, match=r"format 2 is newer than the newest supported format \(1\)"):
        DownloadManifestManager(path, read_only=True)
