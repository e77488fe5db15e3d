"""Pipelines: items in a loop of one's own."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from manifestlog import EventKind, ManifestNotFoundError, ProcessedManifestManager
from manifestlog.stages import Pipeline, Result, StageError, Where, nothing, valid
from support.children import Child

from .home import FAST, PARSED, Home
from .test_workers import all_recorded, killed_after_publishing

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog.stages import LoopStage


def opened(home: Home, pipeline: Pipeline, **settings: object) -> LoopStage:
    return pipeline.stage("parse", of="download", output_dir=home.data, **settings)


@pytest.fixture
def pipeline(home: Home) -> Pipeline:
    home.download(("a", "one"), ("b", "two"), ("c", "three"))
    return Pipeline(home.manifests, options=FAST)


def test_every_pending_item_comes_once_and_what_is_written_is_recorded(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        for item in opened(home, p).claim():
            with item.output(f"{item.source_id}.txt") as out:
                out.write(item.path.read_text().upper())
    assert home.outputs() == {"a.txt": "ONE", "b.txt": "TWO", "c.txt": "THREE"}
    with Pipeline(home.manifests, options=FAST) as p:
        assert list(opened(home, p).claim()) == []


def test_what_a_loop_writes_to_the_path_of_an_item_is_recorded(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        for item in opened(home, p, output="{source_id}.txt").claim():
            item.output_path.write_text(item.path.read_text().upper())
    assert home.outputs() == {"a.txt": "ONE", "b.txt": "TWO", "c.txt": "THREE"}


def test_an_item_is_recorded_when_the_loop_asks_for_the_next(home: Home, pipeline: Pipeline) -> None:
    recorded: list[int] = []
    with pipeline as p:
        stage = opened(home, p)
        for item in stage.claim():
            recorded.append(len(stage.manifest))
            with item.output(f"{item.source_id}.txt", mode="wb") as out:
                out.write(b"x" + item.source_id.encode())
    assert recorded == [0, 1, 2]


def test_an_error_in_an_output_is_the_failure_of_its_item_and_the_loop_goes_on(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        stage = opened(home, p)
        for item in stage.claim():
            with item.output(f"{item.source_id}.txt") as out:
                out.write(item.source_id)
                if item.source_id == "b":
                    raise ValueError("no header")
    assert stage.report.counts == {Result.MADE: 2, Result.FAILED: 1}
    assert sorted(home.outputs()) == ["a.txt", "c.txt"]
    (event,) = home.events(kinds=[EventKind.FAILED])
    assert (event.source_id, event.error, event.version) == ("b", "ValueError: no header", "1.0.0")
    assert home.leftovers() == []


def test_an_error_in_a_block_of_the_item_is_its_failure_too(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        stage = opened(home, p)
        for item in stage.claim():
            with item:
                item.path.read_text().index("e")
                item.done(nothing())
    assert stage.report.counts == {Result.NOTHING: 2, Result.FAILED: 1}


def write_outside(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        for item in opened(home, p).claim():
            with item.output("../x"):
                pass


def test_an_output_whose_name_is_not_used_ends_the_loop_and_says_why(home: Home, pipeline: Pipeline) -> None:
    """The block cannot begin, and Python knows no way to leave it out."""
    with pytest.raises(ValueError, match=r"^the output '\.\./x' is not used"):
        write_outside(home, pipeline)
    (event,) = home.events(kinds=[EventKind.FAILED])
    assert str(event.error).startswith("the output '../x' is not used")


def test_an_empty_output_of_a_loop_is_told_with_what_a_loop_can_do(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        for item in opened(home, p, where=Where(source="a")).claim():
            with item.output("x.txt"):
                pass
    (event,) = home.events(kinds=[EventKind.FAILED])
    assert event.error == "the output x.txt is empty: call done(nothing()) of the item if there is nothing to write"


def leave_with(home: Home, pipeline: Pipeline, error: BaseException) -> None:
    """Raise an error after the first output."""
    with pipeline as p:
        for item in opened(home, p).claim():
            with item.output(f"{item.source_id}.txt") as out:
                out.write("x")
            raise error


def test_an_error_in_the_loop_is_the_failure_of_its_item_and_ends_the_loop(home: Home, pipeline: Pipeline) -> None:
    with pytest.raises(KeyError):
        leave_with(home, pipeline, KeyError("unknown"))
    (event,) = home.events(kinds=[EventKind.FAILED])
    assert event.error == "KeyError: 'unknown'"
    assert not list(home.data.glob("*.txt"))
    (end,) = home.events(kinds=[EventKind.ENDED])
    assert end.details["outcome"] == "failed"


def test_a_loop_that_is_left_keeps_what_it_has_done(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        stage = opened(home, p)
        for item in stage.claim():
            with item.output(f"{item.source_id}.txt") as out:
                out.write("x")
            break
    assert stage.report.counts == {Result.MADE: 1}
    assert len(home.outputs()) == 1


def test_an_item_of_which_nothing_is_said_stays_pending(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        for _ in opened(home, p).claim():
            pass
        assert len(list(opened_again(home, p).claim())) == 3


def opened_again(home: Home, pipeline: Pipeline) -> LoopStage:
    return pipeline.stage("parse", of="download", output_dir=home.data)


def test_ctrl_c_leaves_the_item_pending(home: Home, pipeline: Pipeline) -> None:
    with pytest.raises(KeyboardInterrupt):
        leave_with(home, pipeline, KeyboardInterrupt())
    assert (home.outputs(), home.leftovers()) == ({}, [])
    assert home.run(lambda _: None).done == 3


def test_what_else_an_item_came_to_is_said_with_done(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        stage = opened(home, p)
        for item in stage.claim():
            item.done(valid() if item.source_id == "a" else nothing("boring"))
    assert stage.report.counts == {Result.VALID: 1, Result.NOTHING: 2}


def test_two_loops_share_the_work(home: Home, pipeline: Pipeline) -> None:
    """The second one receives nothing while the first has the only item, and nothing after it is done."""
    with pipeline as p:
        stage = opened(home, p, where=Where(source="a"))
        items = stage.claim()
        item = next(items)
        other = Child(lambda link: link.send(taken(home)))
        assert other.receive() == []
        other.join()
        item.done(nothing())
        assert next(items, None) is None
    assert "a" not in taken(home)


def test_what_another_run_does_meanwhile_is_not_done_again(home: Home) -> None:
    finished_meanwhile(home.root)


def finished_meanwhile(path: Path) -> None:
    """The loop has looked at what is pending; then another run does all that the loop does not hold."""
    home = Home.at(path)
    home.download(("a", "one"), ("b", "two"), ("c", "three"))
    with Pipeline(home.manifests, options=FAST) as p:
        items = opened(home, p).claim()
        first = next(items)
        other = Child(lambda link: link.send(home.run(lambda item: item.source_id.encode()).done))
        assert other.receive() == 2
        other.join()
        first.done(nothing())
        assert next(items, None) is None


def test_what_a_killed_run_has_published_meanwhile_is_recorded_and_not_done_again(home: Home) -> None:
    published_meanwhile(home.root)


def published_meanwhile(path: Path) -> None:
    """The loop has tidied up and looked at what is pending; then another run dies between a name and its record."""
    home = Home.at(path)
    home.download(("a", "one"), ("b", "two"))
    with Pipeline(home.manifests, options=FAST) as p:
        items = opened(home, p).claim()
        first = next(items)
        killed_after_publishing(home)
        first.done(nothing())
        for item in items:
            with item.output("anew.txt") as out:
                out.write("anew")
    assert all_recorded(home)


def taken(home: Home) -> list[str]:
    with Pipeline(home.manifests, options=FAST) as p:
        stage = p.stage("parse", of="x_download", output_dir=home.data, where=Where(source="a"))
        return [item.source_id for item in stage.claim()]


def test_the_claim_and_the_work_of_a_killed_loop_are_free_at_once(home: Home, pipeline: Pipeline) -> None:
    def hold(link: object) -> None:
        with pipeline as p:
            for item in opened(home, p).claim():
                with item.output("x.txt") as out:
                    out.write("half")
                    out.flush()
                    link.send("have it")  # type: ignore[attr-defined]
                    signal.pause()

    child = Child(hold)
    assert child.receive() == "have it"
    child.kill(signal.SIGKILL)
    child.join()
    assert home.leftovers() != []
    assert home.run(lambda _: b"whole", output="x.txt").done == 3
    assert home.outputs() == {"x.txt": "whole"}
    assert home.leftovers() == []


def test_stages_of_one_pipeline_follow_each_other(home: Home, pipeline: Pipeline) -> None:
    with pipeline as p:
        first = opened(home, p)
        for item in first.claim():
            with item.output(f"{item.source_id}.1") as out:
                out.write(item.source_id)
        second = p.stage("load", of="parse", output_dir=home.data, process="loader")
        for item in second.claim():
            with item.output(f"{item.source_id}.2") as out:
                out.write(item.path.read_text() * 2)
    assert home.outputs("x_load") == {"a.2": "aa", "b.2": "bb", "c.2": "cc"}


@pytest.mark.parametrize("of", ["nowhere", "parse"])
def test_an_upstream_manifest_that_is_not_there_is_named(home: Home, of: str) -> None:
    home.download(("a", "one"))
    with (
        pytest.raises(StageError, match=f"no manifest in .* named \\*_{of}.manifest.json"),
        Pipeline(home.manifests) as p,
    ):
        p.stage("load", of=of)


def test_a_whole_name_that_is_not_there_is_a_missing_manifest(home: Home) -> None:
    with pytest.raises(ManifestNotFoundError), Pipeline(home.manifests) as p:
        p.stage("load", of="x_nowhere")


def test_a_short_name_that_fits_several_manifests_is_refused(home: Home) -> None:
    home.download(("a", "one"))
    for name in ("y_download",):
        os.link(home.path("x_download"), home.path(name))
    with pytest.raises(StageError, match="2 manifests"), Pipeline(home.manifests) as p:
        p.stage("load", of="download")
    home.path("y_download").unlink()


def test_versions_of_a_loop_are_versions_of_its_stage(home: Home, pipeline: Pipeline) -> None:
    for version in ("1", "2"):
        with Pipeline(home.manifests, options=FAST) as p:
            for item in opened(home, p, version=version).claim():
                with item.output(f"v{version}/{item.source_id}.txt") as out:
                    out.write(version + item.source_id)
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        assert sorted(one.version for one in made.records.values()) == ["1"] * 3 + ["2"] * 3
