"""The logs of commands: they are kept by day, and those of days long ago are removed."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from manifestlog.stages import CommandWork, Stage, StageError

from .home import DOWNLOADS, PARSED, Home

if TYPE_CHECKING:
    from pathlib import Path

TODAY = datetime.now(UTC).date()
"""A test that runs over midnight finds tomorrow's."""


def chatty(home: Home, **settings: object) -> Stage:
    """A stage whose command prints."""
    work = CommandWork(("sh", "-c", 'echo out; cp "$1" "$2"', "sh", "{input}", "{output}"))
    return Stage(DOWNLOADS, PARSED, work, output_dir=home.data, **settings)  # type: ignore[arg-type]


def logs(home: Home) -> Path:
    return home.data / ".manifestlog.work" / PARSED / "logs"


def old(directory: Path, days: int) -> str:
    """Make a log of so many days ago; return the day."""
    day = f"{TODAY - timedelta(days=days)}"
    (directory / day / "digits").mkdir(parents=True)
    (directory / day / "digits" / "stdout.log").write_text("old")
    return day


def test_a_log_is_below_the_day_and_the_item(home: Home) -> None:
    (checksum,) = home.download(("a", "one"))
    home.run_stage(chatty(home))
    (found,) = logs(home).glob("*/*/*")
    day = found.relative_to(logs(home)).parts[0]
    assert TODAY <= datetime.fromisoformat(day).date() <= TODAY + timedelta(days=1)
    assert (found.parent.name, found.name, found.read_text()) == (checksum[:32], "stdout.log", "out\n")


def test_logs_are_removed_after_so_many_days(home: Home) -> None:
    home.download(("a", "one"))
    kept, _ = (old(logs(home), days) for days in (5, 8))
    home.run_stage(chatty(home, log_days=6))
    assert sorted(os.listdir(logs(home)))[:-1] == [kept]


def test_logs_in_a_directory_of_their_own_are_removed_too(home: Home) -> None:
    home.download(("a", "one"))
    old(home.root / "own", 40)
    home.run_stage(chatty(home, log_dir=home.root / "own"))
    assert len(os.listdir(home.root / "own")) == 1


def test_what_is_no_log_is_left_alone(home: Home) -> None:
    home.download(("a", "one"))
    (home.root / "own" / "1999").mkdir(parents=True)
    home.run_stage(chatty(home, log_dir=home.root / "own"))
    assert (home.root / "own" / "1999").exists()


def test_a_run_with_nothing_pending_removes_nothing(home: Home) -> None:
    home.download()
    day = old(logs(home), 40)
    home.run_stage(chatty(home))
    assert os.listdir(logs(home)) == [day]


@pytest.mark.parametrize("days", [0, 40_000])
def test_a_number_of_days_that_cannot_be_is_refused(home: Home, days: int) -> None:
    with pytest.raises(StageError, match="log_days: expected 1 to 36500 days"):
        chatty(home, log_days=days)
