"""Two hosts that share a database: one is stopped in the middle of its work, the other takes the work over, the first goes on.

Each host is a process with a working directory of its own, or with one that both have, as on a mounted file system.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import signal
import threading
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cli.program import wait_until
from contract.builders import META
from manifestlog import DownloadManifestManager, EventKind, ManifestRecord, ProcessedManifestManager
from manifestlog.engines.postgres.writing import NOW
from manifestlog.extract import ETLSource, PipelineOrchestrator, claims, landing as download_landing, shared_part
from manifestlog.extract.claims import Claims
from manifestlog.stages import FunctionWork, Item, Stage, claiming, landing, leftovers, register, run_stage
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.badserver import Exchange
    from support.children import Child, Link, Start

    from .places import Place

LOST = "the claim was lost"


class Hosts(NamedTuple):
    """Where both hosts are."""

    place: Place
    start: Start
    first: Path
    second: Path
    """The working directory of each; perhaps the same."""

    def stop(self, host: Child) -> None:
        """Stop a host for so long that its claims may be taken over."""
        host.kill(signal.SIGSTOP)
        self.place.execute(f"UPDATE manifestlog.claim SET expires = {NOW} - 1")

    def go_on(self, host: Child) -> None:
        host.send("go on")
        host.kill(signal.SIGCONT)


APART, TOGETHER = "directories of their own", "one directory"


def hosts_of(place: Place, start: Start, path: Path, how: str) -> Hosts:
    names = ("a", "b") if how == APART else ("shared", "shared")
    first, second = (path / name for name in names)
    for one in (first, second):
        one.mkdir(exist_ok=True)
    return Hosts(place, start, first, second)


class Warnings(logging.Handler):
    """Keeps what a host warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, entry: logging.LogRecord) -> None:
        self.lines.append(entry.getMessage())


def warnings() -> list[str]:
    handler = Warnings()
    logging.getLogger("manifestlog").addHandler(handler)
    return handler.lines


def _waiting(link: Link, moment: str | None) -> Callable[[str], None]:
    """Return what a child calls at each moment: at the one that is asked for, it waits, the first time."""
    left = [moment]

    def wait_here(now: str) -> None:
        if now in left:
            left.remove(now)
            link.send("here")
            link.recv()

    return wait_here


# -- stages ------------------------------------------------------------------------------------------------------------


def process(link: Link, url: str, home: Path, text: str, moment: str | None) -> tuple[dict[str, int], list[str]]:
    """Child process: run a stage, and wait at a moment of its only item. Return the counts, and the warnings."""
    lines = warnings()
    wait_here = _waiting(link, moment)

    def work(item: Item) -> Path:
        with item.output_path.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            wait_here("in its work")
            file.write(".")
        return item.output_path

    still_held, publish, record = landing._still_held, landing._publish, register.record

    def intend_later(*given: Any) -> Any:
        found = still_held(*given)
        wait_here("before it says what it is about to do")
        return found

    def publish_later(*given: Any) -> Any:
        wait_here("before its output has a name")
        return publish(*given)

    def record_later(*given: Any) -> None:
        wait_here("before its record")
        record(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "_still_held", intend_later)
        patch.setattr(landing, "_publish", publish_later)
        patch.setattr(landing, "record", record_later)
        stage = Stage("x_download", "x_parse", FunctionWork(work), output_dir=home / "out")
        report = run_stage(stage, url)
    return {str(result): count for result, count in report.counts.items() if count}, lines


MOMENTS = (
    "in its work",
    "before it says what it is about to do",
    "before its output has a name",
    "before its record",
)


def what_a_stopped_host_has_made_is_not_recorded(hosts: Hosts, moment: str) -> None:
    with DownloadManifestManager(hosts.place.url("x_download"), META) as downloads:
        downloads.add(downloaded(hosts.first.parent / "input"))
    url = hosts.place.url("")
    stopped = hosts.start(process, url, hosts.first, "from the first host", moment)
    assert stopped.receive() == "here"
    hosts.stop(stopped)
    counts, _ = hosts.start(process, url, hosts.second, "from the second host", None).result()
    hosts.go_on(stopped)
    heard, lines = stopped.result()
    found = recorded(hosts.place.url("x_parse"))
    assert (heard, [LOST in line for line in lines]) == ({"claimed": 1}, [True])
    if hosts.first == hosts.second and moment in MOMENTS[2:]:
        # The second host has found the output of the first one complete, and has recorded that.
        assert (counts, found) == ({}, ["from the first host."])
    else:
        assert (counts, found) == ({"made": 1}, ["from the second host."])
    if moment == "in its work":
        named = {path for home in (hosts.first, hosts.second) for path in (home / "out").glob("set/*")}
        assert len(named) == 1


