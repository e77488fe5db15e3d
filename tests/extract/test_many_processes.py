"""Many processes on one list of sources: each body is fetched once, whatever is killed or stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cli.program import Result, children_of, finish, one_line, wait_until
from cli.test_add import is_alive
from extract.runs import Home, counts, entry, members
from support import answers
from support.badserver import misbehaving
from support.nginx import serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from support.badserver import BadServer, Step

SOURCES = 300
DUPLICATES = 30
FILES = {f"{n}.json": b'{"content":%d}' % (n % (SOURCES - DUPLICATES)) * (1 + n % 50) for n in range(SOURCES)}
# A duplicate has the content of its original, repeated the same number of times.
FILES |= {f"{n}.json": FILES[f"{n - SOURCES + DUPLICATES}.json"] for n in range(SOURCES - DUPLICATES, SOURCES)}
EVERY_BODY_ONCE = Counter(dict.fromkeys((f"/{name}" for name in FILES), 1))

WITH_METHOD = """
import json, multiprocessing, os, sys
from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata
from manifestlog.extract import PipelineOrchestrator, load_config

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    config = load_config("etl.config.json", os.environ)
    config.manifests_dir.mkdir(exist_ok=True)
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=config.manifests_dir)
    path = config.manifests_dir / "systems_download.manifest.json"
    with DownloadManifestManager(path, metadata) as manifest:
        orchestrator = PipelineOrchestrator(manifest, data_dir=config.data_dir, defaults=config.defaults)
        print(json.dumps(orchestrator.run(config.sources).as_json()))
