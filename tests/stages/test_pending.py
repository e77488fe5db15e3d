"""What is pending for a stage, and what is not: new, changed, forgotten, judged and superseded content; versions and code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager, EventKind, ProcessedManifestManager
from manifestlog.stages import Result, Stage, StageError, Where, invalid, nothing, pending_items, valid
from manifestlog.stages.definition import FunctionWork

from .home import DOWNLOADS, FAST, PARSED, Home, coded, sha

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog.stages import Item

OUTPUT = "{dataset}/{source_id}-{checksum8}.out"


def copy(item: Item) -> bytes:
    return item.path.read_bytes() + b"!"


def done(home: Home, **settings: Any) -> int:
    """Run the stage; return how many items it did."""
    report = home.run(copy, output=OUTPUT, **settings)
    assert report.is_ok
    return report.done


def pending(home: Home, **settings: Any) -> list[str]:
    """Return the sources of what the stage would do."""
    return sorted(one.source_id for one in pending_items(home.stage(copy, output=OUTPUT, **settings), home.manifests))


def test_everything_is_pending_once(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"))
    assert [done(home), done(home)] == [2, 0]


def test_a_run_with_nothing_pending_writes_nothing(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    before = home.events()
    done(home)
    assert home.events() == before


def test_a_run_with_nothing_pending_leaves_every_file_as_it_is(home: Home) -> None:
    home.download(("a", "one"))
    found = []
    for _ in range(3):
        done(home)
        files = sorted(path for path in home.root.rglob("*") if path.is_file())
        found.append([(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in files])
    assert found[2] == found[1]


def test_a_run_with_nothing_pending_takes_no_snapshot(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """That checks the whole index, so it takes the longer the more records there are."""
    home.download(("a", "one"))
    done(home)
    monkeypatch.setattr(ProcessedManifestManager, "snapshot", None)
    assert done(home) == 0


def test_new_and_changed_content_is_pending(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    home.download(("a", "changed"), ("b", "new"), minute=10)
    assert done(home) == 2


def test_what_changed_upstream_is_current_downstream(home: Home) -> None:
    home.download(("a", "old"), ("a", "new"))
    done(home)
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        current = made.get_record_by_source("a", "set")
    assert current is not None
    assert current.checksum == sha(b"new!")


def test_an_alias_makes_no_work(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    home.download(("b", "one"), minute=10)
    assert done(home) == 0


def test_a_repeated_download_makes_no_work(home: Home) -> None:
    home.download(("a", "one"), ("a", "two"))
    done(home)
    home.download(("a", "one"), minute=10)  # reverted
    assert done(home) == 0


def test_forgotten_content_makes_no_work(home: Home) -> None:
    (first, _) = home.download(("a", "one"), ("b", "two"))
    with DownloadManifestManager(home.path(DOWNLOADS)) as downloads:
        downloads.forget(first)
    assert done(home) == 1


@pytest.mark.parametrize("looks", [False, True])
def test_content_that_was_forgotten_after_its_work_and_comes_again_makes_none(home: Home, looks: bool) -> None:
    comes_again(home.root, looks=looks)


def comes_again(path: Path, *, looks: bool = True) -> None:
    home = Home.at(path)
    (first,) = home.download(("a", "one"))
    done(home)
    with DownloadManifestManager(home.path(DOWNLOADS)) as downloads:
        downloads.forget(first)
    if looks:
        done(home)
    home.download(("a", "one"), minute=10)
    assert done(home) == 0


def test_a_forgotten_output_is_pending_again(home: Home) -> None:
    output_forgotten(home.root)


def output_forgotten(path: Path) -> None:
    home = Home.at(path)
    home.download(("a", "one"), ("b", "two"))
    done(home)
    with ProcessedManifestManager(home.path(PARSED)) as made:
        made.forget(sha(b"one!"))
    assert done(home) == 1


@pytest.mark.parametrize("looks", [False, True])
def test_what_was_undone_is_pending_again(home: Home, looks: bool) -> None:
    """Also if the output is there still, made by another version."""
    home.download(("a", "one"))
    done(home)
    report = home.run(copy, output=OUTPUT, version="2")
    if not looks:
        kept(home).unlink()
    with ProcessedManifestManager(home.path(PARSED)) as made:
        made.undo(run=report.run)
    assert [done(home, version="2"), done(home, version="2")] == [1, 0]


@pytest.mark.parametrize("rerun", ["version", "code"])
def test_a_first_look_counts_no_output_that_was_forgotten(home: Home, rerun: str) -> None:
    home.download(("a", "one"), ("b", "two"))
    done(home, rerun=rerun)
    with ProcessedManifestManager(home.path(PARSED)) as made:
        made.forget(sha(b"one!"))
    kept(home).unlink()
    assert pending(home, rerun=rerun) == ["a"]


@pytest.mark.parametrize("rerun", ["version", "code"])
def test_a_first_look_counts_no_derivation_that_was_undone(home: Home, rerun: str) -> None:
    home.download(("a", "one"))
    done(home, rerun=rerun)
    home.download(("b", "two"), minute=5)
    report = home.run(copy, output=OUTPUT, version="2", rerun=rerun)
    with ProcessedManifestManager(home.path(PARSED)) as made:
        made.undo(run=report.run)
    kept(home).unlink()
    assert [pending(home, rerun=rerun), pending(home, version="2", rerun=rerun)] == [["b"], ["a", "b"]]


def test_a_failure_is_pending_again(home: Home) -> None:
    home.download(("a", "one"))
    home.run(lambda _: 1 / 0)
    assert done(home) == 1


def test_an_output_that_was_recorded_by_hand_counts(home: Home) -> None:
    (first, _) = home.download(("a", "one"), ("b", "two"))
    done(home, where=Where(source="b"))
    with ProcessedManifestManager(home.path(PARSED)) as made:
        record = next(iter(made.records.values()))
        made.add(record.model_copy(update={"checksum": sha(b"by hand"), "derived_from": (first,)}))
    assert done(home) == 0


# -- versions ----------------------------------------------------------------------------------------------------------


def test_another_version_makes_everything_pending_and_keeps_the_old_outputs(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    report = home.run(lambda _: b"second", version="2", output=OUTPUT)
    assert report.done == 1
    assert sorted(home.outputs().values()) == ["one!", "second"]


def test_the_output_of_the_newer_version_is_current(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    home.run(lambda _: b"second", version="2", output=OUTPUT)
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        current = made.get_record_by_source("a", "set")
    assert current is not None
    assert (current.version, current.checksum) == ("2", sha(b"second"))


def test_a_version_that_gives_the_same_bytes_is_done_too(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    assert [done(home, version="2"), done(home, version="2")] == [1, 0]


def test_never_means_that_another_version_does_nothing(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    assert done(home, version="2", rerun="never") == 0


def test_changed_code_makes_everything_pending_if_asked(home: Home) -> None:
    home.download(("a", "one"))
    bodies = ["b'1'", "b'1'", "b'2'", "b'2'", "b'2'  # note", "b'2'  # note"]
    found = [home.run(coded(home, body), rerun="code", output=OUTPUT).done for body in bodies]
    assert found == [1, 0, 1, 0, 1, 0]


def test_nothing_to_do_is_asked_again_by_another_version(home: Home) -> None:
    home.download(("a", "one"))
    home.run(lambda _: nothing())
    assert done(home, version="2") == 1


# -- stages after stages -----------------------------------------------------------------------------------------------


def second(home: Home, **settings: Any) -> Stage:
    """Return a stage over the outputs of the first one."""
    return Stage(PARSED, "x_load", FunctionWork(copy), output_dir=home.data / "second", **settings)


def test_a_newer_version_upstream_is_followed(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    assert home.run_stage(second(home)).done == 1
    home.run(lambda _: b"second", version="2", output=OUTPUT)
    assert home.run_stage(second(home)).done == 1


def test_superseded_outputs_are_not_processed_by_a_later_version_of_the_next_stage(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    home.run(lambda _: b"second", version="2", output=OUTPUT)
    report = home.run_stage(second(home))
    assert report.done == 1
    with ProcessedManifestManager(home.path("x_load"), read_only=True) as loaded:
        assert [one.derived_from for one in loaded.records.values()] == [(sha(b"second"),)]


def test_an_output_that_is_superseded_before_it_was_processed_is_left_out(home: Home) -> None:
    """The look that has it pending is kept, so that only the events since tell."""
    home.download(("a", "one"))
    done(home)
    home.run_stage(Stage(PARSED, "x_load", FunctionWork(lambda _: 1 / 0), output_dir=home.data))
    home.run(lambda _: b"second", version="2", output=OUTPUT)
    assert home.run_stage(second(home)).done == 1
    assert home.run_stage(second(home)).done == 0


# -- judgements --------------------------------------------------------------------------------------------------------


def judge(item: Item) -> Any:
    return valid() if item.path.read_text().islower() else invalid("it shouts")


def judged(home: Home, judgement: str | None) -> list[str]:
    """Return what a stage after the judging one receives, by source."""
    seen: list[str] = []
    stage = second(home, where=Where(judgement=judgement), name=f"after-{judgement}")
    stage = Stage(
        PARSED, f"x_{judgement or 'default'}", FunctionWork(lambda item: seen.append(item.source_id)), where=stage.where
    )
    home.run_stage(stage)
    return sorted(seen)


def test_the_next_stage_receives_what_its_condition_asks_for(home: Home) -> None:
    home.download(("a", "one"), ("b", "TWO"), ("c", "three"))
    home.run(judge)
    found = {word: judged(home, word) for word in ("valid", "invalid", "any", None)}
    assert found == {"valid": ["a", "c"], "invalid": ["b"], "any": ["a", "b", "c"], None: ["a", "c"]}


@pytest.mark.parametrize("judgement", ["valid", None])
def test_content_that_is_judged_valid_later_becomes_pending(home: Home, judgement: str | None) -> None:
    home.download(("a", "ONE"))
    home.run(judge)
    assert judged(home, judgement) == []
    home.run(lambda _: valid(), version="2")
    assert judged(home, judgement) == ["a"]
    assert judged(home, judgement) == []


def test_content_that_is_judged_invalid_later_is_not_pending(home: Home) -> None:
    home.download(("a", "one"))
    home.run(judge)
    seen: list[str] = []
    failing = Stage(PARSED, "x_next", FunctionWork(lambda _: 1 / 0))
    home.run_stage(failing)
    home.run(lambda _: invalid("no"), version="2")
    home.run_stage(Stage(PARSED, "x_next", FunctionWork(lambda item: seen.append(item.source_id))))
    assert seen == []


def test_a_judgement_by_changed_code_is_the_one_that_counts(home: Home) -> None:
    """The manifest has the same record with the same derivation already: only an event can say it."""
    home.download(("a", "one"))
    for body in ("valid()", "invalid('no')", "invalid('no')"):
        home.run(coded(home, body), rerun="code")
    assert [one.judgement for one in home.events(kinds=[EventKind.PUT, EventKind.DERIVED])] == ["valid", "invalid"]
    assert judged(home, "invalid") == ["a"]


# -- conditions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"dataset": "red"}, "a"),
        ({"dataset": ("red", "blue")}, "ab"),
        ({"dataset": "r*"}, "a"),
        ({"source": "[bc]"}, "bc"),
        ({"path": "*/blue/*"}, "b"),
        ({"since": "2024-01-01T00:01:00Z"}, "bc"),
        ({"until": "2024-01-01T00:01:00Z"}, "a"),
        ({"since": "2024-01-02"}, ""),
        ({"dataset": "red", "source": "b"}, ""),
    ],
)
def test_only_records_that_meet_the_condition_are_processed(home: Home, where: dict[str, Any], found: str) -> None:
    for minute, (source, dataset) in enumerate([("a", "red"), ("b", "blue"), ("c", "green")]):
        home.download((source, source), minute=minute, dataset=dataset)
    seen: list[str] = []
    home.run(lambda item: seen.append(item.source_id), where=Where(**where))
    assert "".join(sorted(seen)) == found


def test_another_condition_is_seen_at_once(home: Home) -> None:
    other_condition(home.root)


def other_condition(path: Path) -> None:
    home = Home.at(path)
    home.download(("a", "one"), ("b", "two"))
    assert [done(home, where=Where(source="a")), done(home, where=Where(source="*"))] == [1, 1]


def test_a_record_that_meets_the_condition_later_by_another_source_is_pending(home: Home) -> None:
    home.download(("a", "one"), dataset="red")
    assert done(home, where=Where(dataset="blue")) == 0
    home.download(("a", "one"), minute=5, dataset="blue")
    assert [done(home, where=Where(dataset="blue")) for _ in range(2)] == [1, 0]


def test_a_pattern_chooses_the_items_of_one_run(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"))
    report = home.run_stage(home.stage(copy, output=OUTPUT), only="b")
    assert report.done == 1
    assert done(home) == 1


def test_what_a_run_would_do_is_listed_and_nothing_is_written(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"))
    found = pending_items(home.stage(copy), home.manifests)
    assert sorted(one.source_id for one in found) == ["a", "b"]
    assert not home.path(PARSED).exists()


# -- the kept look -----------------------------------------------------------------------------------------------------


def kept(home: Home) -> Any:
    return home.manifests / "x_parse.manifest.pending.json"


@pytest.mark.parametrize("damage", [b"", b"{}", b"00000000{}\n", b"not json at all", None])
def test_a_kept_look_that_is_damaged_or_missing_costs_nothing_but_time(home: Home, damage: bytes | None) -> None:
    home.download(("a", "one"), ("b", "two"))
    done(home)
    kept(home).unlink()
    if damage is not None:
        kept(home).write_bytes(damage)
    home.download(("c", "three"), minute=9)
    assert [done(home), done(home)] == [1, 0]


def test_a_flipped_bit_in_a_kept_look_is_found(home: Home) -> None:
    """Without a check, a pending checksum that reads differently would never be processed."""
    flipped_look(home.root)


def flipped_look(path: Path) -> None:
    home = Home.at(path)
    home.download(("a", "one"))
    home.run(lambda _: 1 / 0)
    data = kept(home).read_bytes()
    assert sha(b"one").encode() in data
    kept(home).write_bytes(data.replace(sha(b"one").encode(), sha(b"other").encode()))
    assert done(home) == 1


def test_a_look_of_a_manifest_that_was_restored_from_an_older_copy_is_not_used(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    older = {path.name: path.read_bytes() for path in home.manifests.iterdir() if path.is_file()}
    home.download(("b", "two"), minute=5)
    done(home)
    for path in home.manifests.iterdir():
        if path.is_file() and path.name.startswith("x_parse") and "pending" not in path.name:
            path.unlink()
    for name, data in older.items():
        if name.startswith("x_parse") and "pending" not in name:
            (home.manifests / name).write_bytes(data)
    for path in (home.manifests / "history").glob("x_parse*"):
        path.unlink()
    assert done(home) == 1


def test_a_history_that_was_cut_costs_a_first_look(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"))
    done(home)
    home.download(("c", "three"), minute=5)
    for name in (DOWNLOADS, PARSED):
        with ProcessedManifestManager(home.path(name)) as manifest:
            manifest.save()
    for path in (home.manifests / "history").iterdir():
        path.unlink()
    assert [done(home), done(home)] == [1, 0]


# -- giving up ---------------------------------------------------------------------------------------------------------


def test_after_so_many_failures_an_item_is_given_up(home: Home) -> None:
    home.download(("a", "one"))
    reports = [home.run(lambda _: 1 / 0, give_up_after=2) for _ in range(3)]
    assert [one.counts for one in reports] == [{Result.FAILED: 1}, {Result.FAILED: 1}, {Result.GIVEN_UP: 1}]


def test_another_version_does_not_give_up(home: Home) -> None:
    home.download(("a", "one"))
    home.run(lambda _: 1 / 0, give_up_after=1)
    assert done(home, version="2", give_up_after=1) == 1


def test_what_was_given_up_is_tried_again_if_asked(home: Home) -> None:
    home.download(("a", "one"))
    home.run(lambda _: 1 / 0, give_up_after=1)
    report = home.run_stage(home.stage(copy, give_up_after=1), retry_failed=True)
    assert report.counts == {Result.MADE: 1}


# -- two stages and one manifest ---------------------------------------------------------------------------------------


def test_two_stages_cannot_write_one_manifest(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    with pytest.raises(StageError, match="the stage parse has written x_parse"):
        done(home, name="other")


def test_a_stage_that_wrote_since_the_last_look_is_noticed_too(home: Home) -> None:
    home.download(("a", "one"))
    done(home)
    with ProcessedManifestManager(home.path(PARSED), options=FAST) as made, made.run("other", stage="other"):
        pass
    with pytest.raises(StageError, match="the stage other has written x_parse"):
        done(home)
