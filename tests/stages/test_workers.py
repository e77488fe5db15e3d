"""A stage in worker processes: repetitions, deaths, time limits, stop requests, and an `async def`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import children_of, wait_until
from manifestlog import EventKind, ProcessedManifestManager
from manifestlog.names import WORK_NAME
from manifestlog.stages import (
    Finished,
    FunctionWork,
    NoFunctionError,
    Result,
    Stage,
    Started,
    Waiting,
    register,
    working,
)
from manifestlog.stages.claiming import ITEM, StageClaims
from manifestlog.stages.items import digest_of
from support.children import Child

from .home import DOWNLOADS, PARSED, Home, sha
from .work import DIARY

if TYPE_CHECKING:
    from manifestlog.stages import Item, StageReport


@pytest.fixture
def diary(home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the functions of `work` write to."""
    monkeypatch.setenv(DIARY, str(home.root / "diary"))
    (home.root / "diary").touch()
    return home.root / "diary"


def stage(home: Home, name: str, **settings: Any) -> Stage:
    given: dict[str, Any] = {"jobs": 2, "output_dir": home.data, "output": "{dataset}/{source_id}.out"} | settings
    return Stage(DOWNLOADS, PARSED, FunctionWork(f"stages.work:{name}"), **given)


def run(home: Home, name: str, how: dict[str, Any] | None = None, **settings: Any) -> StageReport:
    return home.run_stage(stage(home, name, **settings), **(how or {}))


def test_a_function_is_loaded_by_its_name_in_every_worker(home: Home, diary: Path) -> None:
    home.download(*((f"s{n}", f"text {n}") for n in range(40)))
    report = run(home, "who", jobs=3)
    assert report.counts == {Result.MADE: 40}
    pids = set(diary.read_text().split())
    assert len(pids) == 3
    assert str(os.getpid()) not in pids


def test_a_failed_item_is_tried_again_after_a_pause_and_every_attempt_is_an_event(home: Home, diary: Path) -> None:
    home.download(("a", "one"), ("b", "two"))
    events: list[Any] = []
    report = run(home, "flaky", {"on_event": events.append}, retries=2, backoff_s=0.01)
    assert report.counts == {Result.MADE: 2}
    assert sorted(diary.read_text().split("\n"))[1:] == [f"{s} {n}" for s in "ab" for n in (1, 2, 3)]
    assert len(home.events(kinds=[EventKind.FAILED])) == 4
    assert [one.pause_s for one in events if isinstance(one, Waiting) and one.item.source_id == "a"] == [0.01, 0.02]


def test_a_failure_that_was_overcome_is_over(home: Home, diary: Path) -> None:
    home.download(("a", "one"))
    run(home, "flaky", retries=2, backoff_s=0.01, dataset="other")
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        (failure,) = made.failures(recovered=True)
    assert failure.attempts == 2
    assert failure.succeeded is not None


def test_an_item_that_kills_its_workers_fails_and_the_others_are_done(home: Home, diary: Path) -> None:
    home.download(("a", "one"), ("b", "two"), ("c", "three"))
    report = run(home, "die_of_b")
    assert report.counts == {Result.MADE: 2, Result.FAILED: 1}
    assert (report.failures[0].error or "").startswith("two workers died of this item (the last was killed by SIGKILL)")
    assert [one.inputs for one in home.events(kinds=[EventKind.FAILED])] == [(sha(b"two"),)]


def test_a_function_that_hangs_is_interrupted_even_if_it_catches_everything(home: Home, diary: Path) -> None:
    home.download(("a", "one"))
    report = run(home, "hang", timeout_s=0.2)
    assert report.failures[0].error == "it took longer than timeout_s (0.2 s)"


def test_items_of_an_async_function_are_in_work_together_in_one_process(home: Home, diary: Path) -> None:
    home.download(*((f"s{n}", f"text {n}") for n in range(8)))
    report = run(home, "gather", jobs=8)
    assert report.counts == {Result.MADE: 8}
    lines = diary.read_text().splitlines()
    assert max(sum(1 if line.startswith("in") else -1 for line in lines[:n]) for n in range(len(lines))) >= 6
    assert len(home.outputs()) == 8


