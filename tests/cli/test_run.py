"""`run`: the sources of a configuration, then its stages, once or as records come."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import children_of, finish, one_line, wait_until
from cli.test_program import on_terminal
from manifestlog.engines.filelog.claims import FileClaims
from manifestlog.extract.claims import claim_name
from manifestlog.extract.config.configuration import load_config
from manifestlog.extract.paths import SourcePaths
from manifestlog.names import claim_of_items
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.program import Program, Result
    from support.badserver import BadServer

CONFIG = "etl.config.json"
FILES = {"a": "first", "b": "second", "c": "third"}
UPPER = ["sh", "-c", 'tr a-z A-Z <"$1" >"$2"', "sh", "{input}", "{output}"]
NEVER_S = 100


def stage(name: str, upstream: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "from": upstream, "manifest": f"files_{name}", "command": UPPER} | more


def configure(home: Path, *stages: dict[str, Any], **more: Any) -> Path:
    path = home / CONFIG
    head = {"etl_version": "1.0.0", "manifests_dir": "manifests", "data_dir": "data"}
    path.write_text(json.dumps(head | {"stages": list(stages)} | more))
    return path


@pytest.fixture
def files(run: Program) -> Path:
    """Three registered files, in the manifest `files_raw`."""
    folder = run.home / "raw"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.txt").write_text(text)
    assert run.here("add", "files_raw", "raw", "--quiet").code == 0
    return folder


@pytest.fixture
def two(run: Program, files: Path) -> Path:
    """Two stages over the three files, the second one first."""
    del files
    return configure(run.home, stage("count", "upper"), stage("upper", "files_raw"))


def outputs(home: Path, name: str) -> dict[str, str]:
    """The outputs of a stage: their names and contents."""
    found = sorted((home / "data" / name).rglob("*.txt"))
    return {path.name: path.read_text() for path in found if ".manifestlog.work" not in path.parts}


def results(done: Result) -> list[dict[str, int]]:
    """Of each stage: items, made and failed."""
    return [{name: one[name] for name in ("items", "made", "failed")} for one in done.json["stages"]]


# -- configurations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([stage("x", "files_raw", jobs=0)], "stages[0].jobs: expected an integer from 1 to 1024; correct it"),
        ([stage("x", "y"), stage("y", "x")], "stages[0].from: the stages form a circle: "),
        ([stage("x", "files_raw"), stage("y", "files_raw", manifest="files_x")], "stages[1].manifest: stage x writes files_x"),
        ([stage("x", "files_raw"), stage("y", "z")], "stages[1].from: no stage or manifest has this name; expected "),
        ([stage("x", "files_raw", command=["echo", "{inptu}"])], "stages[0].command: {inptu} is no placeholder"),
        ([stage("x", "files_raw", output="../x/{stem}.csv")], "stages[0].output: leads out of output_dir; "),
        ([stage("x", "files_raw", output="/x/{stem}.csv")], "stages[0].output: leads out of output_dir; "),
        ([stage("x", "files_raw", output="{stem")], "stages[0].output: a brace is not closed, "),
        ([stage("x", "files_raw", group_by="{dataset}/{mnth}")], "stages[0].group_by: {mnth} is no placeholder of group_by; expected month"),
        ([stage("x", "files_raw", command=None, function="no_such_module:f")], "no_such_module:f cannot be loaded: "),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_one_line(run: Program, files: Path, stages: list[dict[str, Any]], said: str) -> None:
    del files
    configure(run.home, *({k: v for k, v in one.items() if v is not None} for one in stages))
    result = run.here("run", CONFIG)
    assert (result.code, one_line(result.err), said in result.err) == (2, True, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": ["echo", "{inptu}"]},
        {"output": "{nmae}"},
        {"output": "../{stem}"},
        {"output_dir": CONFIG},
        {"command": None, "function": "no_such_module:f"},
    ],
)
def test_a_stage_that_cannot_run_ends_the_run_before_anything_is_fetched(run: Program, wrong: dict[str, Any]) -> None:
    (run.home / "one.csv").write_text("1,2\n", "utf-8")
    one = {"source_id": "one", "dataset": "d", "url": (run.home / "one.csv").as_uri()}
    bad = {k: v for k, v in (stage("upper", "files_raw") | wrong).items() if v is not None}
    config = {"etl_version": "1", "manifests_dir": "manifests", "data_dir": "data", "manifest": "files_raw"}
    (run.home / CONFIG).write_text(json.dumps(config | {"sources": [one], "stages": [bad]}), "utf-8")
    assert (run.here("run", CONFIG).code, (run.home / "data").exists()) == (2, False)


def test_an_unknown_stage_is_a_usage_error_that_names_the_closest(run: Program, two: Path) -> None:
    del two
    result = run.here("run", CONFIG, "uper")
    assert (result.code, "expected upper, or another of upper, count" in result.err) == (2, True)


def test_without_sources_there_is_nothing_to_extract(run: Program, two: Path) -> None:
    del two
    result = run.here("extract", CONFIG)
    assert (result.code, "sources: the key is missing" in result.err) == (2, True)


def test_a_missing_upstream_manifest_is_named(run: Program) -> None:
    configure(run.home, stage("upper", "files_raw"))
    result = run.here("run", CONFIG)
    assert (result.code, one_line(result.err), "files_raw.manifest.json: no such manifest" in result.err) == (
        10,
        True,
        True,
    )


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_without_sources_nobody_makes_the_configured_manifest_so_a_missing_one_is_named(
    run: Program, options: list[str]
) -> None:
    """A directory that is misspelled would look like one in which nothing is pending, every night."""
    configure(run.home, stage("upper", "files_raw"), manifest="files_raw")
    result = run.here("run", CONFIG, *options)
    assert (result.code, "files_raw.manifest.json: no such manifest" in result.err) == (10, True)


# -- one run -----------------------------------------------------------------------------------------------------------


def test_each_record_goes_through_all_stages(run: Program, two: Path) -> None:
    del two
    run.here("run", CONFIG)
    assert outputs(run.home, "count") == {"a.txt": "FIRST", "b.txt": "SECOND", "c.txt": "THIRD"}


def test_a_second_run_does_nothing(run: Program, two: Path) -> None:
    del two
    run.here("run", CONFIG)
    assert results(run.here("run", CONFIG, "--json")) == [{"items": 0, "made": 0, "failed": 0}] * 2


def test_only_named_stages_run(run: Program, two: Path) -> None:
    del two
    run.here("run", CONFIG, "upper")
    assert (len(outputs(run.home, "upper")), outputs(run.home, "count")) == (3, {})


def test_only_what_matches_is_done(run: Program, two: Path) -> None:
    del two
    run.here("run", CONFIG, "--only", "*b.txt")
    assert outputs(run.home, "count") == {"b.txt": "SECOND"}


def test_every_item_is_a_line(run: Program, two: Path) -> None:
    del two
    lines = run.here("run", CONFIG).err.splitlines()
    assert sorted(line.partition(" in ")[0] for line in lines) == sorted(
        f"manifestlog: {step}: raw/{name}.txt: made, {len(text)} B"
        for step in ("upper", "count")
        for name, text in FILES.items()
    )


def test_the_table_has_a_row_for_each_stage(run: Program, two: Path) -> None:
    del two
    table = [line.split() for line in run.here("run", CONFIG).out.splitlines()]
    assert [row[:5] for row in table] == [
        ["stage", "items", "done", "failed", "claimed"],
        ["upper", "3", "3", "0", "0"],
        ["count", "3", "3", "0", "0"],
    ]


def test_a_quiet_run_prints_nothing(run: Program, two: Path) -> None:
    del two
    assert run.here("run", CONFIG, "--quiet") == (0, "", "")


def test_a_failed_item_makes_the_exit_code_1(run: Program, files: Path) -> None:
    del files
    configure(run.home, stage("upper", "files_raw", command=["sh", "-c", "echo why >&2; exit 3"]))
    result = run.here("run", CONFIG, "--quiet")
    assert (result.code, result.out, sorted(result.err.splitlines())) == (
        1,
        "",
        [f"manifestlog: upper: raw/{name}.txt: failed: the command exited with 3: why" for name in FILES],
    )


def test_a_failed_item_stops_no_other_stage(run: Program, files: Path) -> None:
    del files
    fails = ["sh", "-c", 'case $1 in *a.txt) exit 1;; *) cp "$1" "$2";; esac', "sh", "{input}", "{output}"]
    configure(run.home, stage("upper", "files_raw", command=fails), stage("count", "upper"))
    assert results(run.here("run", CONFIG, "--json")) == [
        {"items": 3, "made": 2, "failed": 1},
        {"items": 2, "made": 2, "failed": 0},
    ]


def test_a_failure_is_shown_by_failures_until_the_item_is_done(run: Program, files: Path) -> None:
    del files
    configure(run.home, stage("upper", "files_raw", command=["false"]))
    run.here("run", CONFIG)
    failing = len(run.here("failures", "--json").json["failures"])
    configure(run.home, stage("upper", "files_raw"))
    run.here("run", CONFIG)
    assert (failing, run.here("failures", "--json").json["failures"]) == (3, [])


def test_what_was_given_up_is_tried_again_when_asked(run: Program, files: Path) -> None:
    del files
    configure(run.home, stage("upper", "files_raw", command=["false"], give_up_after=1))
    run.here("run", CONFIG)
    configure(run.home, stage("upper", "files_raw", give_up_after=1))
    given_up = run.here("run", CONFIG, "--json").json["stages"][0]["given_up"]
    assert (given_up, results(run.here("run", CONFIG, "--json", "--retry-failed"))[0]["made"]) == (3, 3)


def test_a_missing_command_is_one_line_and_loses_nothing(run: Program, files: Path) -> None:
    del files
    configure(run.home, stage("upper", "files_raw", command=["no-such-tool", "{input}", "{output}"]))
    missing = run.here("run", CONFIG, "--quiet")
    configure(run.home, stage("upper", "files_raw"))
    run.here("run", CONFIG)
    assert (missing.code, one_line(missing.err), len(outputs(run.home, "upper"))) == (1, True, 3)


def test_commands_run_beside_the_configuration(run: Program, files: Path) -> None:
    """As its relative paths start there: a cron job has another working directory."""
    del files
    script = run.home / "upper.sh"
    script.write_text('tr a-z A-Z <"$1" >"$2"\n')
    configure(run.home, stage("upper", "files_raw", command=["sh", "upper.sh", "{input}", "{output}"]))
    elsewhere = run.home / "elsewhere"
    elsewhere.mkdir()
    type(run)(elsewhere).here("run", "../" + CONFIG)
    assert len(outputs(run.home, "upper")) == 3


def test_functions_are_found_beside_the_configuration(run: Program, files: Path) -> None:
    del files
    (run.home / "own_stage.py").write_text(
        "def shout(item, path):\n    path.write_text(item.path.read_text().upper())\n"
    )
    one = stage("upper", "files_raw", function="own_stage:shout")
    del one["command"]
    configure(run.home, one)
    assert run("run", CONFIG, "--quiet").code == 0
    assert outputs(run.home, "upper")["a.txt"] == "FIRST"


# -- dry run -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_is_pending(run: Program, two: Path) -> None:
    del two
    shown = run.here("run", CONFIG, "--dry-run").out.splitlines()
    assert (len(shown), shown[-2:]) == (6, ["upper: 3 pending now", "count: 0 pending now"])


def test_a_dry_run_writes_nothing(run: Program, two: Path) -> None:
    before = sorted(run.home.rglob("*"))
    run.here("run", CONFIG, "--dry-run")
    assert (sorted(run.home.rglob("*")), two.exists()) == (before, True)


def test_a_dry_run_as_json(run: Program, two: Path) -> None:
    del two
    found = run.here("run", CONFIG, "--dry-run", "--json").json
    assert [(one["stage"], one["pending"], len(one["items"])) for one in found["stages"]] == [
        ("upper", 3, 3),
        ("count", 0, 0),
    ]


# -- with sources ------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(run: Program) -> Iterator[BadServer]:
    """A server of the three files, and a configuration with one stage after their download."""
    with misbehaving() as server:
        urls = {
            name: server.script(f"/{name}.txt", answers.whole(text.encode(), f'"{name}"'))
            for name, text in FILES.items()
        }
        sources = [{"source_id": name, "dataset": "raw", "url": url} for name, url in urls.items()]
        configure(
            run.home,
            stage("upper", "files_download"),
            manifest="files_download",
            sources=sources,
            defaults={"jobs": 1, "retries": 0},
        )
        yield server


def test_sources_are_fetched_before_the_stages_run(run: Program, served: BadServer) -> None:
    del served
    found = run.here("run", CONFIG, "--json").json
    assert (found["extract"]["new"], found["stages"][0]["made"]) == (3, 3)


def test_extract_may_be_named_as_a_step(run: Program, served: BadServer) -> None:
    del served
    found = run.here("run", CONFIG, "extract", "--json").json
    assert (found["extract"]["new"], found["stages"]) == (3, [])


def test_a_named_stage_runs_without_fetching(run: Program, served: BadServer) -> None:
    result = run.here("run", CONFIG, "upper", "--json").json
    assert (result["extract"], served.requests) == (None, [])


def test_a_dry_run_shows_what_would_be_fetched(run: Program, served: BadServer) -> None:
    del served
    found = run.here("run", CONFIG, "--dry-run", "--json").json
    assert (found["extract"]["fetch"], found["stages"][0]["pending"]) == (3, 0)


# -- while it runs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(run: Program, files: Path) -> Path:
    """A configuration whose commands print their number and hang; where their output is kept."""
    del files
    command = ["sh", "-c", f"echo $$; exec sleep {NEVER_S}"]
    configure(run.home, stage("upper", "files_raw", command=command, log_dir="logs"))
    return run.home / "logs"


def _printed(logs: Path, but: int = 0) -> int:
    """Wait until a command has printed its number, other than `but`: its worker has read that. Return it."""

    def look() -> int:
        found = [path.read_text() for path in logs.glob("*/*/stdout.log")]
        return next((int(text) for text in found if text.endswith("\n") and int(text) != but), 0)

    return int(wait_until(look))


def _gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " in stat.read_text()


def test_ctrl_c_ends_the_run_and_its_commands(run: Program, hanging: Path) -> None:
    process = run.start("run", CONFIG)
    pid = _printed(hanging)
    result = finish(process, signal.SIGINT)
    assert (result.code, _gone(pid)) == (130, True)


def test_a_killed_run_leaves_no_command(run: Program, hanging: Path) -> None:
    process = run.start("run", CONFIG)
    pid = _printed(hanging)
    process.kill()
    process.communicate()
    assert wait_until(lambda: _gone(pid))


def test_a_killed_worker_leaves_no_command(run: Program, hanging: Path) -> None:
    process = run.start("run", CONFIG)
    pid = _printed(hanging)
    for worker in children_of(process.pid):
        os.kill(worker, signal.SIGKILL)
    _printed(hanging, but=pid)  # another worker does it again
    finish(process, signal.SIGTERM)
    assert _gone(pid)


@pytest.fixture
def watching(run: Program, two: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that watches, and has done what was there."""
    del two
    with run.start("run", CONFIG, "--watch") as process:
        wait_until(lambda: len(outputs(run.home, "count")) == 3)
        yield process
        process.kill()


