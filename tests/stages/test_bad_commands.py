"""Commands that misbehave: each fails its own item, in one clear line, and nothing is lost or half there."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata, ManifestRecord
from manifestlog.stages import CommandWork, Result, Stage, StageReport, Where, run_stage
from manifestlog.stages.errors import CommandNotStartedError
from stages.home import Home
from support.mounts import need, on_tmpfs

if TYPE_CHECKING:
    from support.children import Start
    from support.mounts import Mounted

NEVER_S = 100
SHOUT = 'tr a-z A-Z <"$1" >"$2"'
"""What a good command does."""
IF_NOTHING = "set nothing_exit, and let the command exit with that code if there is nothing to write"
BAD_START = "starts with a dot, a dash or a space"
NO_LINK = "put the file itself in its place (`cp -L` copies what a link leads to)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with the manifest `files_download` of two files, `good.txt` and `bad.txt`."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "manifests").mkdir()
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1", root_dir=Path(".."))
    with DownloadManifestManager(tmp_path / "manifests/files_download.manifest.json", metadata) as manifest:
        for name in ("good", "bad"):
            path = tmp_path / "raw" / f"{name}.txt"
            path.write_text(name)
            manifest.add(
                ManifestRecord(
                    source_id=name,
                    dataset="files",
                    checksum=hashlib.sha256(name.encode()).hexdigest(),
                    file_path=path,
                    file_size=len(name),
                    ts_downloaded=datetime.now(UTC),
                    version="1",
                )
            )
    return tmp_path


@pytest.fixture
def stages(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


def stage(home: Path, script: str, **members: Any) -> Stage:
    """A stage whose command runs the script for `bad.txt`, and does what it should for the other."""
    argv = ("sh", "-c", f"case $1 in *bad.txt) {script};; *) {SHOUT};; esac", "sh", "{input}", "{output}")
    given: dict[str, Any] = {"output": "{stem}.out", "output_dir": home / "out"} | members
    return Stage("files_download", "files_processing", CommandWork(argv, cwd=home), **given)


def run(home: Path, script: str, **members: Any) -> StageReport:
    return run_stage(stage(home, script, **members), home / "manifests")


def error(report: StageReport) -> str:
    (failure,) = report.failures
    return str(failure.error)


def outputs(home: Path) -> list[str]:
    """The names of the outputs; whatever else a stage keeps has a name that begins with a dot."""
    return sorted(path.name for path in (home / "out").iterdir() if not path.name.startswith("."))


BAD = {
    "fails": ("echo why >&2; exit 3", "the command exited with 3: why"),
    "writes nothing": (":", f"the command exited with 0 and wrote no output; let it write {{output}}, or {IF_NOTHING}"),
    "writes elsewhere": (
        'echo x >"$2.other"',
        f"the command exited with 0 and wrote no output; let it write {{output}}, or {IF_NOTHING}",
    ),
    "writes an empty file": (': >"$2"', f"the output bad.out is empty: {IF_NOTHING}"),
    "links its output to nothing": (
        'ln -s nowhere "$2"',
        f"the output bad.out is a symbolic link to nowhere; {NO_LINK}",
    ),
    "makes a pipe of its output": ('mkfifo "$2"', "the output bad.out is no regular file; write one in its place"),
    "writes half and fails": ('echo half >"$2"; exit 1', "the command exited with 1 and printed nothing"),
    "is killed": (
        "kill -9 $$",
        "the command was killed by signal 9 (SIGKILL), perhaps by the system for lack of memory",
    ),
    "crashes": ("kill -SEGV $$", "the command was killed by signal 11 (SIGSEGV)"),
    "leaves children": (
        f'echo x >"$2"; sleep {NEVER_S} & exit 0',
        "the command ended, but left processes running, which were killed; let it wait for them",
    ),
    "meets a limit": (
        'ulimit -f 1; exec dd if=/dev/zero of="$2" bs=4096 count=100 2>/dev/null',
        "the command was killed by signal 25 (SIGXFSZ): a file grew beyond the limit (`ulimit -f`)",
    ),
    "makes a directory of its output": (
        'mkdir "$2"',
        "the command made a directory of {output}; for several files there is {output_dir}",
    ),
}


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest) -> tuple[str, str]:
    """What a command does, and what is said of it."""
    return BAD[request.param]


def test_a_bad_command_says_what_it_did(home: Path, bad: tuple[str, str]) -> None:
    script, said = bad
    assert error(run(home, script)) == said


def test_no_failure_names_a_class_of_python(home: Path, bad: tuple[str, str]) -> None:
    assert re.search(r"Error\b|Exception", error(run(home, bad[0]))) is None


@pytest.mark.parametrize("target", ["$1", "$2", "."])
def test_an_output_that_is_a_symbolic_link_is_said_to_be_one(home: Path, target: str) -> None:
    """To its input, to itself, to a directory."""
    found = re.fullmatch(
        r"the output bad\.out is a symbolic link to (\S+); (.*)", error(run(home, f'ln -s "{target}" "$2"'))
    )
    assert found
    assert found[2] == NO_LINK


def many(home: Path, script: str, **members: Any) -> StageReport:
    """Run a stage whose command may write any files, for `bad.txt` only."""
    work = CommandWork(("sh", "-c", script, "sh", "{input}", "{output_dir}"), cwd=home, **members)
    where = Where(source="bad")
    given = Stage("files_download", "files_processing", work, output="x", output_dir=home / "out", where=where)
    return run_stage(given, home / "manifests")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("ln -s a link", f"the output link is a symbolic link to a; {NO_LINK}"),
        ("mkdir d; ln -s d link; echo x >d/a", f"the output link is a symbolic link to d; {NO_LINK}"),
        ("echo x >.hidden", f"the output '.hidden' is not used: a part of it {BAD_START}; choose another name"),
        (": >a", f"the output a is empty: {IF_NOTHING}"),
        (":", f"the command exited with 0 and wrote no output; let it write files into {{output_dir}}, or {IF_NOTHING}"),
    ],
)  # fmt: skip
def test_a_bad_file_of_several_is_named_with_its_remedy(home: Path, script: str, said: str) -> None:
    assert error(many(home, f'cd "$2"; {script}')) == said


def test_where_an_exit_code_means_nothing_that_is_the_advice(home: Path) -> None:
    said = error(many(home, 'cd "$2"; : >a', nothing_exit=3))
    assert said == "the output a is empty: let the command exit with 3 (nothing_exit) if there is nothing to write"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo begun; echo why; exit 3", "the command exited with 3 (its output: {log}): why"),
        (
            "echo why",
            f"the command exited with 0 and wrote no output (its output: {{log}}): why; let it write {{{{output}}}}, or {IF_NOTHING}",
        ),
        ("echo why; kill -SEGV $$", "the command was killed by signal 11 (SIGSEGV) (its output: {log}): why"),
    ],
)
def test_of_a_command_that_is_silent_on_stderr_the_log_is_named(home: Path, script: str, said: str) -> None:
    found = error(run(home, script))
    (log,) = home.glob("out/.manifestlog.work/files_processing/logs/*/*/stdout.log")
    assert found == said.format(log=log)


def test_without_a_log_the_last_line_is_said_all_the_same(home: Path) -> None:
    (home / "logs").touch()  # no directory can be made of it
    assert error(run(home, "echo why; exit 3", log_dir=home / "logs")) == "the command exited with 3: why"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo bad >&2; exit 1", "^bad$"),
        ("echo bad; exit 1", r"^exited with 1 \(its output: .*/stdout\.log\): bad$"),
        ("exit 1", "^exited with 1 and printed nothing$"),
    ],
)
def test_a_check_says_why_in_its_own_words_or_where_they_are(home: Path, script: str, why: str) -> None:
    work = CommandWork(("sh", "-c", f"case $1 in *bad.txt) {script};; esac", "sh", "{input}"), cwd=home, judges=True)
    run_stage(Stage("files_download", "files_processing", work, output_dir=home / "out"), home / "manifests")
    with DownloadManifestManager(home / "manifests/files_processing.manifest.json", read_only=True) as manifest:
        (reason,) = (event.details["reason"] for event in manifest.history() if "reason" in event.details)
    assert re.search(why, reason)


def test_a_bad_command_fails_its_own_item_only(home: Path, bad: tuple[str, str]) -> None:
    counts = run(home, bad[0]).counts
    assert (counts[Result.MADE], counts[Result.FAILED]) == (1, 1)


def test_a_bad_command_leaves_no_output(home: Path, bad: tuple[str, str]) -> None:
    run(home, bad[0])
    assert outputs(home) == ["good.out"]


def test_what_a_bad_command_did_not_do_is_done_by_the_next_run(home: Path, bad: tuple[str, str]) -> None:
    run(home, bad[0])
    run(home, SHOUT)
    assert {name: (home / "out" / name).read_text() for name in outputs(home)} == {"bad.out": "BAD", "good.out": "GOOD"}


def test_a_failure_is_an_event_of_the_history(home: Path) -> None:
    run(home, "echo why >&2; exit 3")
    with DownloadManifestManager(home / "manifests/files_processing.manifest.json", read_only=True) as manifest:
        (failure,) = manifest.failures()
    assert (failure.inputs, failure.error) == ((hashlib.sha256(b"bad").hexdigest(),), "the command exited with 3: why")


def test_a_hanging_command_is_ended(home: Path) -> None:
    assert (
        error(run(home, f"exec sleep {NEVER_S}", timeout_s=0.2))
        == "the command took longer than timeout_s (0.2 s) and was ended"
    )


def test_a_command_that_prints_without_end_fills_no_disk(home: Path) -> None:
    run(home, f"head -c 30000000 /dev/zero; {SHOUT}", log_dir=home / "logs")
    assert sum(path.stat().st_size for path in (home / "logs").rglob("*") if path.is_file()) < 2_000_000


def test_a_command_that_prints_without_end_may_succeed(home: Path) -> None:
    assert run(home, f"head -c 30000000 /dev/zero; {SHOUT}").is_ok


def test_a_command_that_changes_its_input_fails(home: Path) -> None:
    said = error(run(home, f'{SHOUT}; printf BAD >"$1"', check_input=True))
    assert said.startswith(f"the input {home / 'raw/bad.txt'} is not what was recorded")


def test_a_missing_command_ends_the_run_with_one_error(home: Path) -> None:
    missing = Stage(
        "files_download", "files_processing", CommandWork(("no-such-tool", "{input}")), output_dir=home / "out"
    )
    with pytest.raises(
        CommandNotStartedError, match=r"^stage processing: no-such-tool: the command cannot be started: "
    ):
        run_stage(missing, home / "manifests")


def test_a_missing_command_loses_nothing(home: Path) -> None:
    missing = Stage(
        "files_download", "files_processing", CommandWork(("no-such-tool", "{input}")), output_dir=home / "out"
    )
    with pytest.raises(CommandNotStartedError):
        run_stage(missing, home / "manifests")
    assert run(home, SHOUT).counts[Result.MADE] == 2


@pytest.mark.parametrize(
    ("group_by", "said"),
    [
        (None, "the command line is longer than the system allows; shorten `command`, or its variables in `env`"),
        ("dataset", "the command line with 2 inputs is longer than the system allows; make the groups smaller"),
    ],
)
def test_a_command_line_that_is_too_long_fails_its_own_item(stages: Home, group_by: str | None, said: str) -> None:
    """What is in one group does not end the run for the others."""
    stages.download(("a", "one"), dataset="short")
    stages.download(("b", "two"), ("c", "three"), dataset="long" * 50)
    argv = ("sh", "-c", 'cp "$1" "$2"', "{dataset}" * 1000, "{input}", "{output}")
    long = stages.stage(None, work=CommandWork(argv), group_by=group_by, retries=3, backoff_s=NEVER_S)
    report = stages.run_stage(long)
    assert report.counts[Result.MADE] == 1
    assert {str(one.error).startswith(said) for one in report.failures} == {True}


# -- a full disk -------------------------------------------------------------------------------------------------------

SMALL_BYTES = 1 << 20


def _fill_the_disk(mounted: Mounted, home: Path) -> tuple[str, list[str]]:
    out = mounted.root / "out"
    report = run(home, 'head -c 2000000 /dev/zero >"$2"', output_dir=out)
    return error(report), sorted(path.name for path in out.iterdir() if not path.name.startswith("."))


@pytest.fixture
def filled(home: Path, start: Start) -> tuple[str, list[str]]:
    """What is said, and the outputs, after a command has filled the disk of the outputs."""
    need(on_tmpfs, SMALL_BYTES)
    (home / "mnt").mkdir()
    return start(on_tmpfs, home / "mnt", _fill_the_disk, SMALL_BYTES, home).result()  # type: ignore[no-any-return]


def test_a_command_that_fills_the_disk_says_so(filled: tuple[str, list[str]]) -> None:
    assert "No space left on device" in filled[0]


def test_a_command_that_fills_the_disk_fails_its_own_item_only(filled: tuple[str, list[str]]) -> None:
    assert filled[1] == ["good.out"]