"""


# -- two runs in sequence ----------------------------------------------------------------------------------------------


class Ran(NamedTuple):
    """Two runs in sequence, and the bodies the server had sent after each."""

    home: Home
    first: Result
    bodies_first: Counter[str]
    second: Result
    bodies_both: Counter[str]


def run_by(home: Home, method: str) -> Result:
    if method == "the program":
        return home.run()
    return finish(home.start_python("-c", WITH_METHOD, method))


@pytest.fixture(scope="module", params=["the program", "spawn", "forkserver"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    home = Home(tmp_path_factory.mktemp("home"))
    served = tmp_path_factory.mktemp("served")
    for name, content in FILES.items():
        (served / name).write_bytes(content)
    with serving(served) as server:
        home.configure(*(entry(f"{server.url}/{name}") for name in FILES), jobs=4)
        first = run_by(home, request.param)
        bodies_first = server.bodies()
        second = run_by(home, request.param)
        yield Ran(home, first, bodies_first, second, server.bodies())


def test_the_first_run_transfers_each_body_once(ran: Ran) -> None:
    assert ran.bodies_first == EVERY_BODY_ONCE


def test_the_second_run_transfers_no_body(ran: Ran) -> None:
    assert ran.bodies_both - ran.bodies_first == Counter()


def test_the_first_run_counts_new_contents_and_aliases(ran: Ran) -> None:
    assert counts(ran.first) == {"new": SOURCES - DUPLICATES, "alias": DUPLICATES}


def test_the_second_run_counts_everything_unchanged(ran: Ran) -> None:
    assert counts(ran.second) == {"unchanged": SOURCES}


def test_the_first_run_counts_the_bytes_that_it_fetched(ran: Ran) -> None:
    assert ran.first.json["bytes_fetched"] == sum(map(len, FILES.values()))


def test_the_second_run_counts_the_bytes_that_it_saved(ran: Ran) -> None:
    fetched, saved = ran.second.json["bytes_fetched"], ran.second.json["bytes_saved"]
    assert (fetched, saved) == (0, sum(map(len, FILES.values())))


def test_every_content_is_registered_and_kept_once(ran: Ran) -> None:
    ran.home.check(FILES)


def test_no_process_reports_an_error(ran: Ran) -> None:
    assert (ran.first.code, ran.first.err, ran.second.code, ran.second.err) == (0, "", 0, "")


# -- two runs at once --------------------------------------------------------------------------------------------------


class Overlap(NamedTuple):
    home: Home
    results: list[Result]
    bodies: Counter[str]


def _were_asked(server: BadServer, paths: list[str]) -> bool:
    return all(map(server.asked, paths))


@pytest.fixture(scope="module")
def overlap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlap]:
    """Two runs whose four workers start the same list at the same moment; each first had to wait for a source of its
    own.
    """
    home = Home(tmp_path_factory.mktemp("home"))
    served = tmp_path_factory.mktemp("served")
    for name, content in FILES.items():
        (served / name).write_bytes(content)
    with serving(served) as server, misbehaving() as gates:
        opened = threading.Event()
        running = []
        for number in range(2):
            own = [f"/gate-{number}-{worker}" for worker in range(2)]
            first = [gates.script(path, answers.slow_to_answer(path.encode(), opened)) for path in own]
            home.configure(*map(entry, [*first, *(f"{server.url}/{name}" for name in FILES)]), jobs=2, connections=2)
            running.append(home.start())
            wait_until(partial(_were_asked, gates, own))
        opened.set()
        yield Overlap(home, [finish(process) for process in running], server.bodies())


def test_overlapping_runs_transfer_each_body_once(overlap: Overlap) -> None:
    assert overlap.bodies == EVERY_BODY_ONCE


def test_overlapping_runs_each_account_for_every_source(overlap: Overlap) -> None:
    assert [sum(counts(result).values()) for result in overlap.results] == [SOURCES + 2, SOURCES + 2]


def test_overlapping_runs_fetch_everything_between_them(overlap: Overlap) -> None:
    both = Counter(counts(overlap.results[0])) + Counter(counts(overlap.results[1]))
    assert (both["new"], both["alias"]) == (SOURCES - DUPLICATES + 4, DUPLICATES)


def test_overlapping_runs_leave_the_rest_to_each_other(overlap: Overlap) -> None:
    both = Counter(counts(overlap.results[0])) + Counter(counts(overlap.results[1]))
    assert both["claimed"] + both["unchanged"] == SOURCES


def test_overlapping_runs_both_fetch(overlap: Overlap) -> None:
    """The checks above are not vacuous."""
    assert all(result.json["new"] > 10 for result in overlap.results)


def test_overlapping_runs_succeed(overlap: Overlap) -> None:
    assert [(result.code, result.err) for result in overlap.results] == [(0, ""), (0, "")]


def test_overlapping_runs_keep_every_content_once(overlap: Overlap) -> None:
    gates = {name: f"/{name}".encode() for name in ("gate-0-0", "gate-0-1", "gate-1-0", "gate-1-1")}
    overlap.home.check(FILES | gates)


# -- a server that stops in the middle of a body -----------------------------------------------------------------------

BODY = os.urandom(3_000_000)
FIRST_BYTES = 1_000_000
SMALL = {f"small-{n}": b"%d" % n for n in range(5)}


def stalling() -> Step:
    """Send this many bytes, then nothing."""
    return answers.slow(BODY, FIRST_BYTES, threading.Event(), '"e"')


def one_stalls(home: Home, bad: BadServer, *then: Step, jobs: int = 2, connections: int = 2) -> None:
    """Six sources; the first one stalls until another step follows. By default it has a worker of its own."""
    large = bad.script("/large", stalling(), *then)
    small = [bad.script(f"/{name}", answers.whole(body, f'"{name}"')) for name, body in SMALL.items()]
    home.configure(*map(entry, [large, *small]), jobs=jobs, connections=connections)


def until_stalled(home: Home) -> None:
    """Wait until everything the server sent is written."""
    wait_until(lambda: home.part_bytes("large") == FIRST_BYTES)


def only_worker(process: subprocess.Popen[str], *others: int) -> int:
    """Return the worker that is left when all tasks but one are done."""
    found: list[int] = wait_until(lambda: len(w := [*{*children_of(process.pid)} - {*others}]) == 1 and w)
    return found[0]


def whole() -> Step:
    return answers.whole(BODY, '"e"')


def test_a_killed_workers_source_is_done_by_another_one(home: Home, bad: BadServer) -> None:
    one_stalls(home, bad, whole())
    process = home.start()
    until_stalled(home)
    os.kill(only_worker(process), signal.SIGKILL)
    assert counts(finish(process)) == {"new": 6}


def test_a_killed_workers_part_is_resumed(home: Home, bad: BadServer) -> None:
    one_stalls(home, bad, whole())
    process = home.start()
    until_stalled(home)
    os.kill(only_worker(process), signal.SIGKILL)
    finish(process)
    assert [request.headers.get("range") for request in bad.asked("/large")] == [None, f"bytes={FIRST_BYTES}-"]
    home.check({"large": BODY} | SMALL)


def test_a_terminated_workers_source_is_done_by_another_one(home: Home, bad: BadServer) -> None:
    """SIGTERM from outside lets a worker end well, but not finish its source."""
    one_stalls(home, bad, whole())
    process = home.start()
    until_stalled(home)
    os.kill(only_worker(process), signal.SIGTERM)
    assert counts(finish(process)) == {"new": 6}


def kill_twice(home: Home, bad: BadServer) -> Result:
    one_stalls(home, bad)
    process = home.start()
    until_stalled(home)
    worker = only_worker(process)
    os.kill(worker, signal.SIGKILL)
    bad.wait_until(lambda s: len(s.asked("/large")) == 2)
    os.kill(only_worker(process, worker), signal.SIGKILL)
    return finish(process)


def test_a_source_that_lost_two_workers_has_failed(home: Home, bad: BadServer) -> None:
    result = kill_twice(home, bad)
    assert (result.code, counts(result)) == (1, {"new": 5, "failed": 1})


def test_a_source_that_lost_two_workers_is_reported(home: Home, bad: BadServer) -> None:
    (failure,) = kill_twice(home, bad).json["failures"]
    assert (failure["source_id"], "SIGKILL" in failure["error"]) == ("large", True)


def test_a_source_that_lost_two_workers_keeps_its_part(home: Home, bad: BadServer) -> None:
    kill_twice(home, bad)
    assert home.part_bytes("large") >= FIRST_BYTES


def test_new_workers_replace_killed_ones(home: Home, bad: BadServer) -> None:
    """Both workers stall, so the small sources have not started."""
    two = [bad.script(f"/{name}", stalling(), whole()) for name in ("large", "second")]
    small = [bad.script(f"/{name}", answers.whole(body)) for name, body in SMALL.items()]
    home.configure(*map(entry, [*two, *small]), jobs=2, connections=2)
    process = home.start()
    wait_until(lambda: home.part_bytes("large", "second") == 2 * FIRST_BYTES)
    for worker in children_of(process.pid):
        os.kill(worker, signal.SIGKILL)
    assert counts(finish(process)) == {"new": 6, "alias": 1}


# -- the parent is killed ----------------------------------------------------------------------------------------------


def kill_parent(process: subprocess.Popen[str]) -> list[int]:
    """Kill the parent; return its workers."""
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    return workers


def killed_while_stalled(home: Home, bad: BadServer, *then: Step) -> None:
    one_stalls(home, bad, *then)
    process = home.start()
    until_stalled(home)
    workers = kill_parent(process)
    wait_until(lambda: not any(map(is_alive, workers)))


def test_workers_do_not_outlive_a_killed_parent_though_the_server_says_nothing(home: Home, bad: BadServer) -> None:
    killed_while_stalled(home, bad)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_do_not_outlive_a_killed_parent_however_they_were_started(
    home: Home, bad: BadServer, method: str
) -> None:
    one_stalls(home, bad)
    process = home.start_python("-c", WITH_METHOD, method)
    until_stalled(home)
    kill_parent(process)
    wait_until(lambda: members(process) == [])


def test_workers_do_not_outlive_a_killed_parent_in_a_pause(home: Home, bad: BadServer) -> None:
    home.configure(entry(bad.script("/later", answers.status(503, retry_after=500))), jobs=2)
    process = home.start()
    bad.wait_until(lambda s: len(s.requests) == 1)
    workers = kill_parent(process)
    wait_until(lambda: not any(map(is_alive, workers)))


def test_the_next_run_resumes_what_a_killed_one_left(home: Home, bad: BadServer) -> None:
    killed_while_stalled(home, bad, whole())
    result = home.run()
    assert (result.code, result.json["claimed"]) == (0, 0)
    assert bad.asked("/large")[-1].headers["range"] == f"bytes={FIRST_BYTES}-"
    home.check({"large": BODY} | SMALL)


# -- asked to stop -----------------------------------------------------------------------------------------------------


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """Send SIGINT to the whole group, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