def test_an_async_function_that_hangs_is_cancelled(home: Home, diary: Path) -> None:
    home.download(("a", "one"))
    report = run(home, "hang_async", timeout_s=0.2)
    assert report.failures[0].error == "it took longer than timeout_s (0.2 s)"


def test_an_error_of_an_async_function_is_a_failure(home: Home, diary: Path) -> None:
    home.download(("a", "one"), ("b", "two"))
    report = run(home, "boom_async")
    assert [one.error for one in report.failures] == ["ValueError: no header"] * 2


@pytest.mark.parametrize("name", ["hang_async", "slow"])
def test_a_stop_request_ends_the_run_soon_and_the_rest_stays_pending(home: Home, diary: Path, name: str) -> None:
    home.download(*((f"s{n}", f"text {n}") for n in range(30)))
    stopped = 0

    def asked() -> int:
        return int(bool(diary.read_text())) + stopped

    report = run(home, name, {"asked_to_stop": asked})
    assert report.interrupted
    assert report.done < 30
    (end,) = home.events(kinds=[EventKind.ENDED])
    assert end.details["outcome"] == "interrupted"
    again = run(home, "noop")
    assert report.done + again.done == 30


def test_a_second_stop_request_ends_it_at_once(home: Home, diary: Path) -> None:
    home.download(("a", "one"))
    report = run(home, "hang", {"asked_to_stop": lambda: 2 * bool(diary.read_text())})
    assert report.interrupted
    assert report.counts == {}
    assert run(home, "noop").done == 1


def test_events_say_what_begins_and_what_is_done(home: Home, diary: Path) -> None:
    home.download(("a", "one"), ("b", "two"))
    events: list[Any] = []
    run(home, "noop", {"on_event": events.append, "shows_start": True})
    assert [type(one).__name__ for one in (events[0], events[-1])] == ["Begun", "Ended"]
    assert events[0].pending == 2
    assert sorted(one.item.source_id for one in events if isinstance(one, Started)) == ["a", "b"]
    assert sum(isinstance(one, Finished) for one in events) == 2


@pytest.mark.parametrize("name", ["stages.nothing:x", "stages.work:x", "stages.work:DIARY"])
def test_a_function_that_cannot_be_loaded_is_said_before_anything_is_done(home: Home, name: str) -> None:
    home.download(("a", "one"))
    bad = Stage(DOWNLOADS, PARSED, FunctionWork(name), output_dir=home.data)
    with pytest.raises(NoFunctionError, match=name):
        home.run_stage(bad)
    assert not home.path(PARSED).exists()


def test_a_daemonic_process_does_the_work_itself(home: Home, diary: Path) -> None:
    """A worker of Celery may not have children."""
    import multiprocessing

    home.download(("a", "one"), ("b", "two"))
    context = multiprocessing.get_context("fork")
    child = context.Process(target=run, args=(home, "who"), daemon=True)
    child.start()
    child.join(30)
    assert (child.exitcode, len(set(diary.read_text().split()))) == (0, 1)
    assert len(home.outputs()) == 2


