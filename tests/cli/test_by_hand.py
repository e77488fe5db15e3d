"""`pending`, `record` and `fail`: stages of shell pipelines and of Make."""

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

PENDING = ("pending", "x_parse", "--of", "x_download")


@pytest.fixture
def files(run: Program) -> list[Path]:
    """Two recorded downloads."""
    folder = run.home / "raw"
    folder.mkdir()
    made = [folder / name for name in ("a.txt", "b.txt")]
    for path in made:
        path.write_text(f"content of {path.name}", encoding="ascii")
    assert run.here("add", "x_download", folder, "--quiet").code == 0
    return made


def pending(run: Program, *more: object) -> list[str]:
    return sorted(run.here(*PENDING, *more).out.splitlines())


def shell(run: Program, script: str) -> subprocess.CompletedProcess[str]:
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-ec", script],
        cwd=run.home,
        env=os.environ | {"PATH": search},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_pending_files_are_printed(run: Program, files: list[Path]) -> None:
    assert pending(run) == [str(path) for path in files]


def test_a_recorded_file_is_printed_no_more(run: Program, files: list[Path]) -> None:
    (run.home / "a.json").write_text("{}", encoding="ascii")
    assert run.here("record", "x_parse", "a.json", "--from", files[0]).code == 0
    assert pending(run) == [str(files[1])]


def test_record_prints_each_output_and_its_verdict(run: Program, files: list[Path]) -> None:
    (run.home / "a.json").write_text("{}", encoding="ascii")
    result = run.here("record", "x_parse", "a.json", "--from", files[0])
    checksum, verdict, path = result.out.rstrip("\n").split("\t")
    assert (len(checksum), verdict, path) == (64, "new", str(run.home / "a.json"))


def test_record_in_json(run: Program, files: list[Path]) -> None:
    (run.home / "a.json").write_text("{}", encoding="ascii")
    found = run.here("record", "x_parse", "a.json", "--from", files[0], "--json").json
    assert (found["result"], [one["verdict"] for one in found["outputs"]]) == ("made", ["new"])


def test_pending_in_json(run: Program, files: list[Path]) -> None:
    found = run.here(*PENDING, "--limit", 1, "--json").json
    assert (found["pending"], len(found["items"])) == (2, 1)
    assert found["items"][0]["file_path"] in map(str, files)


def test_a_stage_without_a_manifest_is_named_with_what_may_be_meant(run: Program, files: list[Path]) -> None:
    assert run.here("record", "x_parse", "--nothing", "--from", files[0]).code == 0
    said = run.here("pending", "x_pars", "--of", "x_download").err
    assert "no such manifest yet, so everything is pending for its stage; did you mean x_parse?" in said


def test_a_stage_whose_name_is_only_similar_to_another_is_not_taken_for_that(run: Program, files: list[Path]) -> None:
    assert run.here("record", "x_loading", "--nothing", "--from", files[0]).code == 0
    assert run.here("pending", "x_counting", "--of", "x_download").err.endswith("everything is pending for its stage\n")


def test_a_stage_with_a_manifest_is_not_called_missing(run: Program, files: list[Path]) -> None:
    assert run.here("record", "x_parse", "--nothing", "--from", files[0]).code == 0
    assert run.here(*PENDING).err == ""


def test_null_characters_separate_for_xargs(run: Program, files: list[Path]) -> None:
    assert sorted(run.here(*PENDING, "-0").out.split("\0")) == ["", *map(str, files)]


def test_a_path_with_a_line_break_needs_null_characters(run: Program) -> None:
    strange = run.home / "line\nbreak.txt"
    strange.write_text("x", encoding="ascii")
    assert run.here("add", "x_download", strange, "--quiet").code == 0
    result = run.here(*PENDING)
    assert (result.code, result.out) == (1, "")
    assert "use -0" in result.err
    assert run.here(*PENDING, "-0").out == f"{strange}\0"


def test_exit_code_says_whether_anything_is_pending(run: Program, files: list[Path]) -> None:
    assert run.here(*PENDING, "--exit-code").code == 1
    assert run.here("record", "x_parse", "--nothing", "--from", files[0]).code == 0
    assert run.here("record", "x_parse", "--nothing", "--from", files[1]).code == 0
    assert run.here(*PENDING, "--exit-code") == (0, "", "")


def test_another_version_is_pending_again(run: Program, files: list[Path]) -> None:
    for path in files:
        run.here("record", "x_parse", "--nothing", "--from", path)
    assert pending(run, "--version", "2.0.0") == [str(path) for path in files]


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["--nothing"], "nothing"),
        (["--valid", "--why", "all fields"], "valid"),
        (["--invalid", "--why", "bad header"], "invalid"),
        (["--rows", "7"], "loaded"),
    ],
)
def test_what_came_of_an_input_without_an_output(
    run: Program, files: list[Path], words: list[str], result: str
) -> None:
    assert run.here("record", "x_parse", *words, "--from", files[0], "--json").json["result"] == result


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--nothing", "--valid"],
        ["a.json", "--nothing"],
        ["--invalid"],
        ["--rows", "1", "--why", "x"],
        ["--rows", "-1"],
    ],
)
def test_contradicting_words_are_a_usage_error(run: Program, files: list[Path], words: list[str]) -> None:
    result = run.here("record", "x_parse", *words, "--from", files[0])
    assert (result.code, one_line(result.err)) == (2, True)
    assert pending(run) == [str(path) for path in files]


