"""`unused` lists what can be deleted, and how it is deleted safely."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import one_line, unread

if TYPE_CHECKING:
    from cli.program import Program


@pytest.fixture
def old(run: Program) -> Path:
    """A processed file that a later one has replaced: unused."""
    folder = run.home / "raw"
    folder.mkdir()
    for name, text, time in (("old.txt", "old", "2024-01-01"), ("new.txt", "new", "2024-02-01")):
        path = folder / name
        path.write_text(text, encoding="ascii")
        said = run.here("add", "x_download", path, "--source", "s", "--dataset", "set", "--time", time, "--quiet")
        assert said.code == 0, said.err
        assert run.here("record", "x_parse", "--nothing", "--from", path, "--quiet").code == 0
        (run.home / f"{name}.out").write_text(f"made of {text}", encoding="ascii")
        assert run.here("record", "x_index", f"{name}.out", "--from", path, "--quiet").code == 0
    return folder / "old.txt"


def test_what_is_unused_is_listed(run: Program, old: Path) -> None:
    result = run.here("unused", "x_download")
    checksum, size, path = result.out.rstrip("\n").split("\t")
    assert (result.code, len(checksum), size, path) == (0, 64, "3", str(old))


def test_a_line_on_stderr_says_how_much_is_kept_and_why(run: Program, old: Path) -> None:
    assert old
    assert run.here("unused", "x_download").err == "manifestlog: 1 unused, 3 B; kept: 1 current; stages: index\n"


def test_the_stages_can_be_named(run: Program, old: Path) -> None:
    assert old
    result = run.here("unused", "x_download", "--by", "x_index", "--by", "x_never")
    assert (result.out, "kept: 2 pending" in result.err) == ("", True)


def test_a_stage_without_a_manifest_is_named_with_what_may_be_meant(run: Program, old: Path) -> None:
    assert old
    result = run.here("unused", "x_download", "--by", "x_indx")
    first, summary = result.err.splitlines()
    assert (result.code, result.out) == (0, "")
    assert (
        "x_indx.manifest.json: no such manifest yet, so everything is pending for its stage; did you mean x_index?"
        in first
    )
    assert "kept: 2 pending" in summary


def test_a_stage_with_a_manifest_is_not_called_missing(run: Program, old: Path) -> None:
    assert old
    assert "no such manifest" not in run.here("unused", "x_download", "--by", "x_index").err


def test_null_characters_separate_paths(run: Program, old: Path) -> None:
    assert run.here("unused", "x_download", "-0", "--quiet").out == f"{old}\0"


def test_in_json(run: Program, old: Path) -> None:
    found = run.here("unused", "x_download", "--json").json
    assert [one["paths"] for one in found["unused"]] == [[str(old)]]
    assert (found["bytes"], found["kept"], found["stages"]) == (3, {"current": 1}, ["index"])


def test_older_than(run: Program, old: Path) -> None:
    assert run.here("unused", "x_download", "--older-than", "2024-01-01", "-q").out == ""
    assert str(old) in run.here("unused", "x_download", "--older-than", "30d", "-q").out


def test_current_files_are_listed_if_asked_for(run: Program, old: Path) -> None:
    assert old
    assert len(run.here("unused", "x_download", "--current", "-q").out.splitlines()) == 2


def test_a_configuration_names_the_stages(run: Program, old: Path) -> None:
    (run.home / "etl.toml").write_text(
        'etl_version = "1.0.0"\nmanifest = "x_download"\nmanifests_dir = "manifests"\ndata_dir = "data"\n'
        '[[stages]]\nname = "index"\nmanifest = "x_index"\nfrom = "x_download"\ncommand = ["true", "{input}"]\n'
        'output = "{stem}.out"\n'
        '[[sources]]\nsource_id = "s"\ndataset = "set"\nurl = "https://example.org/s"\n',
        "ascii",
    )
    result = run.here("unused", "x_download", "--config", "etl.toml", "-q")
    assert (result.code, str(old) in result.out) == (0, True), result.err


def test_without_a_stage_it_says_so(run: Program, tree: Path) -> None:
    assert run.here("add", "x_download", tree, "--quiet").code == 0
    result = run.here("unused", "x_download")
    assert (result.code, one_line(result.err)) == (2, True)


def test_a_missing_manifest_is_10(run: Program, old: Path) -> None:
    assert old
    assert run.here("unused", "x_missing").code == 10


def test_by_and_config_exclude_each_other(run: Program, old: Path) -> None:
    assert old
    assert run.here("unused", "x_download", "--by", "x_index", "--config", "etl.toml").code == 2


def test_a_bad_time_is_a_usage_error(run: Program, old: Path) -> None:
    assert old
    result = run.here("unused", "x_download", "--older-than", "soon")
    assert (result.code, "--older-than" in result.err) == (2, True)


def test_nobody_reads_the_list(run: Program, old: Path) -> None:
    assert old
    assert unread(run, "unused", "x_download", "--quiet") == (0, "")


DELETE = """
manifestlog unused x_download --quiet > unused.txt
cut -f 1 unused.txt | xargs manifestlog forget x_download --quiet
cut -f 3 unused.txt | tr '\\n' '\\0' | xargs -0 rm --
"""


def test_the_files_are_deleted_as_the_help_says(run: Program, old: Path) -> None:
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = ["sh", "-ec", DELETE]
    done = subprocess.run(script, cwd=run.home, env=os.environ | {"PATH": search}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in old.parent.iterdir()) == ["new.txt"]
    assert run.here("verify", "x_download", "--quiet").code == 0
    assert run.here("pending", "x_index", "--of", "x_download").out == ""