def test_a_run_that_watches_does_new_records(run: Program, watching: subprocess.Popen[str]) -> None:
    (run.home / "raw" / "d.txt").write_text("fourth")
    run.here("add", "files_raw", "raw", "--quiet")
    wait_until(lambda: outputs(run.home, "count").get("d.txt") == "FOURTH")
    assert watching.poll() is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_run_that_watches_ends_with_a_signal(
    watching: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    assert finish(watching, number).code == code


def test_a_run_that_watches_prints_a_line_for_each_pass_as_json(run: Program, two: Path) -> None:
    del two
    process = run.start("run", CONFIG, "--watch", "--json")
    wait_until(lambda: len(outputs(run.home, "count")) == 3)
    lines = [json.loads(line) for line in finish(process, signal.SIGTERM).out.splitlines()]
    assert [(one["stage"], one["made"]) for one in lines[:1]] == [("upper", 3)]


def test_a_run_that_watches_does_not_try_a_failed_item_with_every_new_one(run: Program, files: Path) -> None:
    fails = [
        "sh",
        "-c",
        'echo "$1" >>tries; case $1 in *a.txt) exit 1;; *) cp "$1" "$2";; esac',
        "sh",
        "{input}",
        "{output}",
    ]
    configure(run.home, stage("upper", "files_raw", command=fails))
    with run.start("run", CONFIG, "--watch") as process:
        wait_until(lambda: len(outputs(run.home, "upper")) == 2)
        (files / "d.txt").write_text("fourth")
        run.here("add", "files_raw", "raw", "--quiet")
        wait_until(lambda: len(outputs(run.home, "upper")) == 3)
        finish(process, signal.SIGTERM)
    tries = (run.home / "tries").read_text().split()
    assert tries.count(str(files / "a.txt")) == 1


def test_a_terminal_shows_a_line_for_each_stage(run: Program, two: Path) -> None:
    del two
    shown = on_terminal(run, "run", CONFIG)
    assert "upper" in shown
    assert "3 of 3" in shown


# -- the state of the whole --------------------------------------------------------------------------------------------


def steps(run: Program) -> list[tuple[Any, ...]]:
    found = run.here("status", "--config", CONFIG, "--json").json
    return [(one["step"], one["name"], one["total_records"], one["pending"], one["failed_sources"]) for one in found]


def test_status_shows_the_steps_and_what_is_pending(run: Program, two: Path) -> None:
    del two
    run.here("run", CONFIG, "upper")
    assert steps(run) == [
        (None, "files_raw", 3, None, 0),
        ("upper", "files_upper", 3, 0, 0),
        ("count", "files_count", None, 3, 0),
    ]


def test_status_without_a_configuration_shows_what_is_pending_for_stages_as_they_last_ran(
    run: Program, two: Path, files: Path
) -> None:
    del two
    run.here("run", CONFIG)
    (files / "d.txt").write_text("fourth")
    run.here("add", "files_raw", "raw", "--quiet")
    found = run.here("status", "--json").json
    assert {one["name"]: one["pending"] for one in found} == {"files_count": 0, "files_raw": None, "files_upper": 1}
    assert run.here("status").out.split()[:3] == ["manifest", "records", "pending"]


def test_status_has_no_column_for_what_is_pending_where_no_stage_ran(run: Program, files: Path) -> None:
    del files
    assert "pending" not in run.here("status").out


def test_status_says_which_process_works_on_which_item(run: Program, two: Path) -> None:
    """Of manifests in files: those of this host."""
    del two
    assert run.here("init", "files_upper", "--process", "transformer").code == 0
    digest = hashlib.sha256(b"first").hexdigest()[:32]
    with FileClaims(str(run.home / "manifests")) as claims, claims.claim(claim_of_items("files_upper"), digest):
        found = run.here("status", "--config", CONFIG, "--json").json
    work = [(row["name"], one["pid"], one["kind"], one["name"]) for row in found for one in row["working"]]
    assert work == [("files_upper", os.getpid(), "item", str(run.home / "raw" / "a.txt"))]


def test_status_says_which_process_fetches_which_source(run: Program, served: BadServer) -> None:
    del served
    (run.home / "data").mkdir()
    config = load_config(run.home / CONFIG, {})
    part = SourcePaths.of(config.data_dir, config.sources[0]).part
    assert run.here("run", CONFIG, "--quiet").code == 0
    with FileClaims(str(config.data_dir)) as claims, claims.claim("part", claim_name(config.data_dir, part)):
        shown = run.here("status", "--config", CONFIG).out
    source = config.sources[0]
    assert f"(process {os.getpid()}) works on {source.dataset}/{source.source_id}\n" in shown


def test_a_step_that_has_done_nothing_yet_is_no_error(run: Program, two: Path) -> None:
    del two
    result = run.here("status", "--config", CONFIG)
    assert (result.code, result.out.splitlines()[-1].split()) == (0, ["count", "files_count", *"-00--", "not", "yet"])


def test_a_step_that_has_done_nothing_yet_is_not_reported_as_missing(run: Program, two: Path) -> None:
    del two
    assert run.here("status", "--config", CONFIG).err == ""


def test_status_counts_what_fails(run: Program, files: Path) -> None:
    del files
    configure(run.home, stage("upper", "files_raw", command=["false"]))
    run.here("run", CONFIG)
    assert steps(run)[1] == ("upper", "files_upper", 0, 3, 3)


def test_status_exits_with_1_if_something_fails_and_this_was_asked_for(run: Program, files: Path) -> None:
    del files
    configure(run.home, stage("upper", "files_raw", command=["false"]))
    run.here("run", CONFIG)
    codes = [run.here("status", "--config", CONFIG, *more).code for more in ((), ("--exit-code",))]
    assert codes == [0, 1]


def test_status_takes_manifests_or_a_configuration(run: Program, two: Path) -> None:
    del two
    assert run.here("status", "files_raw", "--config", CONFIG).code == 2
