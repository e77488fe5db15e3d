"""`add_many`, `forget` and `update`: what they answer, what they leave, what they refuse."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    AddManyStoppedError,
    DownloadManifestManager,
    ManifestRecord,
    RecordNotFoundError,
    RecordRejectedError,
    Verdict,
)
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.names import resolve

from .builders import QUIET, at, files_of, one_of_each, record, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Opener

pytestmark = pytest.mark.every_engine

SMALL = replace(QUIET, record_bytes_max=600)


def _counts(**found: int) -> dict[Verdict, int]:
    return {v: found.get(v.value, 0) for v in Verdict}


def _stopping(records: list[ManifestRecord]) -> Iterator[ManifestRecord]:
    yield from records
    raise ConnectionError("the source went away")


def _batch_lines(path: Path) -> list[bytes]:
    return [
        ln for s in segments_of(path.parent) for ln in s.read_bytes().splitlines() if ln.startswith(b'{"op":"batch"')
    ]


@pytest.mark.parametrize("seconds", [3e6, math.inf])
def test_who_waits_for_locks_for_as_long_as_it_takes_can_write(opener: Opener, seconds: float) -> None:
    manifest = opener(options=replace(QUIET, lock_timeout_s=seconds))
    assert manifest.add(record("a")).verdict is Verdict.NEW


# -- add_many ----------------------------------------------------------------------------------------------------------


def test_add_many_counts_every_verdict(manifest: DownloadManifestManager) -> None:
    """The counts have all six verdicts as keys and add up, whatever happened within the batch."""
    counts = manifest.add_many(one_of_each())
    assert counts == _counts(new=1, duplicate=1, changed=1, refreshed=1, reverted=1, alias=1)


def test_add_many_of_nothing(manifest: DownloadManifestManager) -> None:
    """An empty iterable is answered with six zeros."""
    assert manifest.add_many([]) == _counts()


def test_add_many_of_nothing_writes_nothing(manifest: DownloadManifestManager, path: Path) -> None:
    """An empty iterable leaves no trace in the log."""
    manifest.add_many(iter([]))
    assert segments_of(path.parent) == []


def test_add_many_of_duplicates_writes_nothing(manifest: DownloadManifestManager, path: Path) -> None:
    """A batch that says nothing new leaves the log alone."""
    manifest.add(record("a"))
    before = files_of(path.parent)
    manifest.add_many([record("a"), record("a", 5)])
    assert files_of(path.parent) == before


def test_add_many_is_one_line(manifest: DownloadManifestManager, path: Path) -> None:
    """A batch is one line of the log."""
    manifest.add_many(record(f"c{n}") for n in range(50))
    assert len(_batch_lines(path)) == 1


def test_batches_end_at_the_record_limit(opener: Opener, path: Path) -> None:
    """A long iterable is cut into batches of `batch_records_max`."""
    opener(options=replace(QUIET, batch_records_max=7)).add_many(record(f"c{n}") for n in range(20))
    assert [line.count(b'"source_id"') for line in _batch_lines(path)] == [7, 7, 6]


def test_batches_end_at_the_byte_limit(opener: Opener, path: Path) -> None:
    """A long iterable is cut into batches of at most `batch_bytes_max`."""
    opener(options=replace(QUIET, batch_bytes_max=1000)).add_many(record(f"c{n}") for n in range(20))
    assert max(map(len, _batch_lines(path))) < 1000 + 128


def test_a_batch_sees_the_batch_before(opener: Opener) -> None:
    """Records of one call are compared with each other across batches too."""
    manager = opener(options=replace(QUIET, batch_records_max=1))
    assert manager.add_many([record("a"), record("b", 1), record("a", 2)]) == _counts(new=1, changed=1, reverted=1)


def test_add_many_stopped_by_its_iterable_keeps_whole_batches(opener: Opener) -> None:
    """What stands in finished batches when the iterable raises is kept, the rest is not."""
    manager = opener(options=replace(QUIET, batch_records_max=2))
    with pytest.raises(AddManyStoppedError):
        manager.add_many(_stopping([record(f"c{n}") for n in range(5)]))
    assert sorted(manager) == sorted(sha(f"c{n}") for n in range(4))


def test_add_many_stopped_says_what_landed(opener: Opener) -> None:
    """`landed` has the counts of the kept batches, all six keys included."""
    manager = opener(options=replace(QUIET, batch_records_max=2))
    with pytest.raises(AddManyStoppedError) as stopped:
        manager.add_many(_stopping([record(f"c{n}") for n in range(5)]))
    assert stopped.value.landed == _counts(new=1, changed=3)


def test_add_many_stopped_says_why(manifest: DownloadManifestManager) -> None:
    """`cause` is what the iterable raised."""
    with pytest.raises(AddManyStoppedError) as stopped:
        manifest.add_many(_stopping([]))
    assert isinstance(stopped.value.cause, ConnectionError)


def test_add_many_stopped_chains_its_cause(manifest: DownloadManifestManager) -> None:
    """A traceback shows the cause too."""
    with pytest.raises(AddManyStoppedError) as stopped:
        manifest.add_many(_stopping([]))
    assert isinstance(stopped.value.__cause__, ConnectionError)


def test_add_many_stopped_by_an_oversized_record(opener: Opener) -> None:
    """A record over the limit stops the call midway; what is counted as landed is what is there."""
    manager = opener(options=replace(SMALL, batch_records_max=1))
    with pytest.raises(AddManyStoppedError) as stopped:
        manager.add_many([record("a"), record("b", 1), record("c", source="s" * 600), record("d")])
    assert 0 < sum(stopped.value.landed.values()) == len(manager)


def test_add_many_stopped_by_an_oversized_record_names_it(opener: Opener) -> None:
    """The cause of a call that a record stopped is the record's rejection."""
    with pytest.raises(AddManyStoppedError) as stopped:
        opener(options=SMALL).add_many([record("c", source="s" * 600)])
    assert isinstance(stopped.value.cause, RecordRejectedError)


