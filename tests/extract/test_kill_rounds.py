"""`kill -9` of workers and whole runs at random moments until a run ends by itself: nothing is lost, duplicated or left
over.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cli.program import children_of, finish, wait_until
from extract.runs import Home, counts, entry, members
from support.nginx import serving

if TYPE_CHECKING:
    from pathlib import Path

KILLS_MAX = 5
PAUSE_MAX_S = 0.4
RATE = "800k"
"""nginx sends what a second allows at once, so a large file takes one to three seconds and comes in pieces."""
JOBS = 3


def contents(chance: random.Random) -> dict[str, bytes]:
    """Large files, which have a state and take a moment at this rate; many small ones, so that many complete; one content twice."""
    files = {f"large-{n}.gz": chance.randbytes(chance.randint(1_200_000, 2_400_000)) for n in range(3)}
    files |= {f"small-{n}.gz": chance.randbytes(chance.randint(1, 5_000)) for n in range(8)}
    return files | {"large-again.gz": files["large-0.gz"], "small-again.gz": files["small-0.gz"]}


@dataclass
class Outcome:
    """What the rounds did, and which of them failed."""

    wrong: list[str] = field(default_factory=list)
    runs_killed: int = 0
    workers_killed: int = 0
    resumed_bytes: int = 0
    """Of answers to a `Range`, so behind a part that a killed worker left."""


def _kill_one(process: subprocess.Popen[str], chance: random.Random, outcome: Outcome) -> None:
    """Kill a worker or the parent after a random pause, unless the run ends first."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(chance.uniform(0, PAUSE_MAX_S))
    if process.poll() is not None:
        return
    if workers := children_of(process.pid) if chance.random() < 0.6 else []:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
            outcome.workers_killed += 1
    else:
        process.kill()
        outcome.runs_killed += 1


def _is_at_work(process: subprocess.Popen[str], home: Home) -> bool:
    return process.poll() is not None or bool(children_of(process.pid) and home.part_bytes())


def _end(process: subprocess.Popen[str]) -> int:
    """Wait for a run and its workers, which may end a moment later if it was killed; return the exit code."""
    result = finish(process)
    wait_until(lambda: members(process) == [])
    return result.code


def _round(home: Home, chance: random.Random, outcome: Outcome) -> None:
    """Start a run, kill parts of it and restart it until there were enough kills; then let it finish."""
    kills = chance.randint(1, KILLS_MAX)
    while kills > 0:
        process = home.start()
        wait_until(partial(_is_at_work, process, home))
        while kills > 0 and process.poll() is None:
            _kill_one(process, chance, outcome)
            kills -= 1
        if _end(process) == 0:
            kills = 0
    result = finish(home.start())
    assert (result.code, counts(result).get("claimed", 0)) == (0, 0), result


def run(folder: Path, rounds: int, seed: int) -> Outcome:
    print(f"seed {seed}")
    chance = random.Random(seed)
    outcome = Outcome()
    for number in range(rounds):
        home, served = Home(folder / f"home-{number}"), folder / f"served-{number}"
        for path in (home.folder, served):
            path.mkdir()
        files = contents(chance)
        for name, content in files.items():
            (served / name).write_bytes(content)
        with serving(served, limit_rate=RATE) as server:
            home.configure(*(entry(f"{server.url}/{name}") for name in files), jobs=JOBS)
            try:
                _round(home, chance, outcome)
                home.check(files)
            except AssertionError as error:
                outcome.wrong.append(f"round {number}: {error}")
            outcome.resumed_bytes += server.range_bytes().total()
    return outcome


@pytest.fixture(
    scope="module",
    params=[pytest.param(3, id="3 rounds"), pytest.param(50, id="50 rounds", marks=pytest.mark.slow)],
)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    seed = int(os.environ.get("MANIFESTLOG_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    return run(tmp_path_factory.mktemp("kill"), request.param, seed)


def test_every_file_is_there_once_right_and_registered(outcome: Outcome) -> None:
    """No part is left, and the manifest is intact: `Home.check`."""
    assert outcome.wrong == []


def test_something_was_killed(outcome: Outcome) -> None:
    """The check above is not vacuous."""
    assert outcome.runs_killed + outcome.workers_killed > 0


def test_parts_were_resumed(outcome: Outcome) -> None:
    """Nor were all files fetched from the start."""
    assert outcome.resumed_bytes > 0
