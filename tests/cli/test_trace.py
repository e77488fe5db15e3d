"""`trace`: where a file comes from, and what was made of it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cli.program import unread
from manifestlog import (
    DownloadManifestManager,
    ETLProcess,
    ManifestMetadata,
    ManifestRecord,
    ProcessedManifestManager,
    manifest_path,
)

if TYPE_CHECKING:
    from cli.program import Program

T0 = datetime(2024, 5, 1, 12, tzinfo=UTC)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def made(home: Path) -> Path:
    """A directory of two manifests: a download, and what was made of it."""
    folder = home / "manifests"
    folder.mkdir()
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="2", root_dir=home)
    with DownloadManifestManager(manifest_path(folder, "x", "download"), metadata) as downloads:
        event = SimpleNamespace(
            sha256=_sha("raw"),
            file_path=Path("raw/raw.csv"),
            file_size_bytes=3,
            etag='"v1"',
            ts_download_completed=T0,
            url="https://example.org/raw.csv",
            status=200,
        )
        downloads.add_from_event(SimpleNamespace(source_id="raw", dataset="d"), event)
    with ProcessedManifestManager(manifest_path(folder, "x", "clean"), metadata) as cleaned:
        for number, content in enumerate(["clean", "report"]):
            before = ("raw", "clean")[number]
            cleaned.add(
                ManifestRecord(
                    source_id=content,
                    dataset="d",
                    checksum=_sha(content),
                    file_path=home / f"{content}.parquet",
                    file_size=5,
                    ts_downloaded=T0,
                    version="2",
                    derived_from=(_sha(before),),
                )
            )
    return folder


def test_a_path_leads_to_the_address(run: Program, made: Path) -> None:
    result = run("trace", "report.parquet", "--up")
    assert result.code == 0
    assert result.out.splitlines()[-1].strip() == (
        'x_download: d/raw, 2024-05-01T12:00:00Z, version 2, https://example.org/raw.csv, ETag "v1"'
    )


def test_a_download_leads_to_what_was_made_of_it(run: Program, made: Path) -> None:
    out = run.here("trace", _sha("raw"), "--down").out
    assert [line.split()[0] for line in out.splitlines() if ".parquet" in line] == [
        _sha("clean")[:12],
        _sha("report")[:12],
    ]


def test_the_first_digits_of_a_checksum_are_enough(run: Program, made: Path) -> None:
    assert run.here("trace", _sha("clean")[:8]).out == run.here("trace", _sha("clean")).out


def test_a_source_stands_for_its_latest_content(run: Program, made: Path) -> None:
    assert run.here("trace", "--source", "clean").out == run.here("trace", _sha("clean")).out


def test_json_has_contents_and_derivations(run: Program, made: Path) -> None:
    found = run.here("trace", "clean.parquet", "--json").json
    assert (found["schema_version"], found["starts"]) == (1, [_sha("clean")])
    assert {one["checksum"] for one in found["contents"]} == {_sha("raw"), _sha("clean"), _sha("report")}
    assert [one["inputs"] for one in found["derivations"]] == [[_sha("raw")], [_sha("clean")]]


def test_mermaid_draws_each_content_and_edge(run: Program, made: Path) -> None:
    lines = run.here("trace", "clean.parquet", "--mermaid").out.splitlines()
    assert lines[0] == "flowchart LR"
    assert len([line for line in lines if "-->" in line]) == 2


def test_dot_draws_each_content_and_edge(run: Program, made: Path) -> None:
    out = run.here("trace", "clean.parquet", "--dot").out
    assert out.startswith("digraph lineage {")
    assert out.count(" -> ") == 2


def _hostile(made: Path) -> None:
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="2", root_dir=made.parent)
    with DownloadManifestManager(manifest_path(made, "x", "download"), metadata) as downloads:
        downloads.add(
            ManifestRecord(
                source_id='e"]<b>\x1b[1m',
                dataset="d",
                checksum=_sha("evil"),
                file_path=made / 'e"]\\<b>\x1b[1m\n.csv',
                file_size=1,
                ts_downloaded=T0,
                version="2",
            )
        )


@pytest.mark.parametrize("form", [[], ["--json"], ["--mermaid"], ["--dot"]])
def test_text_of_records_cannot_control_the_terminal(run: Program, made: Path, form: list[str]) -> None:
    _hostile(made)
    result = run.here("trace", _sha("evil"), *form)
    assert result.code == 0
    assert "\x1b" not in result.out


def test_a_label_cannot_be_left(run: Program, made: Path) -> None:
    _hostile(made)
    (label,) = [line for line in run.here("trace", _sha("evil"), "--mermaid").out.splitlines() if "c0[" in line]
    assert label.count('"') == 2


def test_a_cycle_ends(run: Program, made: Path) -> None:
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="2", root_dir=made.parent)
    with ProcessedManifestManager(manifest_path(made, "x", "clean"), metadata) as cleaned:
        cleaned.update(_sha("clean"), cleaned.records[_sha("clean")].model_dump() | {"derived_from": (_sha("report"),)})
    assert "(above)" in run.here("trace", "clean.parquet").out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["clean.parquet", "--source", "raw"], 2),
        (["clean.parquet", "--dataset", "d"], 2),
        (["clean.parquet", "--dot", "--mermaid"], 2),
        (["clean.parquet", "--dot", "--json"], 2),
        ([""], 2),
        (["no.parquet"], 1),
        (["0" * 64], 1),
        (["--source", "no"], 1),
        (["x\ud800"], 2),
    ],
)
def test_wrong_input_has_its_exit_code(run: Program, made: Path, arguments: list[str], code: int) -> None:
    assert run.here("trace", *arguments).code == code


def test_a_directory_without_manifests_knows_nothing(run: Program) -> None:
    result = run("trace", "no.parquet")
    assert (result.code, "Traceback" in result.err) == (1, False)


def test_a_damaged_manifest_beside_others_is_reported(run: Program, made: Path) -> None:
    (made / "y_download.manifest.json").write_text("junk")
    result = run.here("trace", "clean.parquet")
    assert (result.code, _sha("raw")[:12] in result.out) == (12, True)


def test_nobody_needs_to_read_the_output(run: Program, made: Path) -> None:
    assert unread(run, "trace", "clean.parquet") == (0, "")