def what_a_stopped_host_goes_on_to_write_is_apart(hosts: Hosts) -> None:
    """Also if nobody tidies up before: a run may have begun earlier."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leftovers, "tidy", lambda *_: 0)
        what_a_stopped_host_has_made_is_not_recorded(hosts, "in its work")


def downloaded(path: Path) -> ManifestRecord:
    path.write_text("input", encoding="ascii")
    return ManifestRecord(
        source_id="a",
        dataset="set",
        checksum=hashlib.sha256(b"input").hexdigest(),
        file_path=path,
        file_size=5,
        ts_downloaded=datetime.now(UTC),
        version="1",
    )


def recorded(url: str) -> list[str]:
    """The text of every recorded output, each of which must be what its record says; one derivation each."""
    with ProcessedManifestManager(url, read_only=True) as manifest:
        found = list(manifest.records.values())
        derivations = [event for event in manifest.history() if event.kind in (EventKind.PUT, EventKind.DERIVED)]
        texts = [manifest.locate(one).read_bytes() for one in found]
    assert [hashlib.sha256(text).hexdigest() for text in texts] == [one.checksum for one in found]
    assert len(derivations) == len(found)
    return [text.decode() for text in texts]


# -- downloads ---------------------------------------------------------------------------------------------------------

SIZE = 3 << 20
HALF = SIZE // 2
FIRST, SECOND = b"1" * SIZE, b"1" * HALF + b"2" * HALF


def fetch(
    link: Link, url: str, data_dir: Path, address: str, moment: str | None, source_id: str = "a"
) -> tuple[dict[str, int], list[str]]:
    """Child process: fetch one source, and wait at a moment. Return the counts, and the warnings of the outcomes."""
    link_part, add_records = shared_part._link, download_landing._add_records
    wait_here = _waiting(link, moment)

    def link_later(*given: Any) -> None:
        wait_here("before its file has a name")
        link_part(*given)

    def add_later(*given: Any) -> None:
        wait_here("before its record")
        add_records(*given)

    with pytest.MonkeyPatch.context() as patch, DownloadManifestManager(url, META) as manifest:
        patch.setattr(shared_part, "_link", link_later)
        patch.setattr(download_landing, "_add_records", add_later)
        orchestrator = PipelineOrchestrator(manifest, data_dir=data_dir)
        report = orchestrator.run([ETLSource(source_id=source_id, dataset="set", url=address)])
    warned = [one.warning for one in report.outcomes if one.warning is not None]
    return {str(result): count for result, count in report.counts.items() if count}, warned


def half_then(event: threading.Event) -> Callable[[Exchange], None]:
    """The first half of a body, and the rest when the test says so."""

    def step(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(SIZE), "ETag": '"v"', "Accept-Ranges": "bytes"})
        exchange.body(FIRST[:HALF])
        exchange.wait_for(event)
        exchange.body(FIRST[HALF:])

    return step


def what_a_stopped_host_has_fetched_is_not_registered(hosts: Hosts, moment: str) -> None:
    url, go_on = hosts.place.url("x_download"), threading.Event()
    DownloadManifestManager(url, META).close()
    with misbehaving() as server:
        first = half_then(go_on) if moment == "in the body" else answers.whole(FIRST, '"v"')
        address = server.script("/a.bin", first, answers.whole(SECOND, '"v"'))
        stopped = hosts.start(fetch, url, hosts.first, address, moment)
        if moment == "in the body":
            wait_until(lambda: any(path.stat().st_size >= HALF for path in hosts.first.rglob("*.part")))
        else:
            assert stopped.receive() == "here"
        hosts.stop(stopped)
        counts, _ = hosts.start(fetch, url, hosts.second, address, None).result()
        go_on.set()
        hosts.go_on(stopped)
        heard, lines = stopped.result()
    assert (counts, heard, [LOST in line for line in lines]) == ({"new": 1}, {"claimed": 1}, [True])
    assert_files_are_what_their_records_say(url)


def assert_files_are_what_their_records_say(url: str) -> None:
    with DownloadManifestManager(url, read_only=True) as manifest:
        (one,) = manifest.records.values()
        path = manifest.locate(one)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == one.checksum


def what_a_stopped_host_publishes_replaces_nothing(hosts: Hosts) -> None:
    """Two sources may have one name for their files, and the claim on the name is lost as any other one."""
    url = hosts.place.url("x_download")
    DownloadManifestManager(url, META).close()
    with misbehaving() as server:
        first = server.script("/1/a.bin", answers.whole(b"first", '"v"'))
        second = server.script("/2/a.bin", answers.whole(b"second", '"v"'))
        stopped = hosts.start(fetch, url, hosts.first, first, "before its file has a name", "1")
        assert stopped.receive() == "here"
        hosts.stop(stopped)
        counts, _ = hosts.start(fetch, url, hosts.second, second, None, "2").result()
        hosts.go_on(stopped)
        heard, _ = stopped.result()
    assert (counts, heard) == ({"new": 1}, {"claimed": 1})
    assert_files_are_what_their_records_say(url)


# -- the tests ---------------------------------------------------------------------------------------------------------

MADE, FETCHED = what_a_stopped_host_has_made_is_not_recorded, what_a_stopped_host_has_fetched_is_not_registered
FETCHING = ("in the body", "before its file has a name", "before its record")
OFTEN = [
    (MADE, APART, "before its record"),
    (MADE, TOGETHER, "in its work"),
    (FETCHED, APART, "before its record"),
    (FETCHED, TOGETHER, "in the body"),
]
RARELY = [
    (scenario, how, moment)
    for scenario, moments in ((MADE, MOMENTS), (FETCHED, FETCHING))
    for how in (APART, TOGETHER)
    for moment in moments
    if (scenario, how, moment) not in OFTEN
]


@pytest.mark.parametrize(("scenario", "how", "moment"), OFTEN)
def test_a_stopped_host_writes_nothing(
    place: Place, start: Start, tmp_path: Path, scenario: Callable[[Hosts, str], None], how: str, moment: str
) -> None:
    scenario(hosts_of(place, start, tmp_path, how), moment)


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "how", "moment"), RARELY)
def test_a_stopped_host_writes_nothing_at_any_moment(
    place: Place, start: Start, tmp_path: Path, scenario: Callable[[Hosts, str], None], how: str, moment: str
) -> None:
    scenario(hosts_of(place, start, tmp_path, how), moment)


def test_a_stopped_host_writes_to_nothing_of_others(place: Place, start: Start, tmp_path: Path) -> None:
    what_a_stopped_host_goes_on_to_write_is_apart(hosts_of(place, start, tmp_path, TOGETHER))


def test_a_stopped_host_replaces_nothing(place: Place, start: Start, tmp_path: Path) -> None:
    what_a_stopped_host_publishes_replaces_nothing(hosts_of(place, start, tmp_path, TOGETHER))


def _nothing(*_: object) -> None:
    """In the place of a safeguard."""


def _replaced(part: Path, path: Path, *_: object) -> bool:
    part.replace(path)
    return True


BREAKS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Callable[[Hosts], None], str]] = {
    "items are fenced": (
        lambda p: p.setattr(claiming.StageClaims, "fence", lambda _: nullcontext()),
        partial(MADE, moment="before its record"),
        APART,
    ),
    "items are asked for before they get a name": (
        lambda p: p.setattr(claiming.StageClaims, "ensure_held", _nothing),
        partial(MADE, moment="in its work"),
        APART,
    ),
    "each worker writes to names of its own": (
        lambda p: p.setattr(secrets, "token_hex", lambda _: "0" * 16),
        what_a_stopped_host_goes_on_to_write_is_apart,
        TOGETHER,
    ),
    "sources are fenced": (
        lambda p: p.setattr(Claims, "fence", lambda *_: nullcontext()),
        partial(FETCHED, moment="before its record"),
        APART,
    ),
    "sources are claimed by name": (
        lambda p: p.setattr(claims, "may_be_lost", lambda _: False),
        partial(FETCHED, moment="before its record"),
        APART,
    ),
    "a part that may be written to is copied": (
        lambda p: p.setattr(shared_part, "replace_by_copy", _nothing),
        partial(FETCHED, moment="in the body"),
        TOGETHER,
    ),
    "a name is given by a link": (
        lambda p: p.setattr(shared_part, "link", _replaced),
        what_a_stopped_host_publishes_replaces_nothing,
        TOGETHER,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("safeguard", BREAKS)
def test_without_its_safeguard_it_does(
    place: Place, start: Start, tmp_path: Path, safeguard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch_off, scenario, how = BREAKS[safeguard]
    switch_off(monkeypatch)
    with pytest.raises(AssertionError):
        scenario(hosts_of(place, start, tmp_path, how))
