"""A limit on the size of files (`RLIMIT_FSIZE`) at every byte of every file that is written: canonical, index, segment.

Holds "never half" of the README and `docs/FORMAT.md`, sections 9 and 10, where a write ends in the middle: the kernel
writes what fits and refuses the rest. Single lines at every byte stand in `tests/crash/test_disk_failures.py`.
"""

from __future__ import annotations

import os
import resource
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import AddManyStoppedError, DiskFullError, DownloadManifestManager
from support.integrity import active_segment, check_manifest, checked, load_canonical, puts, temporaries
from support.records import QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.children import Link, Start
    from support.counts import Count

every = pytest.mark.parametrize
STEPS = every("step", [13, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory where there is such a place: there are thousands of syncs here, and none of them matters."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as root, checked(Path(root) / "manifests") as found:
        yield found


@contextmanager
def limited(size_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond this size."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def refused(size_bytes: int, act: Callable[[], object]) -> bool:
    """Whether there was no room for it; any other error is a failure."""
    with limited(size_bytes):
        try:
            act()
        except DiskFullError:
            return True
        return False


def create(_link: Link, directory: Path, step: int) -> int:
    """Create a manifest under every limit until it can be created and written to."""
    limit = 0
    while True:
        path = directory / f"limit-{limit}" / "systems_download.manifest.json"
        path.parent.mkdir()

        def act(path: Path = path) -> None:
            with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
                manifest.add(make_record(0))

        was_refused = refused(limit, act)
        assert temporaries(path.parent) == []
        if path.exists():
            check_manifest(path)
        assert was_refused or checksum(0) in puts(active_segment(path))
        act()  # with room it is created, or opened and written to
        assert checksum(0) in puts(active_segment(path))
        if not was_refused:
            return limit
        limit += step


@STEPS
def test_creating_at_every_limit(directory: Path, start: Start, count: Count, step: int) -> None:
    """There is no manifest or a whole one, nothing unfinished lies about, and with room it works."""
    limit = start(create, directory, step).result(300)
    assert limit > 500  # skeleton, first line of a segment, and a record behind it
    count("file size limits", limit // step)


def batches(_link: Link, path: Path, step: int) -> int:
    """A batch under every limit that cuts its line."""
    tried = 0
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(0))
        while True:
            records = [make_record(1 + 5 * tried + n) for n in range(5)]
            before = active_segment(path).read_bytes()
            known = set(manifest)
            with limited(len(before) + tried * step):
                try:
                    manifest.add_many(records)
                    return tried
                except AddManyStoppedError as error:
                    stopped = error
            assert (type(stopped.cause), sum(stopped.landed.values())) == (DiskFullError, 0)
            assert active_segment(path).read_bytes() == before
            assert set(manifest) == known
            manifest.add_many(records)
            tried += 1


@STEPS
def test_a_batch_at_every_limit(path: Path, start: Start, count: Count, step: int) -> None:
    """Nothing of it is left, and with room all of it goes in."""
    tried = start(batches, path, step).result(300)
    assert tried > 1_000 // step
    count("file size limits", tried)


def rotations(_link: Link, path: Path, step: int) -> int:
    """A rotation under every limit that cuts the seal; then such that cut the successor's first line."""
    tried = 0
    rotating = replace(QUICK, segment_bytes_max=1)
    with DownloadManifestManager(path, metadata(), options=rotating) as manifest:
        manifest.add(make_record(0))
        limits = [len(active_segment(path).read_bytes()) + room for room in range(0, 120, step)]
        for limit in [*range(0, 300, step), *limits]:
            tried += 1
            known = set(manifest)
            record = make_record(tried)
            was_refused = refused(limit, lambda record=record: manifest.add(record))  # type: ignore[misc]
            assert temporaries(path.parent) == []
            assert set(manifest) == known | (set() if was_refused else {record.checksum})
            assert manifest.add(record).verdict == ("new" if was_refused else "duplicate")
            assert set(manifest) == known | {record.checksum}
    return tried


@STEPS
def test_a_rotation_at_every_limit(path: Path, start: Start, count: Count, step: int) -> None:
    """A seal or a first line that does not fit is said; the log goes on behind it when there is room, complete."""
    tried = start(rotations, path, step).result(300)
    with DownloadManifestManager(path, options=QUICK) as manifest:
        assert len(manifest) == tried + 1
        manifest.save()
    count("file size limits", tried)


RECORDS = 12


def compactions(_link: Link, path: Path, step: int) -> int:
    """A compaction under every limit that cuts the canonical, the announcement in the log, or the index."""
    expected = {checksum(n) for n in range(RECORDS)}
    limit = 0
    # Every change begins a segment, so that the active one is always small: the limit falls on what is merged.
    with DownloadManifestManager(path, metadata(), options=replace(QUICK, segment_bytes_max=1)) as manifest:
        manifest.add_many([make_record(n) for n in range(RECORDS)])
        while True:
            manifest.add(make_record(1_000))
            manifest.forget(checksum(1_000))
            if not refused(limit, manifest.compact):
                return limit
            assert set(load_canonical(path)["records"]) in (set(), expected)
            assert temporaries(path.parent) == []
            assert set(manifest) == expected
            assert manifest.compact().outcome in ("compacted", "nothing_to_do")
            assert set(load_canonical(path)["records"]) == expected
            limit += step


@every("step", [97, pytest.param(3, marks=pytest.mark.slow)])
def test_a_compaction_at_every_limit(path: Path, start: Start, count: Count, step: int) -> None:
    """The canonical is the old one or the new one, nothing unfinished lies about, and every record is there."""
    limit = start(compactions, path, step).result(300)
    assert limit > 3_000
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.save()
    assert set(load_canonical(path)["records"]) == {checksum(n) for n in range(RECORDS)}
    count("file size limits", limit // step)