def test_add_many_can_be_repeated_after_it_stopped(opener: Opener) -> None:
    """After a stop, the same records can be added again and everything is there."""
    manager = opener(options=replace(QUIET, batch_records_max=2))
    records = [record(f"c{n}", n) for n in range(5)]
    with pytest.raises(AddManyStoppedError):
        manager.add_many(_stopping(records))
    assert manager.add_many(records) == _counts(duplicate=4, changed=1)


def test_add_many_rejects_anything_but_records(manifest: DownloadManifestManager) -> None:
    """Something else than a record stops the call with a `TypeError` as its cause."""
    with pytest.raises(AddManyStoppedError) as stopped:
        manifest.add_many([record("a").model_dump()])  # type: ignore[list-item]
    assert isinstance(stopped.value.cause, TypeError)


# -- forget ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compacted", [False, True])
def test_forget_says_that_it_was_there(manifest: DownloadManifestManager, *, compacted: bool) -> None:
    """Forgetting a known content is answered with True."""
    manifest.add(record("a"))
    if compacted:
        manifest.save()
    assert manifest.forget(sha("a")) is True


def test_forget_takes_upper_case(manifest: DownloadManifestManager) -> None:
    """Upper-case hex is normalised."""
    manifest.add(record("a"))
    assert manifest.forget(sha("a").upper()) is True


@pytest.mark.parametrize("unknown", [sha("x"), "no checksum", ""])
def test_forget_of_the_unknown(manifest: DownloadManifestManager, unknown: str) -> None:
    """Forgetting what is not there is answered with False."""
    assert manifest.forget(unknown) is False


def test_forget_of_the_unknown_writes_nothing(manifest: DownloadManifestManager, path: Path) -> None:
    """Forgetting what is not there leaves the files alone."""
    before = files_of(path.parent)
    manifest.forget(sha("x"))
    assert files_of(path.parent) == before


@pytest.mark.files_only
@pytest.mark.parametrize("compacted", ["before", "after", "both", "never"])
def test_a_forgotten_record_is_gone(opener: Opener, compacted: str) -> None:
    """A forgotten content is gone, wherever it was stored, also for the next opener."""
    manager = opener()
    manager.add_many([record("a"), record("b", source="other")])
    if compacted in ("before", "both"):
        manager.save()
    manager.forget(sha("a"))
    if compacted in ("after", "both"):
        manager.save()
    manager.close()
    assert list(opener(None)) == [sha("b")]


def test_a_forgotten_record_loses_its_observations(manifest: DownloadManifestManager) -> None:
    """No source of a forgotten content is found any more."""
    manifest.add(record("a"))
    manifest.add(record("a", source="other"))
    manifest.forget(sha("a"))
    assert [manifest.get_record_by_source(s) for s in ("src", "other")] == [None, None]


def test_forgetting_makes_the_previous_record_current(manifest: DownloadManifestManager) -> None:
    """When the current record is forgotten, the source's earlier one is current again."""
    manifest.add(record("a", 1))
    manifest.add(record("b", 2))
    manifest.forget(sha("b"))
    assert manifest.get_record_by_source("src") == record("a", 1)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_forgotten_content_is_new_again(manifest: DownloadManifestManager, *, compacted: bool) -> None:
    """An add after a forget is `new`."""
    manifest.add(record("a"))
    manifest.forget(sha("a"))
    if compacted:
        manifest.save()
    assert manifest.add(record("a")).verdict is Verdict.NEW


