"""What a promotion took back although it was acknowledged: whatever a stage has kept of it, it is pending again."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import META, record
from manifestlog import DownloadManifestManager, ManifestOptions, ManifestRecord, ProcessedManifestManager
from manifestlog.stages import FunctionWork, Pipeline, Result, Stage, pending_items, run_stage
from manifestlog.stages.report import Begun, Finished
from support.postgres import DURABLE, serving

from .taking_back import moment
from .test_promotion import standby
from .test_standby import both, wait_until_it_has_everything

if TYPE_CHECKING:
    from collections.abc import Callable

    from .places import Place

UPSTREAM, OUTPUTS = "x_download", "x_parse"
PATIENT = ManifestOptions(lock_timeout_s=120.0)
T0 = datetime(2024, 1, 1, tzinfo=UTC)


def copied(item: Any) -> bytes:
    text: bytes = item.path.read_bytes()
    return text + b" copied"


@dataclass
class Work:
    """A manifest of downloads in a database, and a stage over it."""

    url: str
    """Of the directory of both."""
    folder: Path
    downloaded: int = 0

    @property
    def stage(self) -> Stage:
        return Stage(UPSTREAM, OUTPUTS, FunctionWork(copied), output_dir=self.folder / "out", output="{source_id}.txt")

    def manifest(self, name: str) -> str:
        path, _, query = self.url.partition("?")
        return f"{path}{name}?{query}"

    def download(self, *sources: str) -> None:
        """Record a file of each of these sources, later than all before it."""
        records = []
        for source in sources:
            path = self.folder / f"{source}.txt"
            path.write_text(source, encoding="utf-8")
            self.downloaded += 1
            records.append(
                ManifestRecord(
                    source_id=source,
                    dataset="set",
                    checksum=hashlib.sha256(source.encode()).hexdigest(),
                    file_path=path,
                    file_size=len(source),
                    ts_downloaded=T0 + timedelta(minutes=self.downloaded),
                    version="1",
                )
            )
        with DownloadManifestManager(self.manifest(UPSTREAM), META, options=PATIENT) as manifest:
            manifest.add_many(records)

    def run(self, *sources: str, on_event: Callable[[Any], None] | None = None) -> dict[Result, int]:
        """Download these and process them; return what became of the items."""
        self.download(*sources)
        return dict(run_stage(self.stage, self.url, on_event=on_event, options=PATIENT).counts)

    @property
    def pending(self) -> list[str]:
        """The sources of what a run would do."""
        return sorted(one.source_id for one in pending_items(self.stage, self.url))


def begun(place: Place, folder: Path) -> Work:
    """A stage that has done the file of one source."""
    found = Work(place.url(""), folder)
    found.run("a")
    return found


@pytest.fixture
def work(place: Place, tmp_path: Path) -> Work:
    return begun(place, tmp_path)


# -- after a run ---------------------------------------------------------------------------------------------------------


def test_an_output_that_was_taken_back_is_pending_again(place: Place, work: Work) -> None:
    with moment(place, OUTPUTS) as take_back:
        work.run("b")
        take_back()
    assert work.pending == ["b"]


def test_an_output_that_was_taken_back_is_made_again(place: Place, work: Work) -> None:
    with moment(place, OUTPUTS) as take_back:
        work.run("b")
        take_back()
    assert work.run() == {Result.MADE: 1}


def test_an_output_that_was_taken_back_is_pending_also_when_as_many_events_are_there_again(
    place: Place, work: Work
) -> None:
    with moment(place, OUTPUTS) as take_back:
        work.run("b")
        with ProcessedManifestManager(work.manifest(OUTPUTS)) as outputs:
            before = outputs.cursor
        take_back()
    with ProcessedManifestManager(work.manifest(OUTPUTS)) as outputs:
        while number_of(outputs.cursor) < number_of(before):
            outputs.fail(record(), "no reason")
    assert work.pending == ["b"]


def test_a_record_that_was_taken_back_is_not_pending(place: Place, work: Work) -> None:
    with moment(place, UPSTREAM, OUTPUTS) as take_back:
        work.run("b")
        take_back()
    assert work.pending == []


def test_a_record_that_was_taken_back_is_pending_when_it_comes_again(place: Place, work: Work) -> None:
    with moment(place, UPSTREAM, OUTPUTS) as take_back:
        work.run("b")
        take_back()
    work.download("b")
    assert work.pending == ["b"]


def test_a_record_that_comes_in_place_of_one_that_was_taken_back_is_pending(place: Place, work: Work) -> None:
    """It has the number in the history that the kept look ends with."""
    with moment(place, UPSTREAM) as take_back:
        work.run("b")
        take_back()
    work.download("c")
    assert work.pending == ["c"]


def number_of(cursor: str) -> int:
    return int(cursor.split(".")[1])


# -- in the middle of a run ----------------------------------------------------------------------------------------------


def an_output_that_is_taken_back_before_its_run_ends_is_pending(place: Place) -> None:
    with TemporaryDirectory() as folder, ExitStack() as moments:
        work = begun(place, Path(folder))
        take_back = moments.enter_context(moment(place, OUTPUTS))
        done = work.run("b", on_event=lambda event: take_back() if isinstance(event, Finished) else None)
        assert (done, work.pending) == ({Result.MADE: 1}, ["b"])


def test_an_output_that_is_taken_back_before_its_run_ends_is_pending_for_the_next_one(place: Place) -> None:
    an_output_that_is_taken_back_before_its_run_ends_is_pending(place)


def test_a_run_goes_on_if_the_events_are_gone_that_it_began_after(place: Place, work: Work) -> None:
    with moment(place, OUTPUTS) as take_back:
        work.run("b")
        done = work.run("c", on_event=lambda event: take_back() if isinstance(event, Begun) else None)
    assert (done, work.pending) == ({Result.MADE: 1}, ["b"])


def test_what_a_loop_has_made_and_lost_before_it_ends_is_pending_for_the_next_one(place: Place, work: Work) -> None:
    work.download("b", "c")
    seen: list[str] = []
    with moment(place, OUTPUTS) as take_back, Pipeline(work.url, options=PATIENT) as pipeline:
        for item in pipeline.stage(OUTPUTS, of=UPSTREAM, output_dir=work.stage.output_dir).claim():
            if seen:  # and recorded
                take_back()
            seen.append(item.source_id)
            with item.output(f"{item.source_id}.txt") as out:
                out.write(item.source_id)
    assert work.pending == seen[:1]


def test_a_manager_that_knew_what_was_pending_sees_what_was_taken_back(place: Place, work: Work) -> None:
    with (
        DownloadManifestManager(work.manifest(UPSTREAM), META, options=PATIENT) as upstream,
        ProcessedManifestManager(work.manifest(OUTPUTS), options=PATIENT) as outputs,
        moment(place, OUTPUTS) as take_back,
    ):
        work.run("b")
        before = [one.source_id for one in outputs.pending(upstream)]
        take_back()
        assert (before, [one.source_id for one in outputs.pending(upstream)]) == ([], ["b"])


# -- a real promotion ----------------------------------------------------------------------------------------------------


def test_after_a_promotion_a_stage_makes_again_what_the_standby_did_not_have(tmp_path: Path) -> None:
    with serving(DURABLE) as primary, standby(primary) as second:
        second.start()
        work = Work(both(primary, second).replace("systems_download", ""), tmp_path)
        work.run("a")
        wait_until_it_has_everything(primary)
        second.stop()
        assert work.run("b") == {Result.MADE: 1}
        primary.kill()
        second.start()
        second.execute("SELECT pg_promote()")
        work.download("b", "c")
        assert work.run() == {Result.MADE: 2}
