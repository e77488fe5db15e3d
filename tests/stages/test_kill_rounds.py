"""`kill -9` of workers and whole runs at random moments, and several runs at once: every input is done exactly once.

The function gives other bytes each time, so work that was done twice shows as a second output.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import children_of
from manifestlog import Durability, ManifestOptions, ProcessedManifestManager
from manifestlog.stages import Result
from support.children import Child

from .home import PARSED, Home, sha
from .work import DIARY

if TYPE_CHECKING:
    from support.counts import Count

ITEMS, JOBS = 60, 3
KILLS_MAX = 4
PAUSE_MAX_S = 0.4
OPTIONS = ManifestOptions(durability=Durability.PROCESS_KILL)


@pytest.fixture
def full(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A pipeline with downloads, two of the same name."""
    monkeypatch.setenv(DIARY, str(home.root / "diary"))
    (home.root / "diary").touch()
    home.download(*((f"s{n:02}", f"text {n}") for n in range(ITEMS)))
    return home


def run(home: Home, function: str = "exclusive", **settings: Any) -> dict[Result, int]:
    stage = home.stage(f"stages.work:{function}", jobs=JOBS, output="{dataset}/{stem}.out", **settings)
    return dict(home.run_stage(stage, options=OPTIONS).counts)


def killed_somewhere(child: Child, chance: random.Random) -> str | None:
    """Kill a worker or the run after a random pause; return which, or None if the run has ended."""
    if child.ended_within(chance.uniform(0, PAUSE_MAX_S)):
        return None
    workers = children_of(child.pid) if chance.random() < 0.5 else []
    with suppress(ProcessLookupError):
        os.kill(chance.choice(workers) if workers else child.pid, signal.SIGKILL)
    return "worker" if workers else "run"


def check(home: Home, version: str = "1.0.0") -> None:
    """Every input has one output of this version, every record its file, every file a record, and nothing is left over."""
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        records = list(made.records.values())
        assert all(sha(made.locate(one).read_bytes()) == one.checksum for one in records)
        paths = {made.locate(one) for one in records}
        derived = [digest for one in records if one.version == version for digest in one.derived_from]
        derivations = [one.inputs for one in made.history(kinds=["put", "derived"]) if one.version == version]
    assert len(derived) == len(set(derived)) == ITEMS
    assert len(derivations) == ITEMS
    assert {path for path in home.data.rglob("*") if path.is_file()} == paths
    assert home.leftovers() == []
    assert "both work on" not in (home.root / "diary").read_text()


def round_of_kills(home: Home, chance: random.Random, count: Count, **settings: Any) -> int:
    """Kill runs and workers until a run ends by itself, or often enough; then let one end. Return how many were killed."""
    kills = 0
    for _ in range(chance.randint(1, KILLS_MAX)):
        child = Child(lambda _: run(home, **settings))
        while (hit := killed_somewhere(child, chance)) == "worker":
            kills += 1
            count("workers of stages killed", 1)
        child.kill()
        child.join()
        if hit is None:
            break
        kills += 1
        count("runs of stages killed", 1)
    while run(home, **settings).get(Result.FAILED):
        pass
    run(home, **settings)
    with ProcessedManifestManager(home.path(PARSED), options=OPTIONS) as made:
        made.compact()  # a kill may have left the temporary file of a compaction, which the next one removes
    check(home, settings.get("version", "1.0.0"))
    return kills


def test_runs_and_workers_that_are_killed_cost_nothing(full: Home, count: Count) -> None:
    round_of_kills(full, random.Random(7), count)


@pytest.mark.slow
def test_fifty_rounds_of_kills(full: Home, count: Count) -> None:
    """Each round is a version of its own, so it begins with everything pending."""
    for number in range(50):
        round_of_kills(full, random.Random(number), count, version=str(number))


def round_of_failures(home: Home, chance: random.Random, count: Count, version: str) -> None:
    """Kill runs whose items fail now and then: each failure is recorded once, and none is left."""
    before = failures(home)
    kills = round_of_kills(home, chance, count, function="unsteady", version=version, retries=1, backoff_s=0.01)
    noted = failures(home) - before
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        found = [one for one in made.history(kinds=["failed"]) if one.version == version]
        assert made.failures() == []
    # Of an item whose workers were killed twice, the run says that itself; the function has not failed.
    errors = Counter(one.error for one in found if not (one.error or "").startswith("two workers died of this item"))
    assert set(errors) <= {"OSError: not now"}
    recorded = errors.total()
    # A worker that is killed between a failure and its record loses that one.
    assert noted - JOBS * kills <= recorded <= noted


def failures(home: Home) -> int:
    return (home.root / "diary").read_text().count(" fails\n")


@pytest.mark.slow
def test_fifty_rounds_of_failures_in_runs_that_are_killed(full: Home, count: Count) -> None:
    for number in range(50):
        round_of_failures(full, random.Random(number), count, str(number))


def overlap(home: Home, version: str, runs: int) -> None:
    children = [Child(lambda link: link.send(run(home, version=version))) for _ in range(runs)]
    counts = [child.receive() for child in children]
    for child in children:
        child.join()
    assert sum(one.get(Result.MADE, 0) for one in counts) == ITEMS
    assert all(set(one) <= {Result.MADE, Result.CLAIMED} for one in counts)
    check(home, version)


def test_runs_at_the_same_time_share_the_work(full: Home) -> None:
    overlap(full, "1", 3)


@pytest.mark.slow
def test_many_runs_at_the_same_time_share_the_work(full: Home) -> None:
    for number in range(20):
        overlap(full, str(number), 4)
