"""A failure whose inputs are not to be processed any more is over; one whose inputs are pending is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager, ProcessedManifestManager, maintenance
from manifestlog.stages import FunctionWork, Pipeline, Result, Stage, Where, invalid, loaded, run_stage, valid
from manifestlog.stages.claiming import is_done
from manifestlog.stages.items import Item, ItemTask, Naming
from manifestlog.stages.rule import Rule
from manifestlog.stages.workspace import Workspace

from .home import DOWNLOADS, FAST, PARSED, Home, coded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def fail(_: Any) -> None:
    raise ValueError("no header")


def failing(home: Home, manifest: str = PARSED) -> list[tuple[str, ...]]:
    """Return the inputs of each failure that is shown."""
    with ProcessedManifestManager(home.path(manifest), read_only=True) as found:
        return [one.inputs for one in found.failures()]


def forget(home: Home, checksum: str) -> None:
    with DownloadManifestManager(home.path(DOWNLOADS), options=FAST) as manifest:
        manifest.forget(checksum)


def remove_look(home: Home) -> None:
    """Let the next run look anew."""
    for path in home.manifests.glob("*.pending.json"):
        path.unlink()


def stay(_: Home) -> None:
    """Keep the look."""


looks = pytest.mark.parametrize("look", [stay, remove_look])


@looks
def test_a_forgotten_input_fails_no_longer(home: Home, look: Callable[[Home], None]) -> None:
    (checksum,) = home.download(("a", "one"))
    home.run(fail)
    forget(home, checksum)
    look(home)
    home.run(fail)
    assert failing(home) == []


def test_a_forgotten_input_fails_no_longer_for_status(home: Home) -> None:
    (checksum,) = home.download(("a", "one"))
    home.run(fail)
    forget(home, checksum)
    home.run(fail)
    assert maintenance.status(home.path(PARSED)).failing == 0


@looks
def test_an_input_that_is_pending_still_fails(home: Home, look: Callable[[Home], None]) -> None:
    still_pending(home.root, look)


def still_pending(path: Path, look: Callable[[Home], None] = stay) -> None:
    home = Home.at(path)
    checksum, other = home.download(("a", "one"), ("b", "two"))
    home.run(fail)
    forget(home, other)
    look(home)
    home.run(fail)
    assert failing(home) == [(checksum,)]


def test_a_run_that_leaves_a_failed_input_out_does_not_end_its_failure(home: Home) -> None:
    (checksum,) = home.download(("a", "one"))
    home.run(fail)
    home.download(("b", "two"), minute=5)
    home.run_stage(home.stage(lambda _: b"made"), only="b")
    assert failing(home) == [(checksum,)]


def test_a_failure_that_is_over_is_recorded_once(home: Home) -> None:
    (checksum,) = home.download(("a", "one"))
    home.run(fail)
    forget(home, checksum)
    home.run(fail)
    events = home.events()
    home.run(fail)
    assert home.events() == events


@looks
def test_an_input_that_is_judged_invalid_later_fails_no_longer(home: Home, look: Callable[[Home], None]) -> None:
    home.download(("a", "one"))
    home.run(lambda _: valid())
    run_stage(Stage(PARSED, "x_next", FunctionWork(fail)), home.manifests, options=FAST)
    home.run(lambda _: invalid("no"), version="2")
    look(home)
    run_stage(Stage(PARSED, "x_next", FunctionWork(fail)), home.manifests, options=FAST)
    assert failing(home, "x_next") == []


def test_an_input_that_another_version_has_made_anew_fails_no_longer(home: Home) -> None:
    home.download(("a", "one"))
    home.run(lambda _: b"first", output="{stem}-{version}")
    run_stage(Stage(PARSED, "x_next", FunctionWork(fail)), home.manifests, options=FAST)
    home.run(lambda _: b"second", output="{stem}-{version}", version="2")
    run_stage(Stage(PARSED, "x_next", FunctionWork(lambda _: None)), home.manifests, options=FAST)
    assert failing(home, "x_next") == []


def test_an_input_that_a_new_condition_leaves_out_fails_no_longer(home: Home) -> None:
    home.download(("a", "one"))
    home.run(fail)
    home.run(fail, where=Where(source="b"))
    assert failing(home) == []


def test_a_group_whose_member_was_replaced_fails_no_longer_when_it_is_done(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    home.run(fail, group_by="dataset")
    home.download(("a", "new"), minute=5)
    home.run(lambda _: b"made", group_by="dataset")
    assert failing(home) == []


def test_a_group_that_was_loaded_fails_no_longer(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    home.run(fail, group_by="dataset")
    home.run(lambda _: loaded(2), group_by="dataset")
    assert failing(home) == []


def test_a_loop_ends_failures_too(home: Home) -> None:
    (checksum,) = home.download(("a", "one"))
    home.run(fail)
    forget(home, checksum)
    with Pipeline(home.manifests, options=FAST) as pipeline:
        assert list(pipeline.stage(PARSED, of=DOWNLOADS, output_dir=home.data).claim()) == []
    assert failing(home) == []


def test_what_is_over_is_shown_if_asked(home: Home) -> None:
    (checksum,) = home.download(("a", "one"))
    home.run(fail)
    forget(home, checksum)
    home.run(fail)
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as found:
        (failure,) = found.failures(recovered=True)
    assert (failure.inputs, failure.succeeded is None) == ((checksum,), False)


# -- what counts as done, and as an attempt ----------------------------------------------------------------------------


def test_a_group_that_was_loaded_is_done(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    home.run(lambda _: loaded(2), group_by="dataset")
    with (
        DownloadManifestManager(home.path(DOWNLOADS), read_only=True) as upstream,
        ProcessedManifestManager(home.path(PARSED), read_only=True) as made,
    ):
        rows = tuple(raw for _, raw in upstream.snapshot().records())
        stage = home.stage(None, group_by="dataset")
        item = Item(ItemTask("set", rows), Naming("/", "parse", is_grouped=True), Workspace(stage, PARSED))
        assert [is_done(made, Rule("parse", version), item) for version in ("1.0.0", "2")] == [True, False]


def test_changed_code_does_not_give_up(home: Home) -> None:
    home.download(("a", "one"))
    settings: dict[str, Any] = {"rerun": "code", "give_up_after": 1}
    found = [home.run(coded(home, text), **settings).counts for text in ("1 / 0", "1 / 0", "b'1'")]
    assert found == [{Result.FAILED: 1}, {Result.GIVEN_UP: 1}, {Result.MADE: 1}]