def test_workers_end_when_the_run_is_killed(home: Home, diary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one whose function hangs. The claims end with them, so that the next run takes all of it."""
    home.download(*((f"s{n}", f"text {n}") for n in range(6)))
    monkeypatch.setattr(working, "ORPHAN_S", 0.2)
    child = Child(lambda _: run(home, "hang", {"on_event": lambda _: None}))
    wait_until(lambda: len(diary.read_text().split()) == 2)
    workers = children_of(child.pid)
    child.kill(signal.SIGKILL)
    child.join()
    wait_until(lambda: not any(map(is_there, workers)))
    assert run(home, "noop").done == 6


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists()


def test_what_a_worker_recorded_before_it_died_is_not_done_again(home: Home) -> None:
    recorded_and_dead(home.root)


def test_what_a_worker_published_before_it_died_is_recorded_and_not_done_again(home: Home) -> None:
    published_and_dead(home.root)


def test_what_a_worker_of_another_run_published_before_it_died_is_recorded_before_its_item_is_taken_up(
    home: Home,
) -> None:
    published_by_another(home.root)


def published_by_another(path: Path) -> None:
    """The run has begun before; so it has tidied up, and looked at what is pending, before the worker died."""
    home = Home.at(path)
    home.download(("a", "one"), ("b", "two"), ("c", "three"))
    done: list[str] = []

    def work(item: Item) -> bytes:
        done.append(item.source_id)
        if len(done) == 1:
            killed_after_publishing(home)
        else:  # the events of a third run come after what this one has recorded of the second
            Child(lambda _: home.run(lambda _: b"made anew")).join()
        return os.urandom(8).hex().encode()

    report = home.run(work)
    assert report.counts == {Result.MADE: 2, Result.CLAIMED: 1}
    home.run(work)  # what it keeps of what is pending says so, too
    assert len(done) == 2
    assert len(home.events(kinds=[EventKind.PUT])) == 3  # one output of each
    assert all_recorded(home)


def test_what_a_dead_worker_published_waits_for_who_has_its_item(home: Home) -> None:
    tidied_beside_a_claim(home.root)


def tidied_beside_a_claim(path: Path) -> None:
    """A run tidies up while another one, which has just claimed the item, has not yet found what is left of it."""
    home = Home.at(path)
    (digest,) = home.download(("a", "one"))
    killed_after_publishing(home)
    with (
        ProcessedManifestManager(home.path(PARSED)) as made,
        StageClaims(made) as claims,
        claims.claim(ITEM, digest_of(digest, is_group=False)) as ours,
    ):
        assert ours
        assert home.run(lambda _: b"made anew").counts == {Result.CLAIMED: 1}
    home.run(lambda _: b"made anew")
    assert all_recorded(home)
    assert home.leftovers() == []


def killed_after_publishing(home: Home) -> None:
    """Run the stage in a process that is killed when its outputs have their names and no record."""

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def run_and_die(_link: object) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("manifestlog.stages.landing.record", die)
            home.run(lambda _: os.urandom(8).hex().encode())

    assert Child(run_and_die).join() == -signal.SIGKILL
    assert named(home)


def all_recorded(home: Home) -> bool:
    """Return whether every file under a final name has a record."""
    return named(home) == {home.data / name for name in home.outputs()}


def named(home: Home) -> set[Path]:
    return {one for one in home.data.rglob("*.txt") if one.is_file() and WORK_NAME not in one.parts}


def recorded_and_dead(path: Path) -> None:
    """It dies between its records and its report, so the run knows from the history only that the item is done."""
    home = dead_after(path, records=True)
    assert len(home.events(kinds=[EventKind.PUT])) == 1


def published_and_dead(path: Path) -> None:
    """It dies when its output has its name and no record. Done again, that would leave a file without a record."""
    home = dead_after(path, records=False)
    assert all_recorded(home)


def dead_after(path: Path, *, records: bool) -> Home:
    """Run a stage whose worker dies once, after the first item was published, and before or after it was recorded."""
    home = Home.at(path)
    home.download(("a", "one"))
    patch = pytest.MonkeyPatch()

    def record(*given: Any) -> None:
        if records or (path / "died").exists():
            register.record(*given)
        if not (path / "died").exists():
            (path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.context() as patched:
        patched.setattr("manifestlog.stages.landing.record", record)
        first = home.run_stage(home.stage(lambda _: os.urandom(8).hex().encode()), asked_to_stop=int)
    assert (path / "died").exists()
    assert first.counts == {Result.CLAIMED: 1}
    home.run_stage(home.stage(lambda _: os.urandom(8).hex().encode()))
    return home
