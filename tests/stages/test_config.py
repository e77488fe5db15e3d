"""The stages of a configuration: what is accepted, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manifestlog.model.url_paths import path_of
from manifestlog.names import NAME_PATTERN, NAME_RULE
from manifestlog.stages import CommandWork, FunctionWork, Rerun, Stage, Where, placeholders
from manifestlog.stages.config import Directories, Problem, read_stages

NEAR = "expected transform, or another of"
CONFIG, DATA = Path("/etl"), Path("/etl/data")
OF_COMMANDS, OF_NAMES, OF_GROUPS = (
    ", ".join(sorted(names))
    for names in (placeholders.VALUES | placeholders.PATHS, placeholders.VALUES, placeholders.OF_RECORD)
)


def raw_stage(**members: Any) -> dict[str, Any]:
    """A stage with everything that it must have; None removes a member."""
    found = {
        "name": "transform",
        "from": "galaxy_download",
        "manifest": "galaxy_processing",
        "command": ["./to_json", "{input}", "{output}"],
    } | members
    return {key: value for key, value in found.items() if value is not None}


def read(*raw: object) -> tuple[list[Stage], list[Problem]]:
    return read_stages(list(raw), Directories(CONFIG, DATA), "galaxy_download")


def stage(**members: Any) -> Stage:
    ((found,), problems) = read(raw_stage(**members))
    assert problems == []
    return found


def problem(*raw: object) -> Problem:
    stages, (found,) = read(*raw)
    assert stages == []
    return found


# -- accepted ----------------------------------------------------------------------------------------------------------


def test_the_shortest_stage_has_all_defaults() -> None:
    assert stage() == Stage(
        upstream="galaxy_download",
        manifest="galaxy_processing",
        name="transform",
        work=CommandWork(("./to_json", "{input}", "{output}"), cwd=CONFIG),
        output_dir=DATA / "transform",
    )


def test_a_stage_without_a_name_has_that_of_its_process() -> None:
    assert stage(name=None).name == "processing"


def test_a_function_takes_the_place_of_the_command() -> None:
    assert stage(command=None, function="warehouse:load").work == FunctionWork("warehouse:load")


def test_a_stage_may_set_every_member() -> None:
    members = {
        "process": "loader", "output": "{stem}.json", "output_dir": "out", "dataset": "d", "group_by": "dataset",
        "version": "2", "rerun": "code", "jobs": 4, "retries": 3, "backoff_s": 0, "timeout_s": 1.5, "give_up_after": 9,
        "check_input": True, "log_dir": "logs", "log_days": 7,
    }  # fmt: skip
    found = stage(**members)
    paths = {"output_dir": CONFIG / "out", "log_dir": CONFIG / "logs", "rerun": Rerun.CODE}
    assert {name: getattr(found, name) for name in members} == members | paths


def test_a_command_may_judge() -> None:
    work = stage(judges=True, nothing_exit=3, env={"A": "{stem}"}).work
    assert work == CommandWork(
        ("./to_json", "{input}", "{output}"), cwd=CONFIG, judges=True, nothing_exit=3, env={"A": "{stem}"}
    )


def test_conditions_select_records() -> None:
    where = {"dataset": "bodies", "source": ["a", "b"], "since": "2026-01-01", "path": "*.gz", "judgement": "valid"}
    assert stage(where=where).where == Where(
        dataset=("bodies",), source=("a", "b"), since="2026-01-01", path="*.gz", judgement="valid"
    )


def test_stages_run_after_the_ones_that_they_read() -> None:
    last = raw_stage(name="load", manifest="galaxy_loading") | {"from": "transform"}
    stages, _ = read(last, raw_stage())
    assert [one.name for one in stages] == ["transform", "load"]


def test_from_may_name_a_stage() -> None:
    last = raw_stage(name="load", manifest="galaxy_loading") | {"from": "transform"}
    assert [one.upstream for one in read(raw_stage(), last)[0]] == ["galaxy_download", "galaxy_processing"]


def test_from_may_name_a_manifest_that_others_fill() -> None:
    assert stage(**{"from": "other_download"}).upstream == "other_download"


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "place", "reason"),
    [
        ({"from": None}, "from", "the key is missing; add it: the name of a stage or of a manifest"),
        ({"manifest": None}, "manifest", "the key is missing; add it: the name of a manifest"),
        ({"command": None}, "command", "the key is missing; add it, or function: what to do with each record"),
        ({"function": "a:b"}, "function", "a stage runs a command or a function; remove one of them"),
        ({"command": "./to_json"}, "command", "expected a list of strings: a program and its arguments; correct it"),
        ({"command": []}, "command", "expected a list of strings: a program and its arguments; correct it"),
        ({"command": None, "function": "load"}, "function", "expected package.module:name; correct it"),
        ({"command": None, "function": "a:b", "judges": True}, "judges",
         "is for commands; remove it, and let the function do this"),
        ({"jobs": 0}, "jobs", "expected an integer from 1 to 1024; correct it"),
        ({"jobs": "4"}, "jobs", "expected an integer from 1 to 1024; correct it"),
        ({"retries": -1}, "retries", "expected an integer from 0 to 100; correct it"),
        ({"timeout_s": 0}, "timeout_s", "expected seconds, more than 0, at most 31536000; correct it"),
        ({"timeout_s": float("nan")}, "timeout_s", "expected seconds, more than 0, at most 31536000; correct it"),
        ({"process": "cook"}, "process", "expected one of extractor, transformer, loader; correct it"),
        ({"rerun": "always"}, "rerun", "expected one of version, code, never; correct it"),
        ({"version": ""}, "version", "expected a non-empty string; correct it"),
        ({"output_dir": "~/out"}, "output_dir",
         "expected a local directory; ~ and variables are not expanded in a path: write it out"),
        ({"output_dir": "s3://bucket"}, "output_dir",
         "expected a local directory; ~ and variables are not expanded in a path: write it out"),
        ({"name": "a b"}, "name", "expected a name of letters, digits, '-', '_' and '.'; correct it"),
        ({"name": "extract"}, "name",
         "extract is the name of the first step, which fetches the sources; choose another name"),
        ({"manifest": "galaxy_processing.manifest.json"}, "manifest",
         f"expected the first part of {NAME_PATTERN} ({NAME_RULE}); write it without directory and suffix"),
        ({"manifest": "galaxy_download", "from": "other_download"}, "manifest",
         "extract writes this manifest; give the stage a manifest of its own"),
        ({"from": "galaxy_processing"}, "manifest", "a stage cannot be its own upstream"),
        ({"from": "transfrom"}, "from",
         f"no stage or manifest has this name; {NEAR} galaxy_download, transform, galaxy_processing"),
        ({"env": {"A": 1}}, "env", "expected an object of names and values; correct it"),
        ({"env": {"A": "{stme}"}}, "env", f"{{stme}} is no placeholder of a command; expected stem, or another of {OF_COMMANDS}"),
        ({"command": ["echo", "{inptu}"]}, "command",
         f"{{inptu}} is no placeholder of a command; expected input, or another of {OF_COMMANDS}"),
        ({"output": "../x/{stem}.csv"}, "output",
         "leads out of output_dir; write a path below it, or set output_dir to another directory"),
        ({"output": "/x/{stem}.csv"}, "output",
         "leads out of output_dir; write a path below it, or set output_dir to another directory"),
        ({"output": "~/{stem}.csv"}, "output",
         "~ and $ are not expanded in a path; write a path below output_dir, and placeholders as {stem}"),
        ({"output": "{stem"}, "output",
         f"a brace is not closed, not opened, or holds no placeholder; expected one of {OF_NAMES} in each pair"),
        ({"output": "{nmae}"}, "output",
         f"{{nmae}} is no placeholder of an output's name; expected name, or another of {OF_NAMES}"),
        ({"output": "{dataset}/"}, "output", "names a directory; end it with the name of a file, such as {stem}.csv"),
        ({"output": ".x/{stem}"}, "output",
         "a part of it starts with a dot, a dash or a space; choose another name"),
        ({"group_by": "{dataset}/{mnth}"}, "group_by",
         f"{{mnth}} is no placeholder of group_by; expected month, or another of {OF_GROUPS}"),
        ({"group_by": "("}, "group_by", "is no regular expression; correct it"),
    ],
)  # fmt: skip
def test_a_bad_member_is_named_with_its_remedy(members: dict[str, Any], place: str, reason: str) -> None:
    assert problem(raw_stage(**members)) == (("stages", 0, place), reason)


def test_an_unknown_member_is_named_with_the_closest() -> None:
    assert problem(raw_stage(timeout=3)).reason.startswith(
        "unknown key; expected timeout_s, or another of name, from, "
    )


@pytest.mark.parametrize(
    ("where", "key", "reason"),
    [
        ({"judgement": "good"}, "judgement", "expected valid, invalid or any"),
        ({"since": "soon"}, "since", "expected an ISO-8601 date or time"),
        ({"dataset": []}, "dataset", "expected a pattern, or a list of patterns; correct it"),
        ({"datasets": "x"}, "datasets",
         "unknown key; expected dataset, or another of dataset, source, since, until, path, judgement"),
    ],
)  # fmt: skip
def test_a_bad_condition_is_named_with_its_remedy(where: dict[str, Any], key: str, reason: str) -> None:
    assert problem(raw_stage(where=where)) == (("stages", 0, "where", key), reason)


def test_every_problem_is_found() -> None:
    _, problems = read(raw_stage(jobs=0, version=""), raw_stage(retries="x"))
    assert [one.place for one in problems] == [
        ("stages", 0, "version"),
        ("stages", 0, "jobs"),
        ("stages", 1, "retries"),
    ]


def test_a_stage_that_is_no_object_is_a_problem() -> None:
    assert problem("transform") == (
        ("stages", 0),
        "expected an object with name, from, manifest, and command or function; correct it",
    )


def test_two_stages_that_write_one_manifest_are_refused() -> None:
    assert problem(raw_stage(), raw_stage(name="other")) == (
        ("stages", 1, "manifest"),
        "stage transform writes galaxy_processing, too; give each stage a manifest of its own",
    )


def test_two_stages_of_one_name_are_refused() -> None:
    found = problem(raw_stage(), raw_stage(manifest="galaxy_loading"))
    assert found == (("stages", 1, "name"), "another stage has this name; choose one that is unique")


def test_a_circle_is_refused() -> None:
    one, other = (
        raw_stage(**{"from": "load"}),
        raw_stage(name="load", manifest="galaxy_loading", **{"from": "transform"}),
    )
    found = problem(one, other)
    assert (found.place[-1], found.reason.startswith("the stages form a circle: ")) == ("from", True)


def test_outputs_do_not_go_to_an_object_store() -> None:
    stages, problems = read_stages([raw_stage()], Directories(CONFIG, path_of("s3://bucket/raw")))
    assert (stages, [one.place for one in problems]) == ([], [("stages", 0, "output_dir")])


def test_no_message_contains_a_value() -> None:
    _, problems = read(
        raw_stage(where={"since": "s3cret"}), raw_stage(output_dir="~s3cret"), raw_stage(name="s3cret !")
    )
    assert "s3cret" not in str(problems)


@pytest.mark.parametrize(
    "members",
    [
        {"output": "../s3cret"},
        {"output": "{S3cret"},
        {"output": ".s3cret"},
        {"group_by": "(s3cret"},
        {"group_by": "s3cret"},
    ],
)
def test_no_message_contains_a_pattern(members: dict[str, Any]) -> None:
    _, problems = read(raw_stage(**members))
    assert (len(problems), "s3cret" in str(problems).lower()) == (1, False)