def test_a_forgotten_content_is_changed_again(manifest: DownloadManifestManager) -> None:
    """An add after a forget is `changed` when the source has other content."""
    manifest.add_many([record("a", 1), record("b", 2)])
    manifest.forget(sha("b"))
    assert manifest.add(record("b", 2)).verdict is Verdict.CHANGED


def test_added_again_has_no_old_observation(manifest: DownloadManifestManager) -> None:
    """A content that was forgotten and added again knows nothing of its former life."""
    manifest.add(record("a"))
    manifest.add(record("a", source="other"))
    manifest.forget(sha("a"))
    assert manifest.add(record("a", 9)).record == record("a", 9)


# -- update ------------------------------------------------------------------------------------------------------------


def _value(content: str = "a", **more: Any) -> dict[str, Any]:
    return {"checksum": sha(content), "etag": "e2", "file_path": "/moved", "file_size": 5} | more


@pytest.fixture
def one(manifest: DownloadManifestManager) -> DownloadManifestManager:
    """A manifest with one record."""
    manifest.add(record("a", etag="e1"))
    return manifest


def test_update_replaces_the_given_fields(one: DownloadManifestManager) -> None:
    """The record has the new values, and keeps the others."""
    one.update(sha("a"), _value())
    assert one.get(sha("a")) == record("a", etag="e2", file_path="/moved", file_size=5)


@pytest.mark.files_only
def test_update_survives_a_compaction_and_reopening(one: DownloadManifestManager, opener: Opener) -> None:
    """An update is kept."""
    one.update(sha("a"), _value())
    one.save()
    one.close()
    assert opener(None).get(sha("a")) == record("a", etag="e2", file_path="/moved", file_size=5)


def test_update_of_a_compacted_record(one: DownloadManifestManager) -> None:
    """A record in the canonical can be updated as one in the log."""
    one.save()
    one.update(sha("a"), _value())
    assert one.get(sha("a")) == record("a", etag="e2", file_path="/moved", file_size=5)


def test_update_is_a_new_line(one: DownloadManifestManager, path: Path) -> None:
    """An update appends a `put`; nothing is rewritten."""
    before = segments_of(path.parent)[-1].read_bytes()
    one.update(sha("a"), _value())
    after = segments_of(path.parent)[-1].read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].startswith(b'{"op":"put"')


def test_update_answers_with_the_record(one: DownloadManifestManager) -> None:
    """The answer holds the record as it is now."""
    assert one.update(sha("a"), _value()).record == one.get(sha("a"))


def test_update_takes_every_field(one: DownloadManifestManager) -> None:
    """All fields of a record but its checksum can be replaced, the optional ones too."""
    wanted = record(
        "a", 7, source="s2", dataset="d2", etag="e3", version="2", last_modified="m", derived_from=(sha("i"),)
    )
    one.update(sha("a"), wanted.model_dump())
    assert one.get(sha("a")) == wanted


def test_update_moves_the_record_to_its_new_source(one: DownloadManifestManager) -> None:
    """A record whose source was corrected is found under the new one."""
    one.update(sha("a"), _value(source_id="right"))
    found = one.get_record_by_source("right")
    assert found is not None


def test_update_leaves_the_old_source(one: DownloadManifestManager) -> None:
    """A record whose source was corrected is no longer found under the old one."""
    one.save()
    one.update(sha("a"), _value(source_id="right"))
    assert one.get_record_by_source("src") is None


def test_an_updated_time_leaves_the_record_in_its_normal_form(manifest: DownloadManifestManager, path: Path) -> None:
    """The rank of the old time goes, so another source of that moment may come first; else the canonical is not ours."""
    manifest.add(record("a", 5, source="mirror"))
    manifest.add(record("b", 3, source="source"))
    manifest.add(record("b", 5, source="mirror"))
    again = {"etag": None, "file_path": "/raw/b", "file_size": 2}
    manifest.update(sha("b"), {"checksum": sha("b"), "source_id": "mirror", "ts_downloaded": at(3)} | again)
    manifest.save()
    assert [finding.meaning for finding in check(resolve(path)).findings] == []


def test_update_takes_upper_case(one: DownloadManifestManager) -> None:
    """Key and checksum in upper case mean the same record."""
    one.update(sha("a").upper(), _value(checksum=sha("a").upper()))
    found = one.get(sha("a"))
    assert found is not None
    assert found.etag == "e2"


def test_update_to_no_etag(one: DownloadManifestManager) -> None:
    """An ETag can be taken away."""
    one.update(sha("a"), _value(etag=None))
    found = one.get(sha("a"))
    assert found is not None
    assert found.etag is None


def test_update_of_the_unknown(one: DownloadManifestManager) -> None:
    """An unknown key is `RecordNotFoundError`."""
    with pytest.raises(RecordNotFoundError, match=sha("x")):
        one.update(sha("x"), _value("x"))