def terminate(process: subprocess.Popen[str]) -> None:
    process.terminate()


@pytest.fixture(
    params=[(ctrl_c, 1), (ctrl_c, 2), (terminate, 1), (terminate, 2)], ids=lambda p: f"{p[0].__name__}-{p[1]}"
)
def stopped(request: pytest.FixtureRequest, home: Home, bad: BadServer) -> Result:
    """A run that was asked to stop in the middle of a body, and whose workers have ended."""
    stop, jobs = request.param
    one_stalls(home, bad, whole(), jobs=jobs, connections=8)
    process = home.start()
    until_stalled(home)
    workers = children_of(process.pid)
    stop(process)
    result = finish(process)
    assert not any(map(is_alive, workers))
    return result


def test_a_stopped_run_ends_with_130(stopped: Result) -> None:
    assert stopped.code == 130


def test_a_stopped_run_reports_that_it_was_stopped(stopped: Result) -> None:
    assert one_line(stopped.err)
    assert "interrupted" in stopped.err


@pytest.mark.usefixtures("stopped")
def test_a_stopped_run_keeps_the_part(home: Home) -> None:
    assert home.part_bytes("large") == FIRST_BYTES


@pytest.mark.usefixtures("stopped")
def test_the_next_run_continues_with_the_part_of_a_stopped_one(home: Home, bad: BadServer) -> None:
    assert home.run().code == 0
    assert bad.asked("/large")[-1].headers["range"] == f"bytes={FIRST_BYTES}-"
    home.check({"large": BODY} | SMALL)


