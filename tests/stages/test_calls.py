"""`run_stage` takes a stage, or in short what it is made of."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from manifestlog.stages import FunctionWork, Item, Result, Stage, StageError, run_stage
from manifestlog.stages.calls import HowToRun, Settings
from manifestlog.stages.runner import run

from .home import DOWNLOADS, FAST, PARSED, Home
from .work import DIARY


def upper(item: Item) -> bytes:
    return item.path.read_bytes().upper()


def written(item: Item, output: Path) -> None:
    output.write_bytes(item.path.read_bytes())


def test_manifests_and_a_function_are_enough(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.download(("a", "one"))
    monkeypatch.chdir(home.root)
    assert run_stage(DOWNLOADS, PARSED, written).done == 1
    assert list(home.outputs().values()) == ["one"]


def test_settings_are_those_of_a_stage(home: Home) -> None:
    home.download(("a", "one"))
    run_stage(
        DOWNLOADS,
        PARSED,
        upper,
        home.manifests,
        output_dir=home.data,
        output="{stage}-{version}",
        name="up",
        version="2",
    )
    assert home.outputs() == {"up-2": "ONE"}


def test_options_of_the_run_are_taken_as_well(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"))
    report = run_stage(DOWNLOADS, PARSED, upper, home.manifests, output_dir=home.data, options=FAST, only="b")
    assert report.counts == {Result.MADE: 1}


def test_everything_can_be_given_by_name(home: Home) -> None:
    home.download(("a", "one"))
    manifests, data = home.manifests, home.data
    done = run_stage(upstream=DOWNLOADS, manifest=PARSED, function=upper, directory=manifests, output_dir=data).done
    assert done == 1
    assert run_stage(stage=home.stage(upper, version="2"), directory=home.manifests).done == 1


def test_a_function_is_taken_by_its_name(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.download(("a", "one"))
    monkeypatch.setenv(DIARY, str(home.root / "diary"))
    assert run_stage(DOWNLOADS, PARSED, "stages.work:upper", home.manifests, output_dir=home.data).done == 1


def test_both_forms_are_one_stage(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    assert run_stage(DOWNLOADS, PARSED, upper, home.manifests, output_dir=home.data).counts == {}


def test_a_value_that_is_not_usable_is_an_error_of_the_stage() -> None:
    with pytest.raises(StageError, match="jobs"):
        run_stage(DOWNLOADS, PARSED, upper, jobs=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jobs", "2"),
        ("retries", 1.5),
        ("backoff_s", "1"),
        ("timeout_s", "1"),
        ("give_up_after", "1"),
        ("log_days", None),
        ("version", 2),
        ("name", 1),
        ("output", 1),
        ("dataset", 1),
        ("group_by", 1),
        ("where", {"dataset": "set"}),
        ("output_dir", 1),
        ("log_dir", 1),
        ("check_input", "no"),
    ],
)
def test_a_value_of_another_type_is_an_error_of_the_stage_that_names_its_field(name: str, value: Any) -> None:
    with pytest.raises(StageError, match=f": {name}: "):
        Stage(DOWNLOADS, PARSED, FunctionWork(upper), **{name: value})


def test_what_cannot_be_called_is_refused_before_anything_is_done(home: Home) -> None:
    home.download(("a", "one"))
    with pytest.raises(StageError, match="work: "):
        run_stage(DOWNLOADS, PARSED, 42, home.manifests)  # type: ignore[call-overload]  # what is tested


def test_a_file_in_the_place_of_the_output_directory_is_refused_before_anything_is_done(home: Home) -> None:
    home.download(("a", "one"))
    home.data.write_text("mine")
    with pytest.raises(StageError, match=f"output_dir: {home.data} is no directory; "):
        home.run(upper)
    assert not home.path(PARSED).exists()


def test_a_path_of_a_manifest_may_be_a_path(home: Home) -> None:
    home.download(("a", "one"))
    found = run_stage(home.path(DOWNLOADS), home.path(PARSED), upper, output_dir=home.data, options=FAST)
    assert found.counts == {Result.MADE: 1}


def test_a_log_directory_may_be_given_as_text() -> None:
    assert Stage(DOWNLOADS, PARSED, FunctionWork(upper), log_dir="logs").log_dir == Path("logs")  # type: ignore[arg-type]  # as `output_dir` may be


def test_an_unknown_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unknown"):
        run_stage(DOWNLOADS, PARSED, upper, unknown=1)  # type: ignore[call-overload]  # what is tested


def test_its_types_know_every_option_of_a_run_and_every_setting_of_a_stage() -> None:
    options = {one.name for one in inspect.signature(run).parameters.values() if one.kind is one.KEYWORD_ONLY}
    settings = {one.name for one in fields(Stage) if one.kw_only}
    assert (set(HowToRun.__annotations__), set(Settings.__annotations__)) == (options, options | settings)
