"""What no later stage needs: by each rule, for each kind of stage, and which files it names."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager, ProcessedManifestManager
from manifestlog.stages import FunctionWork, Stage, StageError, invalid, nothing, valid
from manifestlog.stages.unused import Needs, Reason, UnusedReport, reason_to_keep, unused

from .home import DOWNLOADS, FAST, PARSED, T0, Home

if TYPE_CHECKING:
    from collections.abc import Callable


def copy(item: Any) -> bytes:
    return bytes(item.path.read_bytes()) + b"!"


def find(home: Home, *stages: Stage, **more: Any) -> UnusedReport:
    return unused(DOWNLOADS, home.manifests, stages=stages or None, **more)


def checksums(home: Home, *stages: Stage, **more: Any) -> list[str]:
    return [one.checksum for one in find(home, *stages, **more).contents]


def two_of_one_source(home: Home) -> list[str]:
    """An old content of a source, and its current one."""
    return home.download(("a", "old"), ("a", "new"))


OUTPUT = "{dataset}/{source_id}-{checksum8}.out"


def parse(home: Home, function: Callable[..., Any] = copy, **more: Any) -> Stage:
    """Run a stage over the downloads; return it."""
    stage = home.stage(function, output=OUTPUT, **more)
    home.run_stage(stage)
    return stage


def behind(home: Home, function: Callable[..., Any] = copy, manifest: str = "x_load", **more: Any) -> Stage:
    """A stage over what `parse` has recorded."""
    return Stage(PARSED, manifest, FunctionWork(function), output=OUTPUT, output_dir=home.data, **more)


# -- the decision ------------------------------------------------------------------------------------------------------

ROW = {"checksum": "c", "source_id": "a", "dataset": "set", "file_path": "p", "ts_downloaded": "2024-01-10T00:00:00Z"}


@pytest.mark.parametrize(
    ("needs", "is_current", "reason"),
    [
        (Needs(), False, None),
        (Needs(), True, Reason.CURRENT),
        (Needs(pending=frozenset("c")), False, Reason.PENDING),
        (Needs(grouped=frozenset("c")), False, Reason.GROUP),
        (Needs(before="2024-01-10T00:00:00"), False, Reason.YOUNG),
        (Needs(before="2024-01-10T00:00:01"), False, None),
        (Needs(pending=frozenset("x"), grouped=frozenset("y")), False, None),
    ],
)
def test_each_rule_keeps_what_it_says(needs: Needs, is_current: bool, reason: Reason | None) -> None:
    assert reason_to_keep({**ROW}, needs, lambda _: is_current) is reason


def test_a_young_observation_keeps_an_old_content() -> None:
    other = {"source_id": "b", "dataset": "set", "file_path": "q", "ts_downloaded": "2024-03-01T00:00:00Z"}
    row = {**ROW, "also_seen": [other]}
    assert reason_to_keep(row, Needs(before="2024-02-01T00:00:00"), None) is Reason.YOUNG


# -- over manifests ----------------------------------------------------------------------------------------------------


def test_a_processed_content_that_is_not_current_is_unused(home: Home) -> None:
    old, _ = two_of_one_source(home)
    assert checksums(home, parse(home)) == [old]


def test_the_current_content_of_a_source_is_kept(home: Home) -> None:
    two_of_one_source(home)
    assert find(home, parse(home)).kept == {Reason.CURRENT: 1}


def test_the_current_content_is_unused_if_asked_so(home: Home) -> None:
    assert sorted(two_of_one_source(home)) == checksums(home, parse(home), keep_current=False)


def test_a_pending_content_is_kept(home: Home) -> None:
    two_of_one_source(home)
    assert find(home, home.stage(copy)).kept == {Reason.PENDING: 2}


def test_a_failed_content_is_kept(home: Home) -> None:
    two_of_one_source(home)

    def fail(_: Any) -> None:
        raise ValueError

    assert find(home, parse(home, fail)).kept == {Reason.PENDING: 2}


def test_a_content_with_nothing_to_do_is_unused(home: Home) -> None:
    old, _ = two_of_one_source(home)
    assert checksums(home, parse(home, lambda _: nothing())) == [old]


def test_another_stage_that_has_it_pending_keeps_it(home: Home) -> None:
    two_of_one_source(home)
    done = parse(home)
    other = home.stage(copy, manifest="x_index")
    assert find(home, done, other).kept == {Reason.PENDING: 2}


def test_a_new_version_of_a_stage_keeps_everything(home: Home) -> None:
    two_of_one_source(home)
    parse(home)
    assert checksums(home, home.stage(copy, version="2.0.0")) == []


def test_what_a_validation_passes_on_is_kept_until_the_stage_behind_it_is_done(home: Home) -> None:
    old, _ = two_of_one_source(home)
    check = parse(home, lambda _: valid())
    load = behind(home)
    assert checksums(home, check, load) == []
    home.run_stage(load)
    assert checksums(home, check, load) == [old]


def test_what_a_validation_refuses_is_needed_by_nothing_behind_it(home: Home) -> None:
    old, _ = two_of_one_source(home)
    check = parse(home, lambda _: invalid("bad"))
    load = behind(home)
    home.run_stage(load)
    assert checksums(home, check, load) == [old]


def test_the_members_of_a_group_are_kept(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    merge = home.stage(copy, group_by="dataset", output="{dataset}/all.out")
    home.run_stage(merge)
    report = find(home, merge, keep_current=False)
    assert (report.contents, report.kept) == ([], {Reason.GROUP: 2})


def test_a_replaced_member_of_a_group_is_unused(home: Home) -> None:
    old, _ = two_of_one_source(home)
    merge = home.stage(copy, group_by="dataset", output="{dataset}/all.out")
    home.run_stage(merge)
    assert checksums(home, merge, keep_current=False) == [old]


def test_a_content_that_is_too_young_is_kept(home: Home) -> None:
    two_of_one_source(home)
    done = parse(home)
    assert checksums(home, done, older_than=T0) == []
    assert len(checksums(home, done, older_than=T0 + timedelta(days=1))) == 1


def test_an_alias_whose_other_source_has_it_still_is_kept(home: Home) -> None:
    home.download(("a", "shared"), ("b", "shared"), ("a", "new"))
    assert checksums(home, parse(home)) == []


def test_superseded_outputs_are_unused(home: Home) -> None:
    home.download(("a", "1"))
    parse(home)
    load = behind(home)
    home.run_stage(load)
    home.run_stage(home.stage(lambda item: item.path.read_bytes() + b"?", output=OUTPUT, version="2.0.0"))
    home.run_stage(load)
    report = unused(PARSED, home.manifests, stages=[load])
    assert ([one.file_size for one in report.contents], report.kept) == ([2], {Reason.CURRENT: 1})


# -- files -------------------------------------------------------------------------------------------------------------


def test_the_paths_are_absolute_and_those_of_the_files(home: Home) -> None:
    two_of_one_source(home)
    (found,) = find(home, parse(home)).contents
    assert [home.root.joinpath(path).read_text() for path in found.paths] == ["old"]


def test_a_path_that_another_content_has_is_not_named(home: Home) -> None:
    """As after a program has overwritten a file and registered it again."""
    two_of_one_source(home)
    with DownloadManifestManager(home.path(DOWNLOADS), options=FAST) as manifest:
        old, new = sorted(manifest.records.values(), key=lambda one: one.ts_downloaded)
        manifest.update(
            new.checksum, {**new.model_dump(exclude={"also_seen", "derived_from"}), "file_path": old.file_path}
        )
    (found,) = find(home, parse(home, lambda _: nothing())).contents
    assert (found.checksum, found.paths) == (old.checksum, ())


def test_a_path_that_an_output_has_is_not_named(home: Home) -> None:
    two_of_one_source(home)
    done = parse(home)
    with (
        ProcessedManifestManager(home.path(PARSED), options=FAST) as made,
        DownloadManifestManager(home.path(DOWNLOADS), read_only=True) as downloads,
    ):
        old = min(downloads.records.values(), key=lambda one: one.ts_downloaded)
        output = next(one for one in made.records.values() if old.checksum in one.derived_from)
        value = output.model_dump(exclude={"also_seen", "derived_from"})
        made.update(output.checksum, {**value, "file_path": downloads.locate(old)})
    assert [one.paths for one in find(home, done).contents] == [()]


# -- which stages ------------------------------------------------------------------------------------------------------


def test_the_stages_are_found_by_what_they_have_made(home: Home) -> None:
    old, _ = two_of_one_source(home)
    parse(home, lambda _: valid())
    home.run_stage(behind(home))
    report = find(home)
    assert ([one.checksum for one in report.contents], report.stages) == ([old], ["load", "parse"])


def test_without_a_stage_nothing_is_unused_but_an_error(home: Home) -> None:
    two_of_one_source(home)
    with pytest.raises(StageError, match="no stage processes"):
        find(home)


def test_a_stage_that_never_ran_keeps_everything(home: Home) -> None:
    two_of_one_source(home)
    assert checksums(home, parse(home), home.stage(copy, manifest="x_never")) == []


def test_a_stage_behind_one_that_never_ran_is_no_error(home: Home) -> None:
    two_of_one_source(home)
    assert checksums(home, home.stage(copy), behind(home)) == []


def test_nothing_is_changed(home: Home) -> None:
    two_of_one_source(home)
    done = parse(home)
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file() and path.suffix != ".lock"}
    find(home, done)
    assert {path: path.read_bytes() for path in before} == before
