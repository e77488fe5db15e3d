"""Where outputs go: names, collisions, and what a crash at each step leaves for the next run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import EventKind, ManifestOptions, ProcessedManifestManager
from manifestlog.files import disk
from manifestlog.names import WORK_NAME
from manifestlog.stages import Output, Result, register
from support.children import Child

from .home import PARSED, Home, sha

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.stages import Item

OUTPUT = "{dataset}/{stem}.out"


def upper(item: Item) -> bytes:
    return item.path.read_bytes().upper()


def test_an_output_never_replaces_another_content(home: Home) -> None:
    taken_names(home.root)


def taken_names(path: Path) -> None:
    home = Home.at(path)
    home.download(("a", "one"), ("b", "two"))
    home.run(upper, output="same.txt")
    names = sorted(home.outputs())
    assert names[1] == "same.txt"
    assert names[0].startswith("same-")
    assert sorted(home.outputs().values()) == ["ONE", "TWO"]


def test_a_file_of_somebody_else_is_never_replaced(home: Home) -> None:
    home.download(("a", "one"))
    home.data.mkdir()
    (home.data / "same.txt").write_text("mine")
    home.run(upper, output="same.txt")
    assert (home.data / "same.txt").read_text() == "mine"
    assert home.outputs() == {f"same-{sha(b'ONE')[:12]}.txt": "ONE"}


def test_the_same_content_of_two_inputs_is_stored_once(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"))
    report = home.run(lambda _: b"same", output="same.txt")
    assert report.counts == {Result.MADE: 2}
    assert home.outputs() == {"same.txt": "same"}
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        (record,) = made.records.values()
    assert {record.source_id, *(seen.source_id for seen in record.also_seen)} == {"a", "b"}


def test_the_default_name_is_the_inputs_below_its_dataset(home: Home) -> None:
    home.download(("a", "one"), dataset="deep/set")
    home.run(upper)
    assert list(home.outputs()) == [f"deep/set/a-{sha(b'one')[:6]}.txt"]


def test_values_in_a_pattern_are_made_safe_names(home: Home) -> None:
    home.download(("a", "one"), dataset="set")
    home.run(upper, dataset="../up", output="{dataset}/{stage}/{version}/x", version="1/..")
    (name,) = home.outputs()
    assert ".." not in name.split("/")


def test_a_path_in_the_output_directory_is_recorded_where_it_is(home: Home) -> None:
    home.download(("a", "one"))

    def write(item: Item) -> Path:
        home.data.mkdir(exist_ok=True)
        path = home.data / "mine.txt"
        path.write_text("x")
        return path

    home.run(write)
    assert home.outputs() == {"mine.txt": "x"}


def test_two_outputs_of_one_name_are_a_failure(home: Home) -> None:
    home.download(("a", "one"))

    def twice(item: Item) -> None:
        for text in ("1", "2"):
            with item.output("x.txt") as out:
                out.write(text)

    name = os.path.join(os.path.realpath(home.data), "x.txt")
    assert (
        home.run(twice).failures[0].error == f"2 outputs of the item have the name {name}; give each a name of its own"
    )


def test_if_both_names_are_taken_the_item_fails_and_says_so(home: Home) -> None:
    home.download(("a", "one"))
    home.data.mkdir()
    for name in ("same.txt", f"same-{sha(b'ONE')[:12]}.txt"):
        (home.data / name).write_text("mine")
    assert "are taken by other files" in (home.run(upper, output="same.txt").failures[0].error or "")


@pytest.mark.parametrize("target", ["nowhere", "same.txt", "two.txt", "."])
def test_a_link_that_has_the_name_of_an_output_is_left_alone(home: Home, target: str) -> None:
    """To nothing, to itself, to a file of the same length, to a directory."""
    home.download(("a", "one"))
    home.data.mkdir()
    (home.data / "two.txt").write_text("TWO")
    (home.data / "same.txt").symlink_to(target)
    home.run(upper, output="same.txt")
    assert home.outputs() == {f"same-{sha(b'ONE')[:12]}.txt": "ONE"}
    assert (home.data / "same.txt").readlink() == Path(target)


@pytest.mark.parametrize("output", ["set/{stem}", "set/deeper/{stem}"])
def test_a_file_in_the_place_of_a_directory_is_named_with_its_remedy(home: Home, output: str) -> None:
    home.download(("a", "one"))
    home.data.mkdir()
    (home.data / "set").write_text("mine")
    error = home.run(upper, output=output).failures[0].error or ""
    assert error.endswith("a file has the name of a directory in it; move it away, or correct `output`")


def test_outputs_of_an_item_are_one_write(home: Home) -> None:
    home.download(("a", "one"))
    home.run(lambda _: [Output(data=b"%d" % n, name=f"{n}.txt") for n in range(20)])
    assert len({event.ts for event in home.events(kinds=[EventKind.PUT])}) == 1


def test_more_outputs_than_one_write_takes_are_a_failure_that_names_the_limit(home: Home) -> None:
    home.download(("a", "one"))
    few = ManifestOptions(batch_records_max=5)
    outputs = [Output(data=b"%d" % n, name=f"{n}.txt") for n in range(6)]
    report = home.run(lambda _: outputs, options=few)
    assert "6 outputs, at most 5" in (report.failures[0].error or "")
    assert list(home.data.rglob("*.txt")) == []


# -- a crash at each step ----------------------------------------------------------------------------------------------


def die_before_names(patch: pytest.MonkeyPatch) -> None:
    """End the process at once where it would give an output its name."""
    linked = disk.link_new

    def link(*given: str) -> bool:
        if WORK_NAME in given[0]:
            os._exit(9)
        return linked(*given)

    patch.setattr(disk, "link_new", link)


def die_before_records(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("manifestlog.stages.landing.record", lambda *_: os._exit(9))


def die_after_records(patch: pytest.MonkeyPatch) -> None:

    def record(*given: Any) -> None:
        register.record(*given)
        os._exit(9)

    patch.setattr("manifestlog.stages.landing.record", record)


def die_after_one_name(patch: pytest.MonkeyPatch) -> None:
    linked = disk.link_new

    def link(*given: str) -> bool:
        found = linked(*given)
        if WORK_NAME in given[0]:
            os._exit(9)
        return found

    patch.setattr(disk, "link_new", link)


def killed(home: Home, arm: Callable[[pytest.MonkeyPatch], None], function: Callable[..., Any]) -> None:
    """Run the stage in a process that dies at this point."""

    def die(_link: Any) -> None:
        arm(pytest.MonkeyPatch())
        home.run(function, output=OUTPUT)

    child = Child(die)
    assert child.join() == 9


CRASHES = {
    "before the names": die_before_names,
    "after one name": die_after_one_name,
    "before the records": die_before_records,
    "after the records": die_after_records,
}


@pytest.mark.parametrize("crash", CRASHES)
def test_what_a_crash_leaves_is_finished_by_the_next_run_without_doing_it_again(home: Home, crash: str) -> None:
    """The intent holds all that is missing, so a function that gives other bytes each time leaves no second output."""
    home.download(("a", "one"))
    killed(home, CRASHES[crash], lambda _: [Output(data=os.urandom(8), name=f"{n}.bin") for n in range(2)])
    again: list[str] = []
    home.run(lambda item: again.append(item.source_id), output=OUTPUT)
    assert again == []
    check(home, outputs=2)


def check(home: Home, *, outputs: int) -> None:
    """Every record has its file, no file is without a record, nothing is left in work, and no input has two derivations."""
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        records = list(made.records.values())
        paths = {made.locate(one) for one in records}
    assert len(records) == outputs
    assert all(sha((home.root / one.file_path).read_bytes()) == one.checksum for one in records)
    files = {path for path in home.data.rglob("*") if path.is_file()}
    assert files == paths
    assert home.leftovers() == []


def test_what_a_crash_leaves_in_work_is_removed(home: Home) -> None:
    home.download(("a", "one"))

    def die(item: Item) -> None:
        with item.output("half.txt") as out:
            out.write("half")
            out.flush()
            os._exit(9)

    killed(home, lambda _: None, die)
    assert home.leftovers() != []
    home.run(upper, output=OUTPUT)
    check(home, outputs=1)


def test_an_intent_that_was_torn_is_removed_and_the_work_done_again(home: Home) -> None:
    home.download(("a", "one"))
    killed(home, die_before_records, upper)
    (intent,) = (home.data / ".manifestlog.work" / PARSED).glob("landing-*.json")
    intent.write_bytes(intent.read_bytes()[:-10])
    home.run(upper, output=OUTPUT)
    check(home, outputs=1)


def test_what_a_run_in_progress_has_in_work_is_left_alone(home: Home) -> None:
    """Another run of the stage starts while the first one holds its item."""
    run_beside_another(home.root)


def run_beside_another(path: Path) -> None:
    home = Home.at(path)
    home.download(("a", "one"))
    during: list[dict[Result, int]] = []

    def slow(item: Item) -> None:
        with item.output("x.txt") as out:
            out.write("begun")
            out.flush()
            child = Child(lambda link: link.send(dict(home.run(upper, output=OUTPUT).counts)))
            during.append(child.receive())
            child.join()
            out.write(", done")

    home.run(slow)
    assert during == [{Result.CLAIMED: 1}]
    assert home.outputs() == {"x.txt": "begun, done"}
