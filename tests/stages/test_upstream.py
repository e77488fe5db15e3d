"""An upstream manifest that is missing, damaged or newer: a clear error, and nothing is lost or begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager, ManifestNotFoundError, NewerFormatError
from manifestlog.model.url_paths import path_of
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.opening import Stores
from manifestlog.stages import CommandWork, Pipeline, Stage, StageError, Where, in_order, pending_items
from manifestlog.stages.by_hand import ByHand
from manifestlog.stages.last_run import pending_count
from manifestlog.stages.unused import readers_of

from .home import DOWNLOADS, FAST, PARSED, T0, Home, record

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_missing_upstream_manifest_creates_nothing(home: Home) -> None:
    with pytest.raises(ManifestNotFoundError, match="x_download"):
        home.run(lambda _: b"x")
    assert list(home.manifests.iterdir()) == []


def _in_a_loop(home: Home) -> int:
    with Pipeline(home.manifests, options=FAST) as pipeline:
        return len(list(pipeline.stage(PARSED, of=DOWNLOADS, output_dir=home.data).claim()))


def _by_hand(home: Home) -> int:
    return len(ByHand(manifest=PARSED, upstream=DOWNLOADS, directory=home.manifests).pending())


def _as_it_last_ran(home: Home) -> int | None:
    home.run(lambda _: b"x")
    return pending_count(home.path(PARSED))


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(lambda home: home.run(lambda _: b"x").done, id="run"),
        pytest.param(lambda home: len(pending_items(home.stage(None), home.manifests)), id="pending"),
        pytest.param(_in_a_loop, id="loop"),
        pytest.param(_by_hand, id="by hand"),
        pytest.param(_as_it_last_ran, id="last run"),
        pytest.param(lambda home: len(readers_of(DOWNLOADS, home.manifests)), id="readers"),
    ],
)
def test_an_upstream_manifest_without_records_may_be_open_here(home: Home, found: Callable[[Home], int | None]) -> None:
    home.download()
    with DownloadManifestManager(home.path(DOWNLOADS), options=FAST):
        assert found(home) == 0


def damaged(home: Home, name: str) -> bytes:
    """Flip a bit in a record; return the file as it was."""
    path = home.path(name)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"dataset":"set"', b'"dataset":"get"', 1))
    return whole


@pytest.mark.parametrize("name", [DOWNLOADS, PARSED])
def test_a_damaged_manifest_ends_the_run_before_anything_is_done(home: Home, name: str) -> None:
    home.download(("a", "one"))
    home.run(lambda item: item.source_id.encode())
    (home.manifests / "x_parse.manifest.pending.json").unlink()
    whole = damaged(home, name)
    began: list[str] = []
    home_files = sorted(path for path in home.data.rglob("*") if path.is_file())
    with pytest.raises(DamagedManifestError):
        home.run(lambda item: began.append(item.source_id), version="2")
    assert began == []
    assert sorted(path for path in home.data.rglob("*") if path.is_file()) == home_files
    home.path(name).write_bytes(whole)
    assert home.run(lambda item: item.source_id.encode()).is_ok


def test_a_newer_upstream_manifest_is_refused_by_its_format(home: Home) -> None:
    home.download(("a", "one"))
    (segment,) = home.manifests.glob("x_download.manifest.wal-*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b'"format":2', b'"format":9', 1))
    with pytest.raises(NewerFormatError):
        home.run(lambda _: b"x")
    segment.write_bytes(whole)
    assert home.run(lambda _: b"x").done == 1


def test_stages_run_in_the_order_of_their_upstreams() -> None:
    load, parse, check = Stage("a_parse", "a_load"), Stage("a_check", "a_parse"), Stage("a_download", "a_check")
    assert in_order([load, parse, check]) == [check, parse, load]


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ([Stage("a_x", "a_y"), Stage("a_y", "a_x")], "the stages form a circle"),
        ([Stage("a_z", "a_x"), Stage("a_x", "a_y"), Stage("a_y", "a_z")], "the stages form a circle"),
        ([Stage("a_x", "a_y"), Stage("b_x", "a_y", name="z")], "stage y writes a_y, too"),
        ([Stage("a_x", "a_y"), Stage("a_x", "b_y")], "another stage has this name"),
    ],
)
def test_stages_that_cannot_be_ordered_are_refused(stages: list[Stage], reason: str) -> None:
    with pytest.raises(StageError, match=reason):
        in_order(stages)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"jobs": 0}, "jobs"),
        ({"retries": -1}, "retries"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"rerun": "sometimes"}, "rerun"),
        ({"process": "thinker"}, "process"),
        ({"give_up_after": 0}, "give_up_after"),
        ({"version": ""}, "version"),
        ({"backoff_s": float("nan")}, "backoff_s"),
    ],
)
def test_a_stage_with_a_bad_value_names_the_field(settings: dict[str, object], field: str) -> None:
    with pytest.raises(StageError) as raised:
        Stage("a_x", "a_y", **settings)  # type: ignore[arg-type]
    assert raised.value.field == field


def test_a_bad_choice_is_told_with_all_choices() -> None:
    with pytest.raises(StageError, match="process: expected one of extractor, transformer, loader, got 'thinker'"):
        Stage("a_x", "a_y", process="thinker")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("key", ["dataset", "source", "path", "since", "until"])
def test_a_condition_of_another_type_is_named(key: str) -> None:
    with pytest.raises(StageError, match=f"^where.{key}: expected .*, got 5$"):
        Where(**{key: 5})  # type: ignore[arg-type]  # what is tested


def test_a_stage_cannot_be_its_own_upstream() -> None:
    with pytest.raises(StageError, match="its own upstream"):
        Stage("a_x", "a_x")


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"output": "{nonsense}.txt"}, "output"),
        ({"output": "../{stem}.txt"}, "output"),
        ({"output": "{stem"}, "output"),
        ({"group_by": "{dataset}/{nonsense}"}, "group_by"),
        ({"work": CommandWork(("echo", "{nonsense}"))}, "command"),
        ({"work": CommandWork(("env",), env={"A": "{nonsense}"})}, "env"),
        ({"work": CommandWork("echo {input}")}, "work"),  # type: ignore[arg-type]  # what is tested
        ({"work": CommandWork(("head", "-n", 1))}, "work"),  # type: ignore[arg-type]
        ({"work": CommandWork(())}, "work"),
    ],
)
def test_a_stage_that_could_do_nothing_does_not_exist(members: dict[str, Any], field: str) -> None:
    """Neither for a run nor for a loop, so it is not found out once for each item."""
    with pytest.raises(StageError) as raised:
        Stage("a_x", "a_y", **members)
    assert raised.value.field == field


def test_an_input_in_an_object_store_that_does_not_answer_fails_with_its_url(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Stores, url: str) -> Any:
        raise ObjectStoreError("no", url)

    monkeypatch.setattr(Stores, "of", refuse)
    home.download(("a", "one"))
    url = path_of("s3://bucket/raw/b.txt")
    with DownloadManifestManager(home.path(DOWNLOADS), options=FAST) as manifest:
        manifest.add(record("b", b"two", url, T0))
    (failure,) = home.run(lambda item: item.source_id.encode()).failures
    assert failure.error == "the input s3://bucket/raw/b.txt cannot be read: no"
