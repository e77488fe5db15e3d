"""`follow`: each event once, as it happens."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import finish, open_manifest, records_of, wait_until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from cli.program import Program


def _started(run: Program, *arguments: object) -> subprocess.Popen[str]:
    """The program, once it follows."""
    process = run.start("follow", *arguments)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("manifestlog: following "), said
    return process


def _add(path: Path, tree: Path, *contents: str) -> list[str]:
    """Add contents, one at a time; return their checksums."""
    with open_manifest(path, compact_on_close=False, auto_compact=False) as manifest:
        found = []
        for content in contents:
            file = tree / f"{content}.new"
            file.write_text(content)
            (record,) = [one for one in records_of(tree) if one.file_path == file]
            found.append(manifest.add(record).record.checksum)
    return found


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_an_event_is_printed_as_it_happens(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor")
    _add(filled, tree, "x")
    assert _line(process).split("\t")[1:4] == ["new", tree.name, "x.new"]
    finish(process, signal.SIGTERM)


def test_what_was_before_is_not_printed(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--jsonl")
    (checksum,) = _add(filled, tree, "x")
    assert json.loads(_line(process))["checksum"] == checksum
    finish(process, signal.SIGTERM)


def test_from_the_start_everything_is_printed(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--from", "start", "--jsonl")
    found = [json.loads(_line(process))["source_id"] for _ in range(3)]
    assert found == sorted(file.relative_to(tree).as_posix() for file in tree.rglob("*") if file.is_file())
    finish(process, signal.SIGTERM)


def test_from_a_cursor_the_rest_is_printed(run: Program, filled: Path, tree: Path) -> None:
    _, second, third = _add(filled, tree, "x", "y", "z")
    events = [json.loads(line) for line in run.here("log", "files_extractor", "--jsonl", "--reverse").out.splitlines()]
    cursor = events[-3]["cursor"]
    process = _started(run, "files_extractor", "--from", cursor, "--jsonl")
    assert [json.loads(_line(process))["checksum"] for _ in range(2)] == [second, third]
    finish(process, signal.SIGTERM)


def test_several_manifests_are_followed_together(run: Program, filled: Path, tree: Path) -> None:
    other = filled.with_name("more_extractor.manifest.json")
    open_manifest(other).close()
    process = _started(run, "files_extractor", "more_extractor", "--jsonl")
    _add(filled, tree, "x")
    first = json.loads(_line(process))["manifest"]
    _add(other, tree, "y")
    assert [first, json.loads(_line(process))["manifest"]] == ["files_extractor", "more_extractor"]
    finish(process, signal.SIGTERM)


def test_sigterm_ends_it_cleanly(run: Program, filled: Path) -> None:
    assert finish(_started(run, "files_extractor"), signal.SIGTERM).code == 0


def test_ctrl_c_ends_it_with_130(run: Program, filled: Path) -> None:
    assert finish(_started(run, "files_extractor"), signal.SIGINT).code == 130


def test_it_ends_when_nobody_reads_any_more(run: Program, filled: Path) -> None:
    process = _started(run, "files_extractor")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert finish(process)[::2] == (0, "")


def test_control_characters_are_escaped(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor")
    _add(filled, tree, "\x1b[1m")
    assert "\\x1b[1m.new" in _line(process)
    finish(process, signal.SIGTERM)


# -- a command for each event ------------------------------------------------------------------------------------------


def test_the_command_receives_the_event_as_json(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--exec", "cat")
    (checksum,) = _add(filled, tree, "x")
    assert json.loads(_line(process))["checksum"] == checksum
    finish(process, signal.SIGTERM)


def test_the_command_runs_without_a_shell(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--exec", "printf '%s\\n' '$HOME;ls'")
    _add(filled, tree, "x")
    assert _line(process) == "$HOME;ls\n"
    finish(process, signal.SIGTERM)


def test_a_command_that_fails_ends_it(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--exec", f"{sys.executable} -c 'raise SystemExit(7)'")
    _add(filled, tree, "x")
    result = finish(process)
    assert (result.code, "exited with 7" in result.err) == (1, True)


def test_a_command_that_reads_nothing_is_fine(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--exec", "true")
    _add(filled, tree, "x", "y")
    assert finish(process, signal.SIGTERM).code == 0


# -- a remembered position ---------------------------------------------------------------------------------------------


def test_a_named_follower_goes_on_where_it_was(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--name", "mirror", "--jsonl")
    first = _add(filled, tree, "x")
    seen = [json.loads(_line(process))["checksum"]]
    finish(process, signal.SIGTERM)
    missed = _add(filled, tree, "y", "z")
    process = _started(run, "files_extractor", "--name", "mirror", "--jsonl")
    seen += [json.loads(_line(process))["checksum"] for _ in missed]
    assert seen == first + missed
    finish(process, signal.SIGTERM)


def test_an_event_whose_command_failed_comes_again(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--name", "mirror", "--exec", "false")
    (checksum,) = _add(filled, tree, "x")
    assert finish(process).code == 1
    process = _started(run, "files_extractor", "--name", "mirror", "--jsonl")
    assert json.loads(_line(process))["checksum"] == checksum
    finish(process, signal.SIGTERM)


def test_from_overrides_the_remembered_position(run: Program, filled: Path, tree: Path) -> None:
    finish(_started(run, "files_extractor", "--name", "mirror"), signal.SIGTERM)
    process = _started(run, "files_extractor", "--name", "mirror", "--from", "start", "--jsonl")
    assert json.loads(_line(process))["kind"] == "put"
    finish(process, signal.SIGTERM)


def test_a_killed_follower_skips_nothing(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--name", "mirror", "--jsonl")
    first = _add(filled, tree, "x", "y")
    seen = [json.loads(_line(process))["checksum"] for _ in first]
    finish(process, signal.SIGKILL)
    missed = _add(filled, tree, "z")
    process = _started(run, "files_extractor", "--name", "mirror", "--jsonl")
    while missed[0] not in seen:
        seen.append(json.loads(_line(process))["checksum"])
    assert set(seen) == {*first, *missed}
    finish(process, signal.SIGTERM)


# -- wrong input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["no_such"], 10),
        (["files_extractor", "--from", ""], 2),
        (["files_extractor", "--from", "junk"], 2),
        (["files_extractor", "--exec", "no-such-command-here"], 2),
        (["files_extractor", "--exec", "'"], 2),
        (["files_extractor", "--exec", "cat", "--jsonl"], 2),
        (["files_extractor", "--name", "a/b"], 2),
        (["files_extractor", "--name", "a", "--keep", "1GiB"], 2),
        (["files_extractor", "more_extractor", "--from", "1.1.1"], 2),
    ],
)
def test_wrong_input_has_its_exit_code(run: Program, filled: Path, arguments: list[str], code: int) -> None:
    result = run("follow", *arguments)
    assert result.code == code, result.err


def test_with_json_an_error_is_the_only_thing_on_stderr(run: Program, filled: Path) -> None:
    result = run("follow", "files_extractor", "--from", "junk", "--json")
    assert (result.error["error"], result.error["exit_code"]) == ("CursorError", 2)


def test_a_reader_without_write_permission_can_follow(run: Program, filled: Path, tree: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    filled.parent.chmod(0o500)
    try:
        process = _started(run, "files_extractor", "--from", "start", "--jsonl")
        assert _line(process)
        finish(process, signal.SIGTERM)
    finally:
        filled.parent.chmod(0o700)


def test_a_compaction_meanwhile_changes_nothing(run: Program, filled: Path, tree: Path) -> None:
    process = _started(run, "files_extractor", "--jsonl")
    first = _add(filled, tree, "x")
    run.here("compact")
    second = _add(filled, tree, "y")
    assert [json.loads(_line(process))["checksum"] for _ in range(2)] == first + second
    finish(process, signal.SIGTERM)


def test_a_registration_is_seen_from_python(run: Program, filled: Path) -> None:
    process = _started(run, "files_extractor", "--name", "mirror")
    with open_manifest(filled) as manifest:
        wait_until(lambda: "mirror" in manifest.followers())
    finish(process, signal.SIGTERM)
