"""`compact` and `save`: what they report, what they leave alone."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    CompactionOutcome,
    CompactionReport,
    DamagedManifestError,
    DownloadManifestManager,
    LockTimeoutError,
    ManifestOptions,
    ReadOnlyError,
)
from manifestlog.engines.filelog.canonical import files as base, index, merge, scan
from manifestlog.engines.filelog.canonical.columns import Columns
from manifestlog.engines.filelog.canonical.index import Index
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.files import disk
from manifestlog.names import resolve
from support.engines import engine_of

from .builders import META, QUIET, meta, record, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Opener


def _canonical(path: Path) -> Any:
    return json.loads(path.read_bytes())


@pytest.fixture
def filled(manifest: DownloadManifestManager) -> DownloadManifestManager:
    """A manifest with three records in the log."""
    manifest.add_many([record("a"), record("b", source="other"), record("c", 2)])
    return manifest


@pytest.fixture
def busy(path: Path) -> Iterator[FileLock]:
    """Somebody else's compaction: its lock, through a descriptor of its own."""
    path.parent.mkdir(exist_ok=True)
    lock = FileLock(resolve(path).compact_lock, 1.0)
    with lock:
        yield lock
    lock.close()


def test_a_report_has_the_fields_of_the_contract() -> None:
    """`CompactionReport` says how it ended, and what it cost."""
    assert [f.name for f in fields(CompactionReport)] == [
        "outcome", "records_merged", "records_total", "bytes_written", "seconds", "writer_pause_s",
    ]  # fmt: skip


def test_the_outcomes_are_their_words() -> None:
    """The three ways that a compaction can end."""
    assert [str(o) for o in CompactionOutcome] == ["compacted", "nothing_to_do", "already_running"]


def test_compact_reports_what_it_merged(filled: DownloadManifestManager) -> None:
    """Outcome and counts of a first compaction."""
    report = filled.compact()
    assert (report.outcome, report.records_merged, report.records_total) == ("compacted", 3, 3)


def test_compact_reports_what_it_wrote(filled: DownloadManifestManager, path: Path) -> None:
    """`bytes_written` is the new canonical's size."""
    assert filled.compact().bytes_written == path.stat().st_size


def test_compact_reports_how_long_it_took(filled: DownloadManifestManager) -> None:
    """Writers wait for less time than the compaction takes, and both take some."""
    report = filled.compact()
    assert 0 < report.writer_pause_s < report.seconds


def test_a_second_compaction_merges_only_what_is_new(filled: DownloadManifestManager) -> None:
    """Only what the log says is counted as merged."""
    filled.compact()
    filled.add(record("d"))
    report = filled.compact()
    assert (report.records_merged, report.records_total) == (1, 4)


def test_a_forgotten_record_is_merged(filled: DownloadManifestManager) -> None:
    """A tombstone is merged too, and the record is gone from the canonical."""
    filled.compact()
    filled.forget(sha("a"))
    filled.compact()
    assert sorted(_canonical(filled.path)["records"]) == sorted([sha("b"), sha("c")])


def test_forgetting_everything_gives_the_skeleton(filled: DownloadManifestManager, path: Path) -> None:
    """A canonical without records is the skeleton again."""
    filled.compact()
    for content in "abc":
        filled.forget(sha(content))
    filled.compact()
    assert path.read_bytes().endswith(b'    "records": {}\n}\n')


def test_compact_puts_everything_in_the_canonical(filled: DownloadManifestManager, path: Path) -> None:
    """A plain JSON reader sees all records after a compaction."""
    filled.compact()
    assert set(_canonical(path)["records"]) == {sha(c) for c in "abc"}


def test_the_canonicals_metadata_are_the_live_ones(filled: DownloadManifestManager, path: Path) -> None:
    """What the canonical says of itself is what `metadata` says."""
    filled.compact()
    assert _canonical(path)["metadata"] == filled.metadata.model_dump(mode="json")


@pytest.mark.parametrize("how", ["compact", "save"])
def test_nothing_to_do_is_reported(filled: DownloadManifestManager, how: str) -> None:
    """With nothing to merge, the outcome says so."""
    filled.compact()
    assert getattr(filled, how)().outcome is CompactionOutcome.NOTHING_TO_DO


