"""How the tables come to be, and who brings them up to date."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from contract.builders import META, record, sha
from manifestlog import DownloadManifestManager
from manifestlog.engines.postgres import schema
from manifestlog.engines.registry import driver_for

from .places import opened

if TYPE_CHECKING:
    from pathlib import Path

    from support.children import Link, Start

    from .places import Place


def create(link: Link, url: str) -> int:
    """Child process: open what does not exist yet, at the same time as others."""
    link.send("ready")
    link.recv()
    with opened(url) as manifest:
        manifest.add(record("a"))
        return len(manifest)


def test_of_several_that_create_at_once_all_have_one_manifest(place: Place, start: Start) -> None:
    children = [start(create, place.url()) for _ in range(4)]
    for child in children:
        child.receive()
    for child in children:
        child.send("go")
    assert [child.result() for child in children] == [1, 1, 1, 1]


def test_nobody_sees_a_part_of_the_tables(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that opens a manifest meanwhile would be told to run `manifestlog init`."""
    seen: list[int] = []

    def watched(number: int) -> list[str]:
        with place.connect() as other:
            made = other.execute("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'manifestlog'")
            seen.extend(count for (count,) in made.fetchall())
        return real(number)

    real = schema.statements
    monkeypatch.setattr(schema, "statements", watched)
    DownloadManifestManager(place.url(), META).close()
    assert seen == [0] * len(schema.STEPS)


def test_two_manifests_of_one_database_are_apart(place: Place) -> None:
    with (
        DownloadManifestManager(place.url(), META) as one,
        DownloadManifestManager(place.url("others_download"), META) as other,
    ):
        one.add(record("a"))
        other.add(record("b"))
        assert (list(one), list(other), len(list(other.history()))) == ([sha("a")], [sha("b")], 1)


def test_init_brings_an_older_schema_up_to_date(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "STEPS", schema.STEPS[:1])
    driver = driver_for(place.url())
    driver.prepare(driver.locate(place.url()))
    monkeypatch.undo()
    assert Program(tmp_path).here("init", place.url()).code == 0
    with place.connect() as connection:
        found = connection.execute("SELECT max(version) FROM manifestlog.schema_version").fetchall()
    assert found == [(len(schema.STEPS),)]


def test_people_can_read_the_tables(place: Place, manifest: DownloadManifestManager) -> None:
    manifest.add(record("a"))
    with place.connect() as connection:
        found = connection.execute("SELECT manifest, checksum, record ->> 'source_id' FROM manifestlog.records")
        assert found.fetchall() == [("systems_download", sha("a"), "src")]


def test_the_engine_is_imported_only_for_a_database() -> None:
    """Every other manifest does without its libraries."""
    import subprocess

    program = "import manifestlog.engines.filelog.driver, sys; print('psycopg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
