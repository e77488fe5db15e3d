"""Configurations whose manifests are in a database: `extract`, `run`, and everything that names their directory."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import Program, wait_until
from manifestlog import DownloadManifestManager, ProcessedManifestManager, names
from manifestlog.stages import Pipeline
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Link, Start

    from .places import Place

CONFIG = "etl.config.json"
FILES = {"a": "first", "b": "second", "c": "third"}
UPPER = ["sh", "-c", 'tr a-z A-Z <"$1" >"$2"', "sh", "{input}", "{output}"]


@pytest.fixture
def run(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def database_url(place: Place) -> str:
    """What `manifests_dir` and `--dir` are."""
    return place.url("")


@pytest.fixture
def configured(run: Program, database_url: str) -> Iterator[dict[str, Any]]:
    """A configuration with three sources and one stage."""
    with misbehaving() as server:
        urls = {
            name: server.script(f"/{name}.txt", answers.whole(text.encode(), f'"{name}"'))
            for name, text in FILES.items()
        }
        config = {
            "etl_version": "1.0.0",
            "manifests_dir": database_url,
            "data_dir": "data",
            "manifest": "files_download",
            "defaults": {"jobs": 1, "retries": 0},
            "sources": [{"source_id": name, "dataset": "raw", "url": url} for name, url in urls.items()],
            "stages": [{"name": "upper", "from": "files_download", "manifest": "files_upper", "command": UPPER}],
        }
        (run.home / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        yield config


@pytest.fixture
def done(run: Program, configured: dict[str, Any]) -> Program:
    """The same after one run."""
    del configured
    assert run.here("run", CONFIG, "--quiet").code == 0
    return run


@pytest.mark.usefixtures("configured")
def test_run_fetches_and_runs_the_stages(run: Program) -> None:
    found = run.here("run", CONFIG, "--json").json
    outputs = sorted(path.read_text() for path in (run.home / "data" / "upper").rglob("*.txt"))
    assert (found["extract"]["new"], found["stages"][0]["made"], outputs) == (3, 3, ["FIRST", "SECOND", "THIRD"])


@pytest.mark.usefixtures("configured")
def test_extract_creates_the_manifest(run: Program, place: Place) -> None:
    assert run.here("extract", CONFIG, "--quiet").code == 0
    with DownloadManifestManager(place.url("files_download"), read_only=True) as manifest:
        assert {str(record.file_path) for record in manifest.records.values()} == {f"raw/{name}.txt" for name in FILES}


@pytest.mark.usefixtures("configured")
def test_a_dry_run_creates_nothing(run: Program, place: Place) -> None:
    result = run.here("run", CONFIG, "--dry-run", "--json")
    with place.connect() as connection:
        found = connection.execute("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'manifestlog'")
        assert (result.json["extract"]["fetch"], found.fetchall()) == (3, [(0,)])


def test_a_second_run_has_nothing_to_do(done: Program) -> None:
    found = done.here("run", CONFIG, "--json").json
    assert (found["extract"]["unchanged"], found["stages"][0]["items"]) == (3, 0)


def test_nothing_is_created_beside_the_data(done: Program) -> None:
    assert sorted(path.name for path in done.home.iterdir()) == ["data", CONFIG]


def test_what_is_pending_is_kept_on_each_host(done: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifestlog.stages.kept_look.first_look", None)
    assert done.here("run", CONFIG, "upper", "--quiet").code == 0


def test_another_host_finds_out_itself_what_is_pending(done: Program, place: Place, tmp_path: Path) -> None:
    del place
    (tmp_path / "other").mkdir()
    other = Program(tmp_path / "other")
    config = json.loads((done.home / CONFIG).read_text(encoding="utf-8"))
    (other.home / CONFIG).write_text(json.dumps(config | {"data_dir": "own"}), encoding="utf-8")
    assert other.here("run", CONFIG, "upper", "--json").json["stages"][0]["items"] == 0


def test_a_link_to_the_data_is_not_followed_in_records(run: Program, configured: dict[str, Any], place: Place) -> None:
    """So hosts may have a directory mounted in different places, as long as one path leads to it."""
    del configured
    (run.home / "mounted").mkdir()
    (run.home / "data").symlink_to("mounted")
    assert run.here("extract", CONFIG, "--quiet").code == 0
    with DownloadManifestManager(place.url("files_download"), read_only=True) as manifest:
        assert manifest.root == run.home / "data"
        assert {str(record.file_path) for record in manifest.records.values()} == {f"raw/{name}.txt" for name in FILES}


def test_a_host_that_has_the_data_elsewhere_is_warned_and_fetches_nothing_twice(
    done: Program, configured: dict[str, Any], place: Place
) -> None:
    with misbehaving() as server:
        more = {"source_id": "d", "dataset": "raw", "url": server.script("/d.txt", answers.whole(b"fourth", '"d"'))}
        config = configured | {"data_dir": "elsewhere", "sources": [*configured["sources"], more]}
        (done.home / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        found = done.here("extract", CONFIG, "--json")
    assert (found.json["unchanged"], found.json["new"]) == (3, 1)
    assert "if other hosts have them there, mount them at that path" in found.err
    with DownloadManifestManager(place.url("files_download"), read_only=True) as manifest:
        paths = {record.source_id: str(record.file_path) for record in manifest.records.values()}
    assert paths == {name: f"raw/{name}.txt" for name in FILES} | {"d": f"{done.home}/elsewhere/raw/d.txt"}


def test_status_shows_the_steps(done: Program) -> None:
    found = done.here("status", "--config", CONFIG, "--json").json
    assert [(one["step"], one["name"], one["total_records"], one["pending"]) for one in found] == [
        ("extract", "files_download", 3, None),
        ("upper", "files_upper", 3, 0),
    ]


def test_unused_files_of_a_configuration_are_listed(done: Program) -> None:
    found = done.here("unused", "files_download", "--config", CONFIG, "--current", "--json").json
    assert (found["stages"], len(found["unused"])) == (["upper"], 3)


def test_unused_finds_the_stages_of_a_database(done: Program, database_url: str) -> None:
    found = done.here("unused", "files_download", "--dir", database_url, "--current", "--json").json
    assert (found["stages"], len(found["unused"])) == (["upper"], 3)


def test_other_programs_take_part(done: Program, database_url: str) -> None:
    made = done.home / "made.json"
    made.write_text("{}", encoding="ascii")
    source = done.home / "data" / "raw" / "a.txt"
    where = ("--dir", database_url)
    recorded = done.here("record", "files_parse", made, "--from", source, "--of", "files_download", *where)
    failed = done.here(
        "fail", "files_parse", done.home / "data" / "raw" / "b.txt", "--error", "bad", "--of", "files_download", *where
    )
    left = done.here("pending", "files_parse", "--of", "files_download", *where).out.splitlines()
    assert (recorded.code, failed.code, sorted(left)) == (
        0,
        0,
        [str(done.home / "data" / "raw" / f"{name}.txt") for name in "bc"],
    )


def test_record_finds_the_input_in_whichever_manifest_of_the_database(done: Program, database_url: str) -> None:
    made = done.home / "made.json"
    made.write_text("{}", encoding="ascii")
    source = done.home / "data" / "raw" / "a.txt"
    result = done.here("record", "files_parse", made, "--from", source, "--dir", database_url)
    assert result.code == 0, result.err


def test_a_loop_takes_the_items_of_a_stage(done: Program, database_url: str) -> None:
    with Pipeline(database_url) as pipeline:
        stage = pipeline.stage("lower", of="download", output_dir=done.home / "lower")
        for item in stage.claim():
            with item.output(f"{item.source_id}.txt") as out:
                out.write(item.path.read_text(encoding="utf-8").lower())
    assert sorted(path.name for path in (done.home / "lower").glob("*.txt")) == ["a.txt", "b.txt", "c.txt"]


# -- who works on what -------------------------------------------------------------------------------------------------


@pytest.fixture
def at_work(done: Program, place: Place) -> Iterator[Program]:
    """This process holds a source, and an item of the stage."""
    with (
        DownloadManifestManager(place.url("files_download")) as downloads,
        ProcessedManifestManager(place.url("files_upper")) as outputs,
        downloads.claims("/") as sources,
        outputs.claims("/") as items,
        sources.claim(names.claim_of_sources("files_download"), "raw/a"),
        items.claim(names.claim_of_items("files_upper"), "ab" * 16),
    ):
        yield done


HERE = {"host": socket.gethostname(), "pid": os.getpid()}


def test_status_says_which_process_of_which_host_works_on_what(at_work: Program, database_url: str) -> None:
    found = at_work.here("status", "--dir", database_url, "--json").json
    work = [{name: one[name] for name in ("host", "pid", "kind", "name")} for row in found for one in row["working"]]
    assert work == [HERE | {"kind": "source", "name": "raw/a"}, HERE | {"kind": "item", "name": "ab" * 6}]


def test_status_says_since_when(at_work: Program, database_url: str) -> None:
    (one,) = at_work.here("status", "files_download", "--dir", database_url, "--json").json[0]["working"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(one["since"])).total_seconds()) < 600


def test_status_prints_a_line_for_each_worker(at_work: Program) -> None:
    lines = at_work.here("status", "--config", CONFIG).out.splitlines()[-2:]
    start = f"{HERE['host']} (process {HERE['pid']}) works on"
    assert [line.partition(", since ")[0] for line in lines] == [
        f"files_download: {start} raw/a",
        f"files_upper: {start} {'ab' * 6}",
    ]


def test_who_was_killed_works_on_nothing(done: Program, place: Place, database_url: str, start: Start) -> None:
    child = start(hold, place.url("files_download"))
    child.receive()
    before = done.here("status", "--dir", database_url, "--json").json[0]["working"]
    child.kill()
    child.join()
    wait_until(lambda: not done.here("status", "--dir", database_url, "--json").json[0]["working"])
    assert [one["pid"] for one in before] == [child.pid]


def hold(link: Link, url: str) -> None:
    """Child process: hold a source."""
    kind = names.claim_of_sources("files_download")
    with DownloadManifestManager(url) as manifest, manifest.claims("/") as claims, claims.claim(kind, "raw/a"):
        link.send("mine")
        link.recv()
