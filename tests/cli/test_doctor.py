"""`doctor` on the command line."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import Program, finish, wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(home: Path) -> Path:
    path = home / "manifests"
    path.mkdir(exist_ok=True)
    return path


def test_a_good_folder_ends_with_0(run: Program, folder: Path) -> None:
    result = run("doctor", folder)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("\n") >= 15


def test_by_default_it_tests_the_usual_directory(run: Program, folder: Path) -> None:
    assert run.here("doctor", "--json").json["directory"] == str(folder)


def test_dir_names_the_directory(run: Program, home: Path) -> None:
    (home / "other").mkdir()
    assert run.here("--dir", "other", "doctor", "--json").json["directory"] == str(home / "other")


def test_json_has_a_verdict_for_each_test(run: Program, folder: Path) -> None:
    told: dict[str, Any] = run.here("doctor", folder, "--json").json
    assert list(told) == ["directory", "failed", "tests"]
    assert told["failed"] is False
    assert {tuple(test) for test in told["tests"]} == {("test", "verdict", "found", "advice")}
    assert {test["verdict"] for test in told["tests"]} <= {"ok", "warning"}


def test_quiet_shows_only_warnings_and_failures(run: Program, folder: Path) -> None:
    folder.chmod(0o777)
    result = run.here("doctor", folder, "--quiet")
    assert result.code == 0
    assert "mode 0777" in result.out
    assert " ok " not in result.out


def test_a_failed_test_ends_with_1(run: Program, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: str) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("manifestlog.files.disk.sync_directory", fail)
    result = run.here("doctor", folder, "--json")
    assert result.code == 1
    assert result.json["failed"] is True


def test_a_missing_directory_is_an_error_with_advice(run: Program) -> None:
    result = run.here("doctor", "nowhere")
    assert (result.code, result.out) == (10, "")
    assert "no such directory" in result.err
    assert "mkdir" in result.err


@pytest.mark.parametrize("place", [("file",), ("--dir", "file")])
def test_a_file_in_place_of_a_directory_is_a_usage_error(run: Program, home: Path, place: tuple[str, ...]) -> None:
    (home / "file").touch()
    result = run.here("doctor", *place, "--json")
    assert result.code == 2
    assert "'file' is not a directory" in result.error["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_behind(run: Program, folder: Path, number: signal.Signals, code: int) -> None:
    process = run.start("doctor", folder)
    wait_until(lambda: list(folder.iterdir()))
    assert finish(process, number).code == code
    assert list(folder.iterdir()) == []


def test_leftovers_of_a_killed_run_are_removed_by_the_next(run: Program, folder: Path) -> None:
    process = run.start("doctor", folder)
    wait_until(lambda: list(folder.iterdir()))
    process.kill()
    process.communicate(timeout=30)  # its second process may say in its own words that it was left alone
    assert list(folder.iterdir())
    assert run("doctor", folder).code == 0
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("stray")
def test_a_link_to_another_file_is_a_warning(run: Program, folder: Path) -> None:
    result = run.here("doctor", folder, "--json")
    (test,) = [test for test in result.json["tests"] if test["test"] == "links"]
    assert (result.code, test["verdict"]) == (0, "warning")
    assert "backup-2024.json" in test["found"]
