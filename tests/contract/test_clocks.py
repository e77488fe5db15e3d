"""Clocks that were ahead or are behind: a live download becomes its source's current record all the same."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ProcessedManifestManager, Verdict

from .builders import META, QUIET, T0, record, sha
from .test_events import Event, Source

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Opener

US = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


def downloaded(name: str, when: datetime, etag: str | None = None) -> Event:
    return Event(sha256=sha(name), ts_download_completed=when, etag=etag)


@pytest.fixture
def ahead(manifest: DownloadManifestManager) -> DownloadManifestManager:
    """One download was stamped an hour in the future."""
    manifest.add_from_event(Source(), downloaded("a", now() + HOUR))
    return manifest


def current(manifest: DownloadManifestManager) -> str:
    found = manifest.get_record_by_source("src", "set")
    assert found is not None
    return found.checksum


def test_a_live_download_becomes_current_although_a_clock_was_ahead(ahead: DownloadManifestManager) -> None:
    assert ahead.add_from_event(Source(), downloaded("b", now())).verdict is Verdict.CHANGED
    assert current(ahead) == sha("b")


def test_its_time_is_one_microsecond_after_the_current_record(ahead: DownloadManifestManager) -> None:
    before = ahead.get(sha("a"))
    after = ahead.add_from_event(Source(), downloaded("b", now())).record
    assert before is not None
    assert after.ts_downloaded == before.ts_downloaded + US


def test_the_returned_time_is_the_stored_one(ahead: DownloadManifestManager) -> None:
    told = ahead.add_from_event(Source(), downloaded("b", now())).record
    assert ahead.get(sha("b")) == told


def test_the_next_live_downloads_get_later_times(ahead: DownloadManifestManager) -> None:
    for name in ("b", "c", "d"):
        ahead.add_from_event(Source(), downloaded(name, now()))
    assert current(ahead) == sha("d")


def test_content_that_comes_back_is_reverted_and_current(ahead: DownloadManifestManager) -> None:
    ahead.add_from_event(Source(), downloaded("b", now()))
    assert ahead.add_from_event(Source(), downloaded("a", now())).verdict is Verdict.REVERTED
    assert current(ahead) == sha("a")


def test_the_current_content_again_is_a_duplicate(ahead: DownloadManifestManager) -> None:
    assert ahead.add_from_event(Source(), downloaded("a", now())).verdict is Verdict.DUPLICATE


def test_a_new_etag_of_the_current_content_refreshes_it(ahead: DownloadManifestManager) -> None:
    assert ahead.add_from_event(Source(), downloaded("a", now(), etag="new")).verdict is Verdict.REFRESHED


def test_a_clock_that_was_behind_gives_no_false_reverted(manifest: DownloadManifestManager) -> None:
    manifest.add_from_event(Source(), downloaded("a", now()))
    manifest.add_from_event(Source(), downloaded("b", now() - HOUR), live=True)
    assert manifest.add_from_event(Source(), downloaded("b", now())).verdict is Verdict.DUPLICATE


def test_an_event_in_the_past_keeps_its_time(manifest: DownloadManifestManager) -> None:
    manifest.add_from_event(Source(), downloaded("a", now()))
    past = now() - HOUR
    assert manifest.add_from_event(Source(), downloaded("b", past)).record.ts_downloaded == past
    assert current(manifest) == sha("a")


def test_a_recent_event_that_is_not_live_keeps_its_time(ahead: DownloadManifestManager) -> None:
    moment = now()
    assert ahead.add_from_event(Source(), downloaded("b", moment), live=False).record.ts_downloaded == moment


def test_add_keeps_the_time_of_its_record(ahead: DownloadManifestManager) -> None:
    moment = now()
    assert ahead.add(record("b", ts_downloaded=moment)).record.ts_downloaded == moment


def test_add_moves_the_time_of_a_live_record(ahead: DownloadManifestManager) -> None:
    ahead.add(record("b", ts_downloaded=now()), live=True)
    assert current(ahead) == sha("b")


def test_another_source_is_not_moved(ahead: DownloadManifestManager) -> None:
    moment = now()
    result = ahead.add_from_event(Source(dataset="other"), downloaded("b", moment))
    assert result.record.ts_downloaded == moment


def test_an_alias_is_moved_after_the_current_record_of_its_own_source(ahead: DownloadManifestManager) -> None:
    ahead.add_from_event(Source(source_id="other"), downloaded("b", now()))
    assert ahead.add_from_event(Source(), downloaded("b", now())).verdict is Verdict.ALIAS
    assert current(ahead) == sha("b")


def test_the_latest_possible_time_is_kept(manifest: DownloadManifestManager) -> None:
    manifest.add(record("a", ts_downloaded=datetime.max.replace(tzinfo=UTC)))
    assert manifest.add_from_event(Source(), downloaded("b", now())).verdict is Verdict.CHANGED


def test_the_warning_names_both_times(ahead: DownloadManifestManager, caplog: pytest.LogCaptureFixture) -> None:
    before = ahead.get(sha("a"))
    assert before is not None
    moment = now()
    with caplog.at_level(logging.WARNING, "manifestlog"):
        ahead.add_from_event(Source(), downloaded("b", moment))
    assert all(f"{when:%Y-%m-%dT%H:%M:%S.%f}Z" in caplog.text for when in (moment, before.ts_downloaded))


def test_a_correct_clock_gives_no_warning(manifest: DownloadManifestManager, caplog: pytest.LogCaptureFixture) -> None:
    manifest.add_from_event(Source(), downloaded("a", now()))
    with caplog.at_level(logging.WARNING, "manifestlog"):
        manifest.add_from_event(Source(), downloaded("b", now()))
    assert caplog.text == ""


def test_the_order_survives_a_compaction(opener: Opener) -> None:
    with opener(META) as manifest:
        manifest.add_from_event(Source(), downloaded("a", now() + HOUR))
        manifest.save()
        manifest.add_from_event(Source(), downloaded("b", now()))
        manifest.save()
        assert current(manifest) == sha("b")


def test_an_output_is_moved_like_a_download(tmp_path: Path) -> None:
    with ProcessedManifestManager(tmp_path / "systems_processing.manifest.json", META, options=QUIET) as manifest:
        manifest.add_output(Source(), downloaded("a", now() + HOUR), [sha("x")])
        manifest.add_output(Source(), downloaded("b", now()), [sha("y")])
        found = manifest.get_record_by_source("src")
        assert found is not None
        assert found.checksum == sha("b")


def test_a_fixed_time_long_ago_is_kept(manifest: DownloadManifestManager) -> None:
    assert manifest.add_from_event(Source(), downloaded("a", T0)).record.ts_downloaded == T0
