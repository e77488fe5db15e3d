"""The benchmarks: every peer keeps a manifest as it should, and what is measured runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benchmarks import harness, peers
from benchmarks.floor import Bare

from manifestlog.model.models import row_from_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog import ManifestRecord

ROOT = Path(__file__).parents[1]
COUNT = 30
MANY = sorted(name for name in peers.PEERS if name in {"manifestlog", "SQLite WAL", "LMDB", "RocksDB", "JSON lines"})


def kind_of(name: str) -> type[peers.Peer]:
    missing = peers.missing()
    if name in missing:
        pytest.skip(f"{missing[name]} is not installed")
    return peers.load(name)


@pytest.fixture(params=peers.PEERS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> type[peers.Peer]:
    """A peer; its manifest in the test's folder has the first records of the stream."""
    found = kind_of(request.param)
    found.fill(tmp_path, harness.make_records(0, COUNT))
    return found


@pytest.fixture(params=peers.DURABILITIES)
def opened(request: pytest.FixtureRequest, kind: type[peers.Peer], tmp_path: Path) -> Iterator[peers.Peer]:
    peer = kind.open(tmp_path, request.param, shared=False)
    yield peer
    peer.close()


def latest_of(peer: peers.Peer, record: ManifestRecord) -> peers.Fields | None:
    found = peer.get_by_source(record.source_id, record.dataset)
    return None if found is None else peers.fields(found)


# -- the peers ---------------------------------------------------------------------------------------------------------


def test_a_peer_has_what_it_was_filled_with(opened: peers.Peer) -> None:
    assert [opened.has(record.checksum) for record in harness.make_records(0, COUNT + 1)] == [True] * COUNT + [False]


def test_a_peer_gives_the_latest_of_a_source(opened: peers.Peer) -> None:
    assert latest_of(opened, harness.make_record(0)) == peers.fields(harness.make_record(9))


def test_a_peer_knows_no_source_that_nobody_added(opened: peers.Peer) -> None:
    assert opened.get_by_source("nobody", "bodies") is None


def test_a_peer_tells_new_from_changed_and_from_duplicate(opened: peers.Peer) -> None:
    records = list(harness.make_records(COUNT, 10))
    assert [str(opened.add(record)) for record in [*records, records[9]]] == ["new"] * 9 + ["changed", "duplicate"]


def test_a_peer_gives_what_was_just_added(opened: peers.Peer) -> None:
    opened.add(harness.make_record(COUNT))
    assert latest_of(opened, harness.make_record(COUNT)) == peers.fields(harness.make_record(COUNT))


def test_a_peer_has_what_was_added_when_it_is_opened_again(kind: type[peers.Peer], tmp_path: Path) -> None:
    first = kind.open(tmp_path, peers.POWER_CUT, shared=False)
    first.add(harness.make_record(COUNT))
    first.close()
    again = kind.open(tmp_path, peers.POWER_CUT, shared=False)
    assert again.has(harness.make_record(COUNT).checksum)
    again.close()


@pytest.mark.parametrize("name", MANY)
def test_many_at_once_are_all_there_and_the_latest_is_the_latest(name: str, tmp_path: Path) -> None:
    kind = kind_of(name)
    kind.fill(tmp_path, [])
    peer = kind.open(tmp_path, peers.POWER_CUT, shared=False)
    peer.add_many(harness.make_records(0, COUNT), 10_000)
    found = [latest_of(peer, harness.make_record(number)) for number in (0, 11)]
    assert found == [peers.fields(harness.make_record(number)) for number in (9, 11)]
    peer.close()


def test_a_peer_that_has_a_way_for_many_says_so() -> None:
    assert sorted(name for name in peers.PEERS if name in MANY or kind_of(name).adds_many) == MANY


def test_the_lines_of_others_are_followed_and_what_a_killed_writer_left_is_cut_off(tmp_path: Path) -> None:
    kind = kind_of("JSON lines")
    ours, theirs = (kind.open(tmp_path, peers.PROCESS_KILL, shared=True) for _ in range(2))
    with (tmp_path / "manifest.jsonl").open("ab") as file:
        file.write(b'{"source_id":"half')
    theirs.add(harness.make_record(0))
    assert [ours.has(harness.make_record(0).checksum), str(ours.add(harness.make_record(0)))] == [True, "duplicate"]
    for one in (ours, theirs):
        one.close()


def test_a_peer_whose_library_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    monkeypatch.delitem(sys.modules, "benchmarks.peer_lmdb", raising=False)
    assert "LMDB" in peers.missing()
    assert "LMDB" not in harness.Context("full", tmp_path).peers


# -- the workloads -----------------------------------------------------------------------------------------------------


def run(tmp_path: Path, *arguments: str | Path, timeout_s: float = 300) -> str:
    command, environment = [sys.executable, "-m", *map(str, arguments)], os.environ | {"TMPDIR": str(tmp_path)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=timeout_s
    ).stdout


def measured(tmp_path: Path, workload: str) -> tuple[Path, list[dict[str, object]]]:
    file = tmp_path / "results.json"
    few = "manifestlog, SQLite WAL, JSON lines"
    run(tmp_path, f"benchmarks.{workload}", "--quick", "--rounds", "1", "--peers", few, "--json", file)
    return file, json.loads(file.read_text())["results"]


def test_many_are_added_by_every_peer_in_both_durabilities(tmp_path: Path) -> None:
    _, results = measured(tmp_path, "bench_add_many")
    assert len({(one["table"], one["peer"]) for one in results}) == 6


def test_lookups_are_measured_beside_a_writer_and_alone_and_are_drawn_the_same_twice(tmp_path: Path) -> None:
    file, results = measured(tmp_path, "bench_lookup")
    assert len({str((one["table"], one["case"], one["peer"])) for one in results}) == 2 * 3 * (2 * 3 + 2)
    pytest.importorskip("matplotlib")
    drawn = []
    for name in ("first", "second"):
        run(tmp_path, "benchmarks.plots", file, tmp_path / name)
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert len(drawn[0]) == 6
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("workload", "cases"), [("bench_list", 6), ("bench_pending", 3)])
def test_reading_everything_is_measured_in_each_way(tmp_path: Path, workload: str, cases: int) -> None:
    _, results = measured(tmp_path, workload)
    assert len({str(one["case"]) for one in results if one["peer"] == "manifestlog"}) >= cases


@pytest.mark.slow
def test_all_benchmarks_run_one_after_the_other_and_end_with_a_summary(tmp_path: Path) -> None:
    few = ("--quick", "--rounds", "1", "--peers", "manifestlog, SQLite WAL")
    assert "times as fast as" in run(tmp_path, "benchmarks", *few, timeout_s=600).rpartition("## Summary")[2]


@pytest.mark.slow
def test_stages_are_measured_with_functions_commands_and_nothing_to_do(tmp_path: Path) -> None:
    _, results = measured(tmp_path, "bench_stage")
    assert len({one["table"] for one in results if one["peer"] == "manifestlog"}) == 5


def test_the_least_that_an_addition_takes_is_taken_of_the_same_record_as_the_engine_writes(tmp_path: Path) -> None:
    record = harness.make_record(0)
    Bare(tmp_path).add(record)
    assert json.loads((tmp_path / "log").read_bytes())["record"] == row_from_record(record)


def test_the_least_that_an_addition_takes_is_measured_beside_the_engine(tmp_path: Path) -> None:
    told = run(tmp_path, "benchmarks.floor", "--rounds", "2", "--each", "20")
    assert [line.split()[1] for line in told.splitlines() if line.startswith("| ")][1:3] == ["no", "manifestlog"]