def test_a_failed_input_is_shown_by_failures_and_stays_pending(run: Program, files: list[Path]) -> None:
    assert run.here("fail", "x_parse", files[0], "--error", "no header", "--exit", 3).code == 0
    assert "no header" in run.here("failures").out
    assert pending(run) == [str(path) for path in files]


def test_fail_in_json(run: Program, files: list[Path]) -> None:
    found = run.here("fail", "x_parse", files[0], "--error", "no header", "--json").json
    assert (found["result"], found["error"]) == ("failed", "no header")


@pytest.mark.parametrize("verb", [["record", "x_parse", "--nothing", "--from"], ["fail", "x_parse", "--error", "x"]])
def test_an_input_that_no_manifest_knows_is_refused(run: Program, files: list[Path], verb: list[str]) -> None:
    stranger = files[0].with_name("stranger.txt")
    stranger.write_text("nobody knows me", encoding="ascii")
    result = run.here(*verb, stranger)
    assert (result.code, one_line(result.err)) == (1, True)
    assert "stranger.txt" in result.err


@pytest.mark.parametrize("verb", [["record", "x_parse", "--nothing", "--from"], ["fail", "x_parse", "--error", "x"]])
def test_an_input_that_is_not_there_is_refused(run: Program, files: list[Path], verb: list[str]) -> None:
    result = run.here(*verb, files[0].with_name("missing.txt"))
    assert (result.code, one_line(result.err)) == (1, True)


def test_an_output_that_is_not_there_is_refused(run: Program, files: list[Path]) -> None:
    result = run.here("record", "x_parse", "missing.json", "--from", files[0])
    assert (result.code, one_line(result.err)) == (1, True)
    assert "nothing was recorded" in result.err


def test_a_directory_is_no_output(run: Program, files: list[Path]) -> None:
    result = run.here("record", "x_parse", run.home, "--from", files[0])
    assert (result.code, one_line(result.err)) == (1, True)


def test_a_missing_upstream_manifest_is_10(run: Program) -> None:
    assert run.here(*PENDING).code == 10


def test_a_damaged_upstream_manifest_is_12(run: Program, files: list[Path]) -> None:
    assert files
    path = run.home / "manifests" / "x_download.manifest.json"
    path.write_text(path.read_text("utf-8").replace("content", "c0ntent").replace("a.txt", "z.txt"), "utf-8")
    assert run.here(*PENDING).code == 12


def test_a_stage_cannot_be_its_own_upstream(run: Program, files: list[Path]) -> None:
    assert files
    result = run.here("pending", "x_download", "--of", "x_download")
    assert (result.code, one_line(result.err)) == (2, True)


def test_nobody_reads_the_pending_files(run: Program, files: list[Path]) -> None:
    assert files
    assert unread(run, *PENDING, "--quiet") == (0, "")


# -- in other programs -------------------------------------------------------------------------------------------------

LOOP = """
manifestlog pending x_parse --of x_download -0 | xargs -0 -n 1 sh -c '
    out=out/$(basename "$0").json
    if tr a-z A-Z < "$0" > "$out.tmp" && mv "$out.tmp" "$out"
    then manifestlog record x_parse "$out" --from "$0" --quiet
    else manifestlog fail x_parse "$0" --error "exit code $?"
    fi'
"""

MAKEFILE = """
all: $(patsubst %,out/%.json,$(notdir $(shell manifestlog pending x_parse --of x_download)))

out/%.json: raw/%
\ttr a-z A-Z < $< > $@.tmp
\tmv $@.tmp $@
\tmanifestlog record x_parse $@ --from $< --quiet
"""


def test_a_shell_pipeline(run: Program, files: list[Path]) -> None:
    (run.home / "out").mkdir()
    done = shell(run, LOOP)
    assert done.returncode == 0, done.stderr
    assert pending(run) == []
    assert (run.home / "out" / "a.txt.json").read_text("ascii") == files[0].read_text("ascii").upper()


def test_make(run: Program, files: list[Path]) -> None:
    assert files
    (run.home / "out").mkdir()
    (run.home / "Makefile").write_text(MAKEFILE, "ascii")
    for _ in range(2):
        done = shell(run, "make -j 2 --silent")
        assert done.returncode == 0, done.stderr
    assert pending(run) == []
    assert sorted(path.name for path in (run.home / "out").iterdir()) == ["a.txt.json", "b.txt.json"]
