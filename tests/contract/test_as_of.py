"""`as_of`: the manifest of an earlier time answers exactly as the manifest did then."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    DownloadManifestManager,
    HistoryReachError,
    ManifestError,
    ReadOnlyError,
)

from .builders import META, QUIET, T0, answers, at, meta, record, sha
from .conftest import reopened

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Opener

pytestmark = pytest.mark.every_engine


def now() -> datetime:
    """The time, later than every event so far and earlier than every one to come."""
    time.sleep(0.001)
    found = datetime.now(UTC)
    time.sleep(0.001)
    return found


def everything(manifest: DownloadManifestManager) -> object:
    """What a manifest can be asked, with its rows byte by byte."""
    snapshot = manifest.snapshot()
    metadata = {name: value for name, value in snapshot.metadata.items() if name != "ts_updated"}
    return list(snapshot.records()), metadata, list(snapshot.checksums()), len(snapshot), answers(manifest)


def _run(manifest: DownloadManifestManager) -> None:
    with manifest.run("nightly"):
        manifest.add(record("x"))


CHANGES: dict[str, Callable[[DownloadManifestManager], object]] = {
    "a new content": lambda m: m.add(record("x")),
    "another content of a known source": lambda m: m.add(record("x", 9)),
    "an older content of a known source": lambda m: m.add(record("x", -9)),
    "an alias": lambda m: m.add(record("a", 9, source="other")),
    "an older alias": lambda m: m.add(record("a", -9, source="other")),
    "a refreshed content": lambda m: m.add(record("b", 9, etag='"new"', last_modified="today")),
    "a reverted content": lambda m: m.add(record("a", 9)),
    "a duplicate": lambda m: m.add(record("b", 1)),
    "a forgotten content": lambda m: m.forget(sha("b")),
    "a forgotten alias": lambda m: m.forget(sha("c")),
    "a content that is forgotten and comes back": lambda m: (m.forget(sha("b")), m.add(record("b", 9))),
    "an update": lambda m: m.update(sha("b"), {"checksum": sha("b"), "etag": '"u"', "file_path": "/u", "file_size": 9}),
    "an update to an older time": lambda m: m.update(
        sha("c"), {"checksum": sha("c"), "etag": None, "file_path": "/u", "file_size": 9, "ts_downloaded": at(-50)}
    ),
    "a relocation": lambda m: m.relocate("/raw", "/moved"),
    "a relocation of the root": lambda m: m.relocate("/srv/etl", "/srv/elsewhere"),
    "new times": lambda m: (
        m.add(record("x", source="ahead", ts_downloaded=datetime(2999, 1, 1, tzinfo=UTC))),
        m.retime(),
    ),
    "a batch": lambda m: m.add_many([record("x"), record("y"), record("x", 9, source="other"), record("x", 10)]),
    "a live download": lambda m: m.add(record("x", -9), live=True),
    "a failed attempt": lambda m: m.fail(SimpleNamespace(source_id="src", dataset="set"), "no"),
    "a run": _run,
    "many changes of one content": lambda m: [m.add(record("a", 9 + n, source=f"s{n % 3}")) for n in range(9)],
}


def begin(manifest: DownloadManifestManager) -> None:
    """Two contents of one source, and one that two sources have."""
    manifest.add(record("a", 0, etag='"a"'))
    manifest.add(record("b", 1, last_modified="yesterday"))
    manifest.add_many([record("c", 2, source="third"), record("c", 3, source="fourth", dataset="more")])
    manifest.add(record("relative", 4, source="fifth", file_path=Path("below/root")))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("merged", ["in the log", "merged before", "merged after", "merged both times", "closed"])
def test_it_answers_as_it_did(opener: Opener, change: str, merged: str) -> None:
    manifest = opener()
    begin(manifest)
    if merged in ("merged before", "merged both times"):
        manifest.save()
    moment, then = now(), everything(manifest)
    CHANGES[change](manifest)
    if merged in ("merged after", "merged both times"):
        manifest.save()
    if merged == "closed":
        manifest.save()
        manifest = reopened(manifest)
    with manifest.as_of(moment) as past:
        assert everything(past) == then
    manifest.close()


def test_every_moment_of_many_changes_can_be_seen(opener: Opener) -> None:
    manifest = opener()
    begin(manifest)
    seen = []
    for number, change in enumerate(CHANGES.values()):
        seen.append((now(), everything(manifest)))
        try:
            change(manifest)
        except LookupError:  # an update of what an earlier change has forgotten
            manifest.add(record("b", 1))
        if number % 4 == 3:
            manifest.save()
    for moment, then in seen:
        assert everything(manifest.as_of(moment)) == then


def test_the_last_change_is_the_one_of_that_time(opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    then = manifest.metadata.ts_updated
    manifest.fail(SimpleNamespace(source_id="src", dataset="set"), "no")  # changes nothing
    moment = now()
    manifest.add(record("b", 1))
    assert manifest.as_of(moment).metadata.ts_updated == then


def test_nothing_had_changed_before_the_first_change(opener: Opener) -> None:
    manifest = opener()
    moment = now()
    manifest.add(record("a"))
    assert manifest.as_of(moment).metadata == META


def test_a_content_of_that_time_is_found_although_it_is_forgotten(opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    moment = now()
    manifest.forget(sha("a"))
    past = manifest.as_of(moment)
    assert past.has_many([sha("a"), sha("b")]) == {sha("a")}
    assert (past.has_checksum(sha("a")), sha("a") in past, sha("a") in manifest) == (True, True, False)


def test_a_later_content_is_not_known(opener: Opener) -> None:
    manifest = opener()
    moment = now()
    manifest.add(record("a"))
    past = manifest.as_of(moment)
    assert (past.get(sha("a")), past.get_record_by_source("src"), list(past)) == (None, None, [])


def test_later_writes_do_not_change_it(opener: Opener) -> None:
    manifest = opener()
    begin(manifest)
    past = manifest.as_of(now())
    then = everything(past)
    manifest.forget(sha("a"))
    manifest.save()
    assert everything(past) == then


@pytest.mark.files_only
def test_it_outlives_the_manager_that_it_came_from(opener: Opener) -> None:
    manifest = opener()
    begin(manifest)
    manifest.save()
    moment, then = now(), everything(manifest)
    manifest.forget(sha("a"))
    past = manifest.as_of(moment)
    manifest.close()
    assert everything(past) == then


@pytest.mark.files_only
def test_a_changed_version_of_the_code_is_the_one_of_that_time(opener: Opener) -> None:
    opener(meta(etl_version="1.0.0")).close()
    moment = now()
    manifest = opener(meta(etl_version="2.0.0"))
    assert manifest.as_of(moment).metadata.etl_version == "1.0.0"


def test_a_relative_path_leads_where_it_led(opener: Opener) -> None:
    manifest = opener()
    begin(manifest)
    moment = now()
    manifest.relocate("/srv/etl", "/srv/elsewhere")
    past = manifest.as_of(moment)
    assert past.locate(past.records[sha("relative")]) == Path("/srv/etl/below/root")


def test_a_text_is_a_time_too(opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    assert len(manifest.as_of(now().isoformat())) == 1


def test_a_time_without_a_zone_is_utc(opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    assert len(manifest.as_of(now().replace(tzinfo=None))) == 1


def test_the_time_of_an_event_includes_it(opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    (added,) = manifest.history()
    manifest.add(record("b", 1))
    assert list(manifest.as_of(added.time)) == [sha("a")]


@pytest.mark.parametrize(
    "wrong", ["yesterday", "", "2024-13-01", datetime.max.replace(tzinfo=timezone(-timedelta(hours=9)))]
)
def test_no_time_is_a_value_error(opener: Opener, wrong: Any) -> None:
    manifest = opener()
    with pytest.raises(ValueError, match=r"isoformat|not a time|month"):
        manifest.as_of(wrong)


def test_a_time_in_the_future_is_a_value_error(opener: Opener) -> None:
    manifest = opener()
    with pytest.raises(ValueError, match="is in the future"):
        manifest.as_of(now() + timedelta(minutes=1))


def test_before_the_beginning_is_out_of_reach(opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    with pytest.raises(HistoryReachError, match="reaches back to 2023-01-01T12:00:00Z"):
        manifest.as_of(T0 - timedelta(microseconds=1))


def test_the_beginning_is_in_reach(opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    assert (manifest.reach, len(manifest.as_of(T0))) == (T0, 0)


def test_half_a_second_before_the_beginning_is_out_of_reach(opener: Opener) -> None:
    manifest = opener(meta(ts_created=T0.replace(microsecond=500_000)))
    with pytest.raises(HistoryReachError):
        manifest.as_of(T0.replace(microsecond=400_000))


WRITES: dict[str, Callable[[DownloadManifestManager], object]] = {
    "add": lambda m: m.add(record("x")),
    "forget": lambda m: m.forget(sha("a")),
    "update": lambda m: m.update(sha("a"), {"checksum": sha("a"), "etag": None, "file_path": "/u", "file_size": 9}),
    "relocate": lambda m: m.relocate("/raw", "/moved"),
    "fail": lambda m: m.fail(SimpleNamespace(source_id="s", dataset="d"), "no"),
    "run": _run,
    "save": lambda m: m.save(),
    "claims": lambda m: m.claims("/"),
}


@pytest.mark.parametrize("write", WRITES)
def test_the_past_cannot_be_changed(opener: Opener, write: str) -> None:
    manifest = opener()
    begin(manifest)
    with pytest.raises(ReadOnlyError):
        WRITES[write](manifest.as_of(now()))


def test_the_past_has_no_history_of_its_own(opener: Opener) -> None:
    manifest = opener()
    with pytest.raises(ManifestError, match="ask the manifest itself"):
        manifest.as_of(now()).history()


def test_a_closed_past_says_so(opener: Opener) -> None:
    manifest = opener()
    past = manifest.as_of(now())
    past.close()
    with pytest.raises(ManifestError, match="closed"):
        len(past)


def test_it_names_its_time(opener: Opener) -> None:
    manifest = opener()
    moment = now()
    assert f"@{moment:%Y-%m-%dT%H:%M}" in repr(manifest.as_of(moment))


def test_it_is_a_manager_of_the_same_class(opener: Opener) -> None:
    manifest = opener()
    assert type(manifest.as_of(now())) is DownloadManifestManager


# -- where the history ends: files only --------------------------------------------------------------------------------


def test_a_copy_without_its_log_does_not_guess(path: Path, directory: Path) -> None:
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        begin(manifest)
        manifest.save()
    copy = directory / "copied_download.manifest.json"
    copy.write_bytes(path.read_bytes())
    with DownloadManifestManager(copy, options=QUIET) as manifest:
        moment = now()
        manifest.add(record("x"))
        with pytest.raises(HistoryReachError, match=f"reaches back to {datetime.now(UTC):%Y-%m-%d}"):
            manifest.as_of(moment)


def test_a_copy_without_its_log_knows_the_time_since(path: Path, directory: Path) -> None:
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        begin(manifest)
        manifest.save()
    copy = directory / "copied_download.manifest.json"
    copy.write_bytes(path.read_bytes())
    with DownloadManifestManager(copy, options=QUIET) as manifest:
        manifest.add(record("x"))
        moment, then = now(), everything(manifest)
        manifest.forget(sha("a"))
        assert everything(manifest.as_of(moment)) == then


def test_a_manifest_that_keeps_no_history_does_not_guess(path: Path) -> None:
    with DownloadManifestManager(path, META, options=replace(QUIET, history="off")) as manifest:
        manifest.add(record("a"))
        moment = now()
        manifest.forget(sha("a"))
        manifest.save()
        with pytest.raises(HistoryReachError, match="reaches back to"):
            manifest.as_of(moment)


def test_what_the_history_has_lost_is_out_of_reach(path: Path, directory: Path) -> None:
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        manifest.add(record("a"))
        moment = now()
        manifest.save()
        manifest.add(record("b", 1))
        manifest.save()
        for segment in sorted((directory / "history").glob("*.jsonl"))[:1]:
            segment.unlink()
        with pytest.raises(HistoryReachError):
            manifest.as_of(moment)


def test_damage_in_the_history_is_an_error(path: Path, directory: Path) -> None:
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        manifest.add(record("a"))
        moment = now()
        manifest.add(record("b", 1))
        manifest.save()
        (segment,) = (directory / "history").glob("*.jsonl")
        lines = segment.read_bytes().splitlines(keepends=True)
        lines[-2] = lines[-2].replace(b'"put"', b'"pot"')
        segment.write_bytes(b"".join(lines))
        with pytest.raises(ManifestError, match="not what was written"):
            manifest.as_of(moment)
        segment.write_bytes(segment.read_bytes().replace(b'"pot"', b'"put"'))