@pytest.mark.parametrize("how", ["compact", "save"])
def test_nothing_to_do_counts_the_records(filled: DownloadManifestManager, how: str) -> None:
    """With nothing to merge, the total is still told."""
    filled.compact()
    assert getattr(filled, how)().records_total == 3


@pytest.mark.parametrize("how", ["compact", "save"])
def test_nothing_to_do_leaves_the_canonical_untouched(filled: DownloadManifestManager, path: Path, how: str) -> None:
    """With nothing to merge, bytes, time and identity of the file stay."""
    filled.compact()
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
    getattr(filled, how)()
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_a_fresh_manifest_has_nothing_to_do(manifest: DownloadManifestManager, path: Path) -> None:
    """A manifest that nobody wrote to is not rewritten."""
    before = path.stat().st_mtime_ns
    manifest.save()
    assert path.stat().st_mtime_ns == before


def test_a_duplicate_leaves_nothing_to_do(filled: DownloadManifestManager) -> None:
    """A write that changed nothing needs no compaction."""
    filled.compact()
    filled.add(record("a"))
    assert filled.compact().outcome is CompactionOutcome.NOTHING_TO_DO


def test_reopening_leaves_nothing_to_do(filled: DownloadManifestManager, opener: Opener) -> None:
    """What was compacted before a close is not compacted again after it."""
    filled.compact()
    filled.close()
    assert opener(None).compact().outcome is CompactionOutcome.NOTHING_TO_DO


def test_covered_segments_move_to_the_history(filled: DownloadManifestManager, path: Path) -> None:
    """After a compaction one segment is left beside the canonical file; the covered one is in `history/`."""
    (covered,) = segments_of(path.parent)
    before = covered.read_bytes()
    filled.compact()
    assert len(segments_of(path.parent)) == 1
    assert (path.parent / "history" / covered.name).read_bytes().startswith(before)  # then its seal


def test_segment_numbers_are_never_reused(filled: DownloadManifestManager, path: Path) -> None:
    """Every compaction leaves a higher number than the one before."""
    filled.compact()
    first = segments_of(path.parent)[-1].name
    filled.add(record("d"))
    filled.compact()
    assert segments_of(path.parent)[-1].name > first


def test_nothing_temporary_is_left(filled: DownloadManifestManager, path: Path) -> None:
    """After a compaction there is nothing but the files of the design."""
    filled.compact()
    assert {f.name for f in path.parent.iterdir()} == {
        "systems_download.manifest.json",
        "systems_download.manifest.idx",
        "systems_download.manifest.lock",
        "systems_download.manifest.compact.lock",
        "history",
        "systems_download.manifest.wal-000002.jsonl",
    }


def test_lock_files_stay_and_stay_empty(filled: DownloadManifestManager, path: Path) -> None:
    """Whoever waits for a lock has the file open: it is the same one for ever, and has nothing to say."""
    filled.compact()
    before = {lock.name: (lock.stat().st_ino, lock.stat().st_size) for lock in path.parent.glob("*.lock")}
    filled.add(record("d"))
    filled.save()
    filled.close()
    after = {lock.name: (lock.stat().st_ino, lock.stat().st_size) for lock in path.parent.glob("*.lock")}
    assert after == before
    assert [size for _, size in after.values()] == [0, 0]


