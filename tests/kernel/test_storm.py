"""Eight writers, two readers and a compactor on one manifest; one of them is killed every 10 to 50 ms, and replaced.

Holds the README's and the design's promises "acknowledged means kept", "never half", "everyone sees everything", "one
winner" and "writers never wait for compaction" against `kill -9`; of `docs/FORMAT.md`, what sections 9 and 10 say of a
crash at any moment, and that locks (section 7) die with their holders.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel.diary import read_diaries
from kernel.history import Op, contradiction
from kernel.storm import ROSTER, Outcome, rage, record
from manifestlog import DownloadManifestManager
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.names import resolve
from support.children import children
from support.integrity import checked, load_canonical, segments, temporaries
from support.records import MANUAL, NAME, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel.diary import Findings
    from manifestlog import ManifestRecord, Observation
    from support.counts import Count

STORM_S = 600.0
MEMORY = "/dev/shm"
AFTERWARDS = 3_000_000_000


@dataclass
class Storm:
    """A storm that is over, what the diaries say of it, and what was found there at the end."""

    outcome: Outcome
    findings: Findings
    path: Path
    stored: dict[str, ManifestRecord]
    seconds_to_add: float


def doses() -> list[object]:
    """(kills, where, part of the seed): a short dose, and 3,600 kills in pieces."""
    places = ("disk", "memory")  # in memory a sync costs nothing, so there is more to do between two kills
    short = [pytest.param((50, "disk", 0), id="50 kills, disk")]
    long = [pytest.param((600, place, n), id=f"600 kills, {place}, {n}") for n in (1, 2, 3) for place in places]
    return [*short, *(pytest.param(*p.values, id=p.id, marks=pytest.mark.slow) for p in long)]


@pytest.fixture(scope="module", params=doses())
def storm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, count: Count) -> Iterator[Storm]:
    kills, place, part = request.param
    seed = int(os.environ.get("MANIFESTLOG_TEST_SEED", "20240101")) + part
    scratch = tmp_path_factory.mktemp("storm")
    diaries = scratch / "diaries"
    diaries.mkdir()
    print(f"storm: seed={seed}")
    with _manifests(scratch, place) as directory, children() as start:
        path = directory / NAME
        DownloadManifestManager(path, metadata(), options=MANUAL).close()
        outcome: Outcome = start(rage, path, diaries, kills, seed).result(STORM_S)
        yield _look_at(outcome, path, seed, count)


@contextmanager
def _manifests(scratch: Path, place: str) -> Iterator[Path]:
    if place == "disk":
        with checked(scratch / "manifests") as directory:
            yield directory
        return
    if not os.access(MEMORY, os.W_OK):
        pytest.skip(f"no file system in memory at {MEMORY}")
    with tempfile.TemporaryDirectory(dir=MEMORY) as root, checked(Path(root) / "manifests") as directory:
        yield directory


def _look_at(outcome: Outcome, path: Path, seed: int, count: Count) -> Storm:
    findings = read_diaries(outcome.deaths)
    began = time.monotonic()
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(AFTERWARDS))
        seconds = time.monotonic() - began
        manifest.forget(checksum(AFTERWARDS))
        manifest.save()
        stored = dict(manifest.records.items())
    counts = findings.counts
    told = {
        "kills": outcome.kills,
        "falls": outcome.falls,
        "processes": len(outcome.deaths),
        "acknowledged": counts["records acknowledged"],
        "in doubt": sum(number for what, number in counts.items() if what.endswith("in doubt")),
        "compactions": counts["compacted"],
        "canonicals watched": outcome.versions_watched,
        "fences": counts["fences"],
        "looks": counts["looks"],
    }
    print(f"storm: seed={seed} " + " ".join(f"{what.replace(' ', '_')}={number:,}" for what, number in told.items()))
    for what, number in told.items():
        count(what if what == "kills" else f"storm {what}", number)
    return Storm(outcome, findings, path, stored, seconds)


def test_nobody_fails(storm: Storm) -> None:
    """Who is not killed gets no error: no lock left by the dead, no damage, no conflict."""
    assert storm.outcome.failures == []


def test_it_was_a_storm(storm: Storm) -> None:
    """The checks are no empty ones: many records, torn lines, compactions, rotations."""
    counts = storm.findings.counts
    kills = storm.outcome.kills
    assert kills >= 50
    assert counts["records acknowledged"] > kills
    assert min(counts["compacted"], counts["looks"], storm.outcome.versions_watched) > kills // 50
    assert counts["add in doubt"] > kills // 20


def test_every_answer_can_be_true(storm: Storm) -> None:
    """For each checksum there is one order of all that happened which explains every answer, and what is there at the end."""
    findings = storm.findings
    end = max(death for _, death in storm.outcome.deaths)
    wrong = []
    for number, ops in findings.ops.items():
        final = Op(end + 1, end + 2, checksum(number) in storm.stored, None, sure=True, who="the end")
        found = contradiction([*ops, final])
        if found:
            wrong.append(found)
    assert wrong == []


def test_only_added_records_are_there(storm: Storm) -> None:
    """Every record at the end is one that somebody tried to add."""
    assert storm.stored.keys() - {checksum(number) for number in storm.findings.tried} == set()


def test_every_record_is_what_some_writer_added(storm: Storm) -> None:
    """Each observation is, member for member, one that was written for this checksum."""
    wrong = []
    for number, tried in storm.findings.tried.items():
        kept = storm.stored.get(checksum(number))
        for seen in sightings(kept):
            revision = int((seen.etag or "").strip('"').split("-")[1])
            expected = record(number, seen.source_id, revision)
            same = all(getattr(seen, name) == getattr(expected, name) for name in seen_fields(seen))
            if not same or not tried & {(seen.source_id, revision), ("", revision)}:
                wrong.append(f"{number}: {seen}")
    assert wrong == []


def sightings(kept: ManifestRecord | None) -> list[ManifestRecord | Observation]:
    return [kept, *kept.also_seen] if kept else []


def seen_fields(seen: ManifestRecord | Observation) -> list[str]:
    extra = ["checksum", "file_size", "derived_from"] if hasattr(seen, "checksum") else []
    return ["source_id", "dataset", "file_path", "etag", "last_modified", "ts_downloaded", "version", *extra]


def test_no_acknowledged_source_is_forgotten(storm: Storm) -> None:
    """Whoever was told that its addition is kept is among the sources of that content, unless it was forgotten since."""
    wrong = []
    for number, kept in storm.findings.kept.items():
        forgotten = storm.findings.last_forget(number)
        known = storm.stored.get(checksum(number))
        sources = {seen.source_id for seen in sightings(known)}
        wrong += [f"{number}: {source}" for begin, source in kept if begin > forgotten and source not in sources]
    assert wrong == []


def test_the_canonical_is_valid_at_every_instant(storm: Storm) -> None:
    """Every version that a watcher saw was complete JSON of the right shape."""
    assert storm.outcome.invalid == []


def test_the_dead_leave_no_locks(storm: Storm) -> None:
    """The first add after the last kill waits for nobody."""
    assert storm.seconds_to_add < 5.0


def test_a_reader_of_the_whole_storm_leaks_no_descriptor(storm: Storm) -> None:
    """However many segments and canonicals it has followed, it never has more open than a few."""
    first, most = storm.outcome.descriptors
    assert most <= first + 3


def test_the_canonical_equals_the_manifest_after_a_save(storm: Storm) -> None:
    """The plain file holds all and nothing else."""
    assert set(load_canonical(storm.path)["records"]) == set(storm.stored)


def test_killed_processes_leave_no_files(storm: Storm) -> None:
    """One segment, no temporary file, and `check` has nothing to say."""
    found = check(resolve(storm.path))
    assert (len(segments(storm.path)), temporaries(storm.path.parent), found.findings) == (1, [], [])


def test_every_process_was_killed_at_some_time(storm: Storm) -> None:
    """Writers, readers and compactors."""
    kinds = {diary.name.split("-")[0] for diary, _ in storm.outcome.deaths}
    assert kinds >= {task.__name__ for task in ROSTER}