@pytest.mark.parametrize("missing", ["checksum", "etag", "file_path", "file_size"])
def test_update_names_what_is_missing(one: DownloadManifestManager, missing: str) -> None:
    """A value without a required field is a `ValueError` naming it."""
    value = _value()
    del value[missing]
    with pytest.raises(ValueError, match=missing):
        one.update(sha("a"), value)


def test_update_names_everything_that_is_missing(one: DownloadManifestManager) -> None:
    """An empty value is a `ValueError` naming all four."""
    with pytest.raises(ValueError, match=r"checksum.*etag.*file_path.*file_size"):
        one.update(sha("a"), {})


def test_update_names_what_is_unknown(one: DownloadManifestManager) -> None:
    """A field that a record does not have is a `ValueError` naming it."""
    with pytest.raises(ValueError, match="colour"):
        one.update(sha("a"), _value(colour="red"))


@pytest.mark.parametrize("other", [sha("b"), "junk", None])
def test_update_refuses_another_checksum(one: DownloadManifestManager, other: object) -> None:
    """A checksum that is not the key is a `ValueError` naming it."""
    with pytest.raises(ValueError, match="checksum"):
        one.update(sha("a"), _value(checksum=other))


def test_update_refuses_a_key_that_is_no_checksum(one: DownloadManifestManager) -> None:
    """A key that cannot be a checksum is a `ValueError`."""
    with pytest.raises(ValueError, match="junk"):
        one.update("junk", _value())


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("file_size", 0),
        ("file_size", -1),
        ("file_size", "many"),
        ("source_id", ""),
        ("dataset", ""),
        ("file_path", 7),
        ("etag", 7),
        ("ts_downloaded", at(0).replace(tzinfo=None)),
        ("version", None),
        ("derived_from", ["junk"]),
        ("also_seen", [{"source_id": "x"}]),
    ],
)
def test_update_names_what_is_invalid(one: DownloadManifestManager, field: str, wrong: object) -> None:
    """An invalid value is a `ValueError` naming the field."""
    with pytest.raises(ValueError, match=field):
        one.update(sha("a"), _value() | {field: wrong})


@pytest.mark.parametrize("value", [{}, _value(colour="red"), _value(checksum=sha("b")), _value(file_size=0)])
def test_a_refused_update_changes_nothing(one: DownloadManifestManager, path: Path, value: dict[str, Any]) -> None:
    """Whatever was wrong with an update, no byte is written."""
    before = files_of(path.parent)
    with pytest.raises(ValueError):  # noqa: PT011 -- every kind of refusal
        one.update(sha("a"), value)
    assert files_of(path.parent) == before


def test_update_over_the_limit_is_rejected(opener: Opener) -> None:
    """An update that makes a record too long is rejected."""
    manager = opener(options=SMALL)
    manager.add(record("a"))
    with pytest.raises(RecordRejectedError):
        manager.update(sha("a"), _value(etag="e" * 600))


def test_update_warns(one: DownloadManifestManager, caplog: pytest.LogCaptureFixture) -> None:
    """Changing a download by hand is warned of, with the way to go instead."""
    with caplog.at_level(logging.WARNING, "manifestlog"):
        one.update(sha("a"), _value())
    assert "add_from_event" in caplog.text


def test_update_keeps_other_observations(one: DownloadManifestManager) -> None:
    """Other sources of the content are not forgotten by an update."""
    one.add(record("a", 5, source="other"))
    one.update(sha("a"), _value())
    assert one.get_record_by_source("src") is not None


def test_an_update_without_changes_writes_nothing(one: DownloadManifestManager, path: Path) -> None:
    """An update to what is there already leaves the files alone."""
    before = files_of(path.parent)
    one.update(sha("a"), record("a", etag="e1").model_dump())
    assert files_of(path.parent) == before


def test_update_of_one_sources_time_leaves_what_another_source_has(manifest: DownloadManifestManager) -> None:
    """The rank among contents of one time is that of the observation that was changed."""
    manifest.add(record("a", 5, source="x"))
    manifest.add(record("b", 5, source="x"))
    manifest.add(record("a", 7, source="y"))
    manifest.update(sha("a"), _value(ts_downloaded=at(3)))
    found = manifest.get_record_by_source("x")
    assert found is not None
    assert found.checksum == sha("b")


def test_an_observation_that_is_no_longer_the_latest_has_no_empty_fields(
    manifest: DownloadManifestManager, path: Path
) -> None:
    """What says nothing is left out on disk, wherever it stands."""
    manifest.add(record("a", 5, source="x"))
    manifest.add(record("a", 7, source="y"))
    manifest.update(sha("a"), _value(ts_downloaded=at(3)))
    manifest.save()
    (seen,) = json.loads(path.read_bytes())["records"][sha("a")]["also_seen"]
    assert not {"tie", "last_modified"} & seen.keys()
