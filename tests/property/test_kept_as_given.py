"""Whatever can be added is the same in every place that it travels through: log, canonical by its index, canonical alone."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from contract.builders import META, QUIET, answers
from manifestlog import DownloadManifestManager, ManifestRecord, Observation, RecordRejectedError
from support.engines import engine_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.sampled_from("abc")
ZONES = st.integers(-86_340, 86_340).map(lambda s: timezone(timedelta(seconds=s)))
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC) | ZONES)
CHECKSUM = st.integers(0, 5).map(lambda n: f"{n:x}" * 64)
SEEN: dict[str, st.SearchStrategy[Any]] = {
    "source_id": NAME,
    "dataset": NAME,
    "file_path": TEXT.map(Path),
    "etag": st.none() | TEXT,
    "last_modified": st.none() | TEXT,
    "ts_downloaded": TIMES | st.just(datetime(2024, 1, 1, tzinfo=UTC)),
    "version": TEXT,
}
RECORDS = st.builds(
    ManifestRecord,
    checksum=CHECKSUM,
    file_size=st.integers(1, 2**65) | st.sampled_from([2**53, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(1, 9),
    also_seen=st.lists(st.builds(Observation, **SEEN), max_size=3).map(tuple),
    derived_from=st.lists(CHECKSUM, max_size=3).map(tuple),
    **SEEN,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(RECORDS, min_size=1, max_size=5), st.booleans())
def test_what_was_added_is_the_same_in_log_and_canonical(records: list[ManifestRecord], at_once: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "systems_download.manifest.json"
        with DownloadManifestManager(path, META, options=QUIET) as manager:
            for record in _writable(records, manager, at_once=at_once):
                manager.add(record)
            told = answers(manager)
        with DownloadManifestManager(path, options=QUIET) as manager:
            assert answers(manager) == told, "replayed from the log"
            manager.save()
            assert answers(manager) == told, "compacted"
        with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
            assert answers(manager) == told, "read through the index"
        path.with_suffix(".idx").unlink()
        with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
            assert answers(manager) == told, "read without an index"
            assert not engine_of(manager).session._state.base.foreign, "what we write is canonical"


def _writable(
    records: list[ManifestRecord], manager: DownloadManifestManager, *, at_once: bool
) -> list[ManifestRecord]:
    """Those still to be added: the rejected ones left out, or all others added as one batch."""
    fit = [record for record in records if record.file_size < 2**63]
    if at_once:
        manager.add_many(fit)
        return []
    for record in records:
        if record not in fit:
            try:
                manager.add(record)
            except RecordRejectedError:
                continue
            raise AssertionError("a size that no reader takes was taken")
    return fit