def test_a_merged_file_that_does_not_read_back_is_not_published(
    filled: DownloadManifestManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 4 reads what was written: a disk that keeps other bytes costs a compaction and no record."""
    before = path.read_bytes()
    real = disk.sync_data

    def sync_data(fd: int) -> None:
        real(fd)
        written = Path(f"/proc/self/fd/{fd}").resolve()
        if ".json.tmp-" in written.name:
            written.write_bytes(written.read_bytes().replace(b"raw", b"rav", 1))

    monkeypatch.setattr(disk, "sync_data", sync_data)
    with pytest.raises(DamagedManifestError, match="does not read back"):
        filled.compact()
    assert (path.read_bytes(), [f.name for f in path.parent.iterdir() if ".tmp-" in f.name]) == (before, [])


def test_a_canonical_replaced_during_a_compaction_is_not_overwritten(
    filled: DownloadManifestManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody has put there during a compaction is looked at by the next opening, and not lost unseen."""
    real = merge.write

    def write(*args: Any) -> Any:
        os.utime(path, (1, 1))
        return real(*args)

    monkeypatch.setattr(merge, "write", write)
    with pytest.raises(DamagedManifestError, match="replaced the file"):
        filled.compact()
    assert path.stat().st_mtime == 1


def test_a_running_compaction_is_reported(filled: DownloadManifestManager, busy: FileLock) -> None:
    """A second compactor returns at once and says why."""
    del busy
    assert filled.compact().outcome is CompactionOutcome.ALREADY_RUNNING


def test_save_waits_no_longer_than_asked(opener: Opener, busy: FileLock) -> None:
    """`save` gives up after `lock_timeout_s`."""
    del busy
    manager = opener(options=replace(QUIET, lock_timeout_s=0.05))
    manager.add(record("a"))
    with pytest.raises(LockTimeoutError, match=r"compact\.lock.*0\.05 s"):
        manager.save()


def test_save_waits_for_a_compaction(opener: Opener, busy: FileLock, path: Path) -> None:
    """`save` waits for a running compaction, then makes sure that the canonical holds everything."""
    manager = opener()
    manager.add(record("a"))
    timer = threading.Timer(0.1, busy.release)
    timer.start()
    manager.save()
    timer.join()
    assert sha("a") in _canonical(path)["records"]


def test_if_needed_does_nothing_too_early(filled: DownloadManifestManager) -> None:
    """A short and young log needs no compaction."""
    assert filled.compact(if_needed=True).outcome is CompactionOutcome.NOTHING_TO_DO


def test_if_needed_compacts_a_long_log(opener: Opener) -> None:
    """A log past its limit is compacted."""
    manager = opener(options=replace(QUIET, compact_log_bytes_min=1, compact_log_bytes_max=100))
    manager.add(record("a"))
    assert manager.compact(if_needed=True).outcome is CompactionOutcome.COMPACTED


def test_if_needed_compacts_an_old_log(opener: Opener) -> None:
    """A log older than the interval is compacted."""
    manager = opener(options=replace(QUIET, compact_interval_s=1e-6))
    manager.add(record("a"))
    assert manager.compact(if_needed=True).outcome is CompactionOutcome.COMPACTED


def test_the_last_writer_compacts_on_close(opener: Opener, path: Path) -> None:
    """After a clean close the canonical holds everything."""
    with opener(options=replace(QUIET, compact_on_close=True)) as manager:
        manager.add(record("a"))
    assert sha("a") in _canonical(path)["records"]


FRUGAL = replace(QUIET, compact_small_bytes=0, compact_write_ratio=1.0, compact_interval_s=1e-6)
"""No canonical is small, and a compaction may write no more than the log has."""


@pytest.fixture
def waiting(opener: Opener) -> DownloadManifestManager:
    """A canonical of a hundred records, and one record in the log, which is not worth a compaction."""
    manager = opener(options=replace(FRUGAL, compact_on_close=True))
    manager.add_many([record(f"old-{n}", n) for n in range(100)])
    manager.save()
    manager.add(record("a"))
    return manager


def test_a_log_that_is_not_worth_it_is_left_on_close(path: Path) -> None:
    """A large canonical is not written anew for each short script."""
    closed_without_worth(path)


def closed_without_worth(path: Path) -> None:
    """A short script at a canonical that is large for it."""
    with DownloadManifestManager(path, META, options=replace(FRUGAL, compact_on_close=True)) as manager:
        manager.add_many([record(f"old-{n}", n) for n in range(100)])
        manager.save()
        before = path.read_bytes()
        manager.add(record("a"))
    assert path.read_bytes() == before


def test_what_a_close_has_left_in_the_log_is_there(waiting: DownloadManifestManager, opener: Opener) -> None:
    """Whoever opens the manifest reads the log as well."""
    waiting.close()
    assert opener(None).get(sha("a")) == record("a")


def test_what_several_scripts_have_left_is_merged_once_it_is_worth_it(
    waiting: DownloadManifestManager, opener: Opener, path: Path
) -> None:
    """Each leaves its records in the log, until that is long enough."""
    waiting.close()
    with opener(None, options=replace(FRUGAL, compact_on_close=True)) as manager:
        manager.add_many([record(f"new-{n}", n) for n in range(200)])
    assert sha("a") in _canonical(path)["records"]


def test_if_needed_leaves_a_log_that_is_not_worth_it(waiting: DownloadManifestManager) -> None:
    """However old it is."""
    assert waiting.compact(if_needed=True).outcome is CompactionOutcome.NOTHING_TO_DO


@pytest.mark.parametrize("merge", [DownloadManifestManager.compact, DownloadManifestManager.save])
def test_who_asks_for_it_gets_any_log_merged(waiting: DownloadManifestManager, path: Path, merge: Any) -> None:
    """The rule is for compactions that nobody has asked for."""
    merge(waiting)
    assert sha("a") in _canonical(path)["records"]


def test_a_log_at_twice_its_limit_is_always_worth_it(waiting: DownloadManifestManager, opener: Opener) -> None:
    """Memory goes before the disk."""
    waiting.close()
    manager = opener(None, options=replace(FRUGAL, compact_log_bytes_min=1, compact_log_bytes_max=100))
    assert manager.compact(if_needed=True).outcome is CompactionOutcome.COMPACTED


def test_an_automatic_compaction_waits_until_it_is_worth_it(opener: Opener, path: Path) -> None:
    """The first log is worth it; a second of one record is not."""
    manager = opener(options=replace(FRUGAL, auto_compact=True))
    manager.add_many([record(f"old-{n}", n) for n in range(100)])
    while not _canonical(path)["records"]:
        engine_of(manager).background._compact_if_due()
    before = path.read_bytes()
    manager.add(record("a"))
    engine_of(manager).background._compact_if_due()
    assert path.read_bytes() == before


def test_a_close_without_changes_compacts_nothing(opener: Opener, path: Path) -> None:
    """A writer that wrote nothing leaves the canonical alone."""
    opener().close()
    before = path.stat().st_mtime_ns
    with opener(options=replace(QUIET, compact_on_close=True)) as manager:
        list(manager)
    assert path.stat().st_mtime_ns == before


def test_a_newer_version_alone_is_something_to_merge(opener: Opener) -> None:
    """A `meta` line makes a compaction worth while."""
    opener().close()
    assert opener(meta(etl_version="2")).compact().outcome is CompactionOutcome.COMPACTED


def test_the_order_of_additions_does_not_change_the_bytes(opener: Opener, path: Path) -> None:
    """The same records give the same bytes, whoever added them in whatever order, the metadata's times aside."""
    records = [record(f"c{n}", n, source=f"s{n % 3}") for n in range(12)]
    bodies = []
    for number, order in enumerate([records, records[::-1], records[::2] + records[1::2]]):
        manager = opener(path=path.with_name(f"m_{number}.manifest.json"))
        for count, each in enumerate(order):
            manager.add(each)
            if count % 5 == 4 * (number % 2):
                manager.compact()
        manager.save()
        bodies.append(manager.path.read_bytes().split(b'"records"')[1])
    assert bodies[0] == bodies[1] == bodies[2]


def test_the_order_of_a_contents_sources_does_not_change_the_bytes(opener: Opener, path: Path) -> None:
    """A content of three sources has the same bytes, whoever was first."""
    seen = [record("a", minute, source=source) for minute, source in enumerate(["x", "y", "z"])]
    bodies = []
    for number, order in enumerate([seen, seen[::-1]]):
        manager = opener(path=path.with_name(f"m_{number}.manifest.json"))
        for each in order:
            manager.add(each)
        manager.save()
        bodies.append(manager.path.read_bytes().split(b'"records"')[1])
    assert bodies[0] == bodies[1]


def test_compacting_record_by_record_gives_the_same_bytes(opener: Opener, path: Path) -> None:
    """Merging one by one and merging all at once give the same file."""
    records = [record(f"c{n}", n) for n in range(10)]
    slow, fast = (opener(path=path.with_name(f"m_{n}.manifest.json")) for n in range(2))
    for each in records:
        slow.add(each)
        slow.compact()
    fast.add_many(records)
    fast.compact()
    one, other = (m.path.read_bytes().split(b'"records"')[1] for m in (slow, fast))
    assert one == other


def test_the_mode_of_the_canonical_is_kept(filled: DownloadManifestManager, path: Path) -> None:
    """Whoever may read the canonical still may after a compaction."""
    path.chmod(0o640)
    filled.compact()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_compaction_replaces_the_file(filled: DownloadManifestManager, path: Path) -> None:
    """Somebody who reads the old canonical reads it to its end."""
    with path.open("rb") as old:
        filled.compact()
        assert json.loads(old.read())["records"] == {}


def test_a_lost_index_is_rebuilt(filled: DownloadManifestManager, path: Path) -> None:
    """A compaction with nothing to merge puts a missing index back."""
    filled.compact()
    index = path.parent / "systems_download.manifest.idx"
    index.unlink()
    filled.compact()
    assert index.exists()


def test_a_touched_canonical_still_answers(filled: DownloadManifestManager, opener: Opener, path: Path) -> None:
    """A canonical whose time was changed, for instance by a restored backup, answers as before."""
    filled.compact()
    filled.close()
    os.utime(path, (1, 1))
    assert opener(None).get(sha("a")) == record("a")


def test_automatic_compaction_runs_beside_the_writer(opener: Opener, path: Path) -> None:
    """With `auto_compact` a log past its limit is compacted without being asked."""
    options = ManifestOptions(compact_log_bytes_min=1, compact_log_bytes_max=1000, compact_on_close=False)
    manager = opener(options=options)
    for number in range(2000):
        manager.add(record(f"c{number}", number))
        if _canonical(path)["records"]:
            break
    assert _canonical(path)["records"]


def test_a_merged_index_equals_one_from_a_scan(manifest: DownloadManifestManager, path: Path) -> None:
    """Records that stay, go, come, and come again with the very row of their source in the index."""
    manifest.add_many([record(f"old-{n}", n, source=f"s{n % 7}") for n in range(300)])
    manifest.save()
    kept = list(manifest)
    for checksum in kept[10:60:5]:
        manifest.forget(checksum)
    for checksum in kept[100:140]:
        manifest.update(checksum, {"checksum": checksum, "etag": None, "file_path": "/moved", "file_size": 9})
    manifest.add_many([record(f"new-{n}", n, source=f"s{n % 9}") for n in range(50)])
    manifest.save()
    merged = Path(resolve(path).index).read_bytes()
    source = scan.Canonical(str(path), disk.open_read(str(path)))
    head = Index(merged).head
    assert b"".join(index.encode(scan.scan(source).columns, head)) == merged


@pytest.fixture
def disagreeing(filled: DownloadManifestManager, path: Path) -> DownloadManifestManager:
    """A manifest with an index that is intact and says another source than the canonical, and something to merge."""
    filled.save()
    found = base.open_base(resolve(path))
    columns = found.index.columns()
    sources = bytearray(columns.sources)
    sources[0] ^= 1
    rows = sorted(bytes(sources[at : at + 32]) for at in range(0, len(sources), 32))
    base.write_index(resolve(path), replace_sources(columns, b"".join(rows)), found.index.head)
    for name in "abc":
        filled.add(record(name, 5, etag="another"))
    return filled


def replace_sources(columns: Any, sources: bytes) -> Columns:
    return Columns(columns.digests, columns.offsets, columns.crcs, sources)


def test_an_index_that_differs_from_the_canonical_is_rebuilt(disagreeing: DownloadManifestManager, path: Path) -> None:
    """It is found out late, when the sources of a record that has changed are looked for."""
    disagreeing.compact()
    found = base.open_base(resolve(path))
    assert bytes(found.index.columns().sources) == bytes(
        base.open_base(resolve(path), scan=True).index.columns().sources
    )


def test_a_reader_does_not_compact(filled: DownloadManifestManager, opener: Opener, path: Path) -> None:
    """Nor does it leave a lock file where there was none."""
    filled.close()
    reader = opener(None, read_only=True)
    with pytest.raises(ReadOnlyError):
        reader.save()
    assert not Path(resolve(path).compact_lock).exists()


def test_a_long_batch_is_noticed_at_once(opener: Opener) -> None:
    """Few lines may make a long log."""
    manager = opener(options=replace(QUIET, compact_log_bytes_min=1, compact_log_bytes_max=1))
    manager.add_many([record("a"), record("b", source="other")])
    assert engine_of(manager).session.log_is_long