def test_ctrl_c_in_a_pause_ends_it(home: Home, bad: BadServer) -> None:
    home.configure(entry(bad.script("/later", answers.status(503, retry_after=500))))
    process = home.start()
    bad.wait_until(lambda s: len(s.requests) == 1)
    ctrl_c(process)
    assert finish(process).code == 130


def test_ctrl_c_while_the_server_does_not_answer_ends_it(home: Home, bad: BadServer) -> None:
    home.configure(entry(bad.script("/mute", answers.never_answers())))
    process = home.start()
    bad.wait_until(lambda s: len(s.requests) == 1)
    ctrl_c(process)
    assert finish(process).code == 130


def test_ctrl_c_in_the_moment_of_starting_ends_it(home: Home, bad: BadServer) -> None:
    """A worker that was just forked has no handler of its own yet."""
    urls = [bad.script(f"/{number}", stalling()) for number in range(8)]
    home.configure(*map(entry, urls), jobs=8)
    codes = []
    for started in (1, 2, 5, 8):
        process = home.start()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(children.read_text(encoding="ascii").split()) < started:
            assert process.poll() is None
        ctrl_c(process)
        codes.append(finish(process).code)
    assert codes == [130] * 4


def pending(pid: int) -> int:
    """Return the pending signals of a process as a mask."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    return int(lines["SigPnd"], 16) | int(lines["ShdPnd"], 16)


def test_a_second_ctrl_c_kills_workers_that_do_not_end(home: Home, bad: BadServer) -> None:
    """A suspended worker does not receive the first one."""
    one_stalls(home, bad)
    process = home.start()
    until_stalled(home)
    worker = only_worker(process)
    os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: pending(worker) & 1 << signal.SIGTERM - 1)
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    assert not is_alive(worker)


# -- a run that hangs --------------------------------------------------------------------------------------------------


def test_a_run_skips_a_source_that_another_run_holds(home: Home, bad: BadServer) -> None:
    """Even if the other run hangs."""
    one_stalls(home, bad)
    stuck = home.start()
    until_stalled(home)
    only_worker(stuck)
    result = home.run()
    assert (result.code, counts(result)) == (0, {"claimed": 1, "unchanged": 5})
    assert len(bad.asked("/large")) == 1
    ctrl_c(stuck)
    finish(stuck)
