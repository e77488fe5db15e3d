"""A state machine over the public API: whatever happens in whatever order, the manifest means what the model means.

Small domains, so that ties, aliases, reverts and forgotten contents come up all the time, and tiny segments, so that every
few writes rotate. A second store on the same files, opened past the registry, plays another process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from manifestlog import (
    DownloadManifestManager,
    ManifestRecord,
    Observation,
    RecordNotFoundError,
    Verdict,
)
from manifestlog.engines.filelog import driver
from manifestlog.model import codec
from manifestlog.model.codec import encoded_bytes
from manifestlog.model.models import record_from_row, row_from_record

from .model import Model, Pair, Seen
from .setting import META, T0, options, record_of

if TYPE_CHECKING:
    from manifestlog.engines.filelog.engine import FileEngine

OPTIONS = options(segment_bytes_max=1500, batch_records_max=3)

SOURCES = [f"s{n}" for n in range(4)]
DATASETS = ["d0", "d1"]
CHECKSUMS = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(6)]
PAIRS = [Pair(s, d) for s in SOURCES for d in DATASETS]

pairs = st.sampled_from(PAIRS)
checksums = st.sampled_from(CHECKSUMS)
seen = st.builds(Seen, st.integers(0, 3), st.sampled_from([None, "e1", "e2"]), st.sampled_from(["/p", "/q"]))
events = st.tuples(checksums, pairs, seen)
JUNK = st.sampled_from([b"{", b'{"op":"put","ts":"', b"\0\0\0", b"junk\xff", b'{"op":"forget","crc":"00000000"}', b" "])


def _observations(record: ManifestRecord) -> list[ManifestRecord | Observation]:
    return [record, *record.also_seen]


def _said(record: ManifestRecord) -> dict[Pair, tuple[datetime, str | None, str]]:
    """What every pair said of a content, as a record tells it."""
    return {Pair(o.source_id, o.dataset): (o.ts_downloaded, o.etag, str(o.file_path)) for o in _observations(record)}


class ManifestMachine(RuleBasedStateMachine):
    """One manifest, one model."""

    manager: DownloadManifestManager | None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="manifestlog-"))
        self.path = self.folder / "systems_download.manifest.json"
        self.model = Model()
        self.manager = None
        self.other: FileEngine | None = None

    @initialize()
    def create(self) -> None:
        self.manager = DownloadManifestManager(self.path, META, options=OPTIONS)

    def teardown(self) -> None:
        self._close_all()
        shutil.rmtree(self.folder)

    def _close_all(self) -> None:
        if self.manager is not None:
            self.manager.close()
            self.manager = None
        if self.other is not None:
            self.other.session.close()
            self.other = None

    def _another_process(self) -> FileEngine:
        if self.other is None:
            self.other = driver.open(driver.locate(str(self.path)), None, OPTIONS, read_only=False)
        return self.other

    @property
    def _open(self) -> DownloadManifestManager:
        assert self.manager is not None
        return self.manager

    # -- writes --------------------------------------------------------------------------------------------------------

    is_open = precondition(lambda self: self.manager is not None)

    @is_open
    @rule(event=events)
    def add(self, event: tuple[str, Pair, Seen]) -> None:
        answer = self._open.add(record_of(*event))
        assert answer.verdict == self.model.add(*event)
        self._check_view(answer.record, event[0], event[1])

    @is_open
    @rule(several=st.lists(events, max_size=8))
    def add_many(self, several: list[tuple[str, Pair, Seen]]) -> None:
        counts = self._open.add_many(record_of(*event) for event in several)
        expected = Counter(self.model.add(*event) for event in several)
        assert counts == {verdict: expected[verdict.value] for verdict in Verdict}

    @is_open
    @rule(event=events)
    def add_elsewhere(self, event: tuple[str, Pair, Seen]) -> None:
        record = record_of(*event)
        verdict, stored = self._another_process().add(encoded_bytes(codec.dumps(row_from_record(record))))
        assert verdict == self.model.add(*event)
        self._check_view(record if stored is None else record_from_row(stored), event[0], event[1])

    @is_open
    @rule(checksum=checksums)
    def forget(self, checksum: str) -> None:
        assert self._open.forget(checksum) is self.model.forget(checksum)

    @is_open
    @rule(checksum=checksums)
    def forget_elsewhere(self, checksum: str) -> None:
        assert self._another_process().forget(checksum) is self.model.forget(checksum)

    @is_open
    @rule(checksum=checksums, etag=st.sampled_from([None, "e1", "e9"]), path=st.sampled_from(["/p", "/moved"]))
    def update(self, checksum: str, etag: str | None, path: str) -> None:
        value = {"checksum": checksum, "etag": etag, "file_path": path, "file_size": 7}
        known = self._open.get(checksum)
        if known is None:
            with pytest.raises(RecordNotFoundError):
                self._open.update(checksum, value)
        else:
            self._open.update(checksum, value)
            self.model.update(checksum, Pair(known.source_id, known.dataset), etag, path)

    # -- keeping -------------------------------------------------------------------------------------------------------

    @is_open
    @rule()
    def compact(self) -> None:
        self._open.compact()

    @is_open
    @rule()
    def save(self) -> None:
        self._open.save()
        assert f'"total_records": {len(self.model.contents)},'.encode() in self.path.read_bytes()

    @precondition(lambda self: self.other is not None)
    @rule()
    def close_the_other(self) -> None:
        assert self.other is not None
        self.other.session.close()
        self.other = None

    @is_open
    @rule()
    def close(self) -> None:
        self._close_all()

    @rule(compact=st.booleans())
    def reopen(self, *, compact: bool) -> None:
        self._close_all()
        self.manager = DownloadManifestManager(self.path, options=OPTIONS)
        if compact:
            self.manager.compact()

    # -- accidents -----------------------------------------------------------------------------------------------------

    @property
    def _index(self) -> Path:
        return self.folder / "systems_download.manifest.idx"

    @precondition(lambda self: self._index.exists())
    @rule()
    def lose_the_index(self) -> None:
        self._index.unlink()

    @precondition(lambda self: self._index.exists())
    @rule(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=3))
    def damage_the_index(self, places: list[tuple[float, int]]) -> None:
        data = bytearray(self._index.read_bytes())
        for place, bit in places:
            data[int(place * len(data))] ^= 1 << bit
        # By rename, as everything that replaces an index does: one that is mapped stays as it was.
        aside = self.folder / "aside"
        aside.write_bytes(data)
        aside.replace(self._index)

    @precondition(lambda self: self.manager is None)
    @rule(moment=st.integers(1, 9))
    def move_the_canonicals_time(self, moment: int) -> None:
        os.utime(self.path, ns=(moment, moment))

    @precondition(lambda self: self.manager is None)
    @rule(junk=JUNK)
    def tear_the_tail(self, junk: bytes) -> None:
        segments = sorted(self.folder.glob("*.wal-*.jsonl"))
        if segments:
            with segments[-1].open("ab") as file:
                file.write(junk)

    # -- what must be true ---------------------------------------------------------------------------------------------

    def _check_view(self, record: ManifestRecord, checksum: str, pair: Pair) -> None:
        """A record as `pair` sees it: its own words in front, everybody else's behind."""
        assert (record.checksum, record.source_id, record.dataset) == (checksum, *pair)
        self._check_said(record)

    def _check_said(self, record: ManifestRecord) -> None:
        assert _said(record) == {
            pair: (T0 + timedelta(minutes=s.time), s.etag, s.path)
            for pair, s in self.model.contents[record.checksum].items()
        }

    @invariant()
    def the_manifest_agrees(self) -> None:
        if self.manager is not None:
            self._check(self.manager)

    @precondition(lambda self: self.manager is None)
    @rule()
    def a_reader_agrees(self) -> None:
        with DownloadManifestManager(self.path, options=OPTIONS, read_only=True) as reader:
            self._check(reader)

    @is_open
    @rule()
    def a_reader_alongside_agrees(self) -> None:
        reader = driver.open(driver.locate(str(self.path)), None, OPTIONS, read_only=True)
        try:
            assert reader.count() == len(self.model.contents)
            assert [reader.has(c) for c in CHECKSUMS] == [c in self.model.contents for c in CHECKSUMS]
            for pair in PAIRS:
                row = reader.latest(*pair)
                found = self.model.current(*pair)
                assert (row and row["checksum"]) == (found and found[1])
        finally:
            reader.session.close()

    def _check(self, manager: DownloadManifestManager) -> None:
        expected = sorted(self.model.contents)
        assert len(manager) == manager.metadata.total_records == len(expected)
        assert list(manager) == list(manager.records) == expected
        for checksum in CHECKSUMS:
            known = checksum in self.model.contents
            assert manager.has_checksum(checksum) == (checksum in manager) == (checksum.upper() in manager) == known
            record = manager.get(checksum)
            assert (record is not None) == known
            if record is not None:
                self._check_said(record)
                assert record.ts_downloaded == max(o.ts_downloaded for o in _observations(record))
        assert {c: manager.get(c) for c in expected} == dict(manager.records.items())
        for pair in PAIRS:
            self._check_source(manager, pair.source_id, pair.dataset)
        for source_id in SOURCES:
            self._check_source(manager, source_id, None)

    def _check_source(self, manager: DownloadManifestManager, source_id: str, dataset: str | None) -> None:
        record = manager.get_record_by_source(source_id, dataset)
        found = self.model.current(source_id, dataset)
        if record is None or found is None:
            assert (record, found) == (None, None)
        else:
            self._check_view(record, found[1], found[0])


QUICK = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def test_the_manifest_means_what_the_model_means() -> None:
    """Sixty histories of thirty steps."""
    run_state_machine_as_test(ManifestMachine, settings=QUICK)


@pytest.mark.slow
def test_the_manifest_means_what_the_model_means_for_long() -> None:
    """Six hundred histories of eighty steps."""
    run_state_machine_as_test(
        ManifestMachine, settings=settings(QUICK, max_examples=600, stateful_step_count=80, derandomize=False)
    )
