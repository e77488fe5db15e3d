"""What a function returns, and what becomes of it: outputs, nothing, a judgement, loaded rows, or a failure."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import EventKind, ManifestRecord, ProcessedManifestManager
from manifestlog.stages import Failed, NoFunctionError, Output, Result, invalid, loaded, nothing, valid

from .home import PARSED, Home, sha

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manifestlog.stages import Item

OUTPUT = "{dataset}/{source_id}.out"


def upper(item: Item) -> bytes:
    return item.path.read_bytes().upper()


def test_the_bytes_that_a_function_returns_are_the_output(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"))
    report = home.run(upper, output=OUTPUT)
    assert report.counts == {Result.MADE: 2}
    assert home.outputs() == {"set/a.out": "ONE", "set/b.out": "TWO"}


def test_a_function_with_two_parameters_writes_to_the_path_that_it_is_given(home: Home) -> None:
    home.download(("a", "one"))

    def write(item: Item, output: Path) -> None:
        output.write_text(f"{output.suffix}: {item.path.read_text()}")

    home.run(write, output=OUTPUT)
    assert home.outputs() == {"set/a.out": ".out: one"}


def test_what_a_function_writes_to_the_path_of_its_item_is_the_output(home: Home) -> None:
    home.download(("a", "one"))

    def write(item: Item) -> None:
        item.output_path.write_bytes(upper(item))

    assert home.run(write, output=OUTPUT).counts == {Result.MADE: 1}
    assert home.outputs() == {"set/a.out": "ONE"}


def test_what_a_coroutine_writes_to_the_path_of_its_item_is_the_output(home: Home) -> None:
    home.download(("a", "one"))

    async def write(item: Item) -> None:
        item.output_path.write_bytes(upper(item))

    assert home.run(write, output=OUTPUT).counts == {Result.MADE: 1}
    assert home.outputs() == {"set/a.out": "ONE"}


def test_a_path_that_a_function_asked_for_and_did_not_write_to_is_no_output(home: Home) -> None:
    home.download(("a", "one"))
    assert home.run(lambda item: item.output_path and None).counts == {Result.NOTHING: 1}


def test_outputs_that_a_function_opens_are_recorded_under_their_names(home: Home) -> None:
    home.download(("a", "one"))

    def split(item: Item) -> None:
        for letter in item.path.read_text():
            with item.output(f"letters/{letter}.txt") as out:
                out.write(letter * 2)

    home.run(split)
    assert home.outputs() == {"letters/o.txt": "oo", "letters/n.txt": "nn", "letters/e.txt": "ee"}


def test_several_outputs_of_a_source_are_sources_of_their_own(home: Home) -> None:
    """So each of them has a current content, and the last one does not take the place of the others."""
    home.download(("a", "one"))
    home.run(lambda _: [Output(data=b"1", name="p/1.txt"), Output(data=b"2", name="p/2.txt")])
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        found = {one.source_id: one.checksum for one in made.records.values()}
    assert found == {"a/1.txt": sha(b"1"), "a/2.txt": sha(b"2")}


def test_an_output_names_its_input_its_version_and_its_time(home: Home) -> None:
    (checksum,) = home.download(("a", "one"), minute=7)
    home.run(upper, version="2.1", dataset="upper")
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        (record,) = made.records.values()
    assert (record.source_id, record.dataset, record.version) == ("a", "upper", "2.1")
    assert record.derived_from == (checksum,)
    assert record.ts_downloaded.minute == 7


def test_a_derivation_says_what_was_run_where_when_and_how_long(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    (event,) = home.events(kinds=[EventKind.PUT])
    said = event.details
    assert (event.stage, said["command"], said["host"]) == ("parse", "stages.test_functions:upper", os.uname().nodename)
    assert said["started"] <= event.ts
    assert 0 <= said["seconds"] < 60


def test_nothing_to_do_is_remembered(home: Home) -> None:
    home.download(("a", "one"))
    reports = [home.run(lambda _: nothing("too short")) for _ in range(2)]
    assert [one.counts[Result.NOTHING] for one in reports] == [1, 0]
    (event,) = home.events(kinds=[EventKind.DERIVED])
    assert (event.checksum, event.details["reason"]) == (None, "too short")


def test_a_function_that_returns_none_without_an_output_did_nothing(home: Home) -> None:
    home.download(("a", "one"))
    assert home.run(lambda _: None).counts == {Result.NOTHING: 1}


def judge(item: Item) -> Any:
    return valid() if item.path.read_text().islower() else invalid("it shouts")


def test_a_judged_input_is_recorded_itself_with_its_judgement(home: Home) -> None:
    good, bad = home.download(("a", "one"), ("b", "TWO"))
    report = home.run(judge)
    assert report.counts == {Result.VALID: 1, Result.INVALID: 1}
    found = {one.checksum: (one.judgement, one.details.get("reason")) for one in home.events(kinds=[EventKind.PUT])}
    assert found == {good: ("valid", None), bad: ("invalid", "it shouts")}


def test_loaded_rows_are_counted_and_recorded(home: Home) -> None:
    (checksum,) = home.download(("a", "one"))
    report = home.run(lambda _: loaded(3, "duckdb:warehouse"), process="loader")
    assert (report.counts[Result.LOADED], report.rows) == (1, 3)
    (event,) = home.events(kinds=[EventKind.PUT])
    assert (event.checksum, event.details["rows"], event.details["target"]) == (checksum, 3, "duckdb:warehouse")


def test_a_loader_that_returns_none_has_loaded(home: Home) -> None:
    home.download(("a", "one"))
    assert home.run(lambda _: None, process="loader").counts == {Result.LOADED: 1}


# -- functions that misbehave ------------------------------------------------------------------------------------------


def failing(home: Home, function: Any, **settings: Any) -> str:
    """Return the error of the one item."""
    home.download(("a", "one"))
    report = home.run(function, **settings)
    assert report.counts == {Result.FAILED: 1}
    assert home.leftovers() == []
    error = report.failures[0].error
    assert error is not None
    return error


def boom(item: Item) -> None:
    raise ValueError("no header")


def test_an_error_is_a_failure_of_its_item_with_the_end_of_the_traceback(home: Home) -> None:
    assert failing(home, boom) == "ValueError: no header"
    (event,) = home.events(kinds=[EventKind.FAILED])
    assert (event.stage, event.version, event.inputs) == ("parse", "1.0.0", (sha(b"one"),))
    assert event.details["stderr"].endswith("ValueError: no header")


def test_sys_exit_is_a_failure_of_its_item(home: Home) -> None:
    assert failing(home, lambda _: sys.exit(3)) == "the function called sys.exit(3)"
    (event,) = home.events(kinds=[EventKind.FAILED])
    assert event.details["exit_code"] == 3


def test_a_failure_does_not_stop_the_others(home: Home) -> None:
    home.download(("a", "one"), ("b", "two"), ("c", "three"))
    report = home.run(lambda item: b"x" if item.source_id != "b" else boom(item))
    assert report.counts == {Result.MADE: 2, Result.FAILED: 1}


def test_a_result_that_means_nothing_is_a_failure(home: Home) -> None:
    assert failing(home, lambda _: 42).startswith("the function returned 42: expected None, a path")


def test_an_empty_output_is_a_failure(home: Home) -> None:
    assert "is empty: return nothing()" in failing(home, lambda _: b"")


def silent(item: Item) -> None:
    raise ValueError


def test_an_error_without_a_message_is_named_with_its_place(home: Home) -> None:
    line = silent.__code__.co_firstlineno + 1
    assert failing(home, silent) == f"ValueError without a message, raised in {__file__}, line {line}"


def test_a_failure_that_says_nothing_is_told_as_such(home: Home) -> None:
    assert failing(home, lambda _: Failed("")) == "the function returned a failure that does not say why"


def test_an_output_with_a_name_that_is_not_used_is_told_without_a_class(home: Home) -> None:
    def escape(item: Item) -> None:
        with item.output("../x.txt"):
            pass

    assert failing(home, escape).startswith("the output '../x.txt' is not used: it leads out of the output directory")


def test_a_record_that_is_not_valid_is_told_on_one_line(home: Home) -> None:
    error = failing(home, lambda _: Output(data=b"x", dataset=5))  # type: ignore[arg-type]  # what is tested
    assert error == "record rejected: dataset: Input should be a valid string; nothing was written"


def test_an_output_that_was_not_written_is_a_failure(home: Home) -> None:
    def forgetful(item: Item, output: Path) -> None:
        """Write nothing."""

    assert "wrote nothing" in failing(home, forgetful)


def test_a_path_outside_of_the_output_directory_is_refused(home: Home) -> None:
    elsewhere = home.root / "elsewhere.txt"

    def wander(item: Item) -> Path:
        elsewhere.write_text("x")
        return elsewhere

    assert "is not below the output directory" in failing(home, wander)
    assert elsewhere.read_text() == "x"


@pytest.mark.parametrize("name", ["../x.txt", "/tmp/x.txt", "a/../../x.txt", ".hidden", "x.part", ""])
def test_a_name_that_leads_outside_is_refused(home: Home, name: str) -> None:
    error = failing(home, lambda _: Output(data=b"x", name=name))
    assert error.startswith(f"the output {name!r} is not used")


def test_a_link_in_the_output_directory_leads_nowhere_else(home: Home) -> None:
    linked_elsewhere(home.root)


def linked_elsewhere(path: Path) -> None:
    home = Home.at(path)
    (home.root / "elsewhere").mkdir()
    home.data.mkdir()
    (home.data / "set").symlink_to(home.root / "elsewhere")
    assert "leads out of the output directory" in failing(home, upper)
    assert list((home.root / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("target", ["secret", "nowhere"])
def test_a_symbolic_link_is_no_output(home: Home, target: str) -> None:
    (home.root / "secret").write_text("s")
    error = failing(home, lambda _, out: out.symlink_to(home.root / target), output="x.txt")
    assert error.startswith(
        f"the output x.txt is a symbolic link to {home.root / target}; put the file itself in its place"
    )


def linked(item: Item, home: Home) -> Path:
    home.data.mkdir(exist_ok=True)
    path = home.data / "link.txt"
    path.symlink_to(item.path)
    return path


def directory(_: Item, home: Home) -> Path:
    path = home.data / "made"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (linked, "the output {data}/link.txt is a symbolic link to {input}; put the file itself in its place"),
        (directory, "the output {data}/made is a directory; make each file in it an output"),
        (lambda _, home: home.data / "gone", "the output {data}/gone is missing; write it before the work ends"),
    ],
)
def test_a_returned_path_of_no_file_is_named_with_what_is_there(
    home: Home, make: Callable[[Item, Home], Path], said: str
) -> None:
    error = failing(home, lambda item: make(item, home))
    (source,) = (home.root / "raw").rglob("a-*.txt")
    assert error.startswith(said.format(data=os.path.realpath(home.data), input=source))


def test_an_output_left_open_is_a_failure(home: Home) -> None:
    opened: list[Any] = []

    def hold(item: Item) -> None:
        opened.append(item.output("x.txt"))
        opened[-1].__enter__()

    assert "still open" in failing(home, hold)
    opened[-1].__exit__(None, None, None)


def test_a_child_of_the_function_does_not_go_on_with_its_parents_work(home: Home) -> None:
    """The child returns from the function, too; without a guard it would land the item a second time."""
    children: list[int] = []

    def fork(item: Item) -> bytes:
        if (pid := os.fork()) > 0:
            children.append(pid)
            os.waitpid(pid, 0)
        return b"made"

    home.download(("a", "one"), ("b", "two"))
    report = home.run(fork, output=OUTPUT)
    assert (report.counts, len(children)) == ({Result.MADE: 2}, 2)
    assert len(home.events(kinds=[EventKind.PUT])) == 2


def test_a_missing_input_fails_at_once_and_says_where_it_was(home: Home) -> None:
    home.download(("a", "one"))
    (path,) = (home.root / "raw").rglob("a-*.txt")
    path.unlink()
    report = home.run(upper, retries=5, backoff_s=60)
    assert report.failures[0].error == f"the input {path} is missing; restore it, or run `manifestlog forget`"


def test_an_input_that_cannot_be_read_is_named_with_a_remedy(home: Home) -> None:
    home.download(("a", "one"))
    (path,) = (home.root / "raw").rglob("a-*.txt")
    path.unlink()
    path.symlink_to(path)
    said = (
        f"the input {path} cannot be read: Too many levels of symbolic links; correct the symbolic links of this path"
    )
    assert home.run(upper).failures[0].error == said


def test_a_module_that_ends_the_program_when_it_is_imported_is_an_error_of_the_stage(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would end the run as if that had succeeded."""
    (home.root / "module_that_exits.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(home.root)
    home.download(("a", "one"))
    with pytest.raises(NoFunctionError, match="its module ends the program when it is imported"):
        home.run_stage(home.stage("module_that_exits:work"))


def test_an_input_of_another_length_is_not_processed(home: Home) -> None:
    home.download(("a", "one"))
    (path,) = (home.root / "raw").rglob("a-*.txt")
    path.write_text("longer")
    assert "has 6 bytes, recorded are 3" in (home.run(upper).failures[0].error or "")


def test_an_input_that_the_work_changes_is_found_out_if_asked(home: Home) -> None:
    def spoil(item: Item) -> bytes:
        item.path.write_text("ONE")
        return b"x"

    assert "is not what was recorded" in failing(home, spoil, check_input=True)
    assert not (home.data / "set").exists()


def test_a_record_that_the_manifest_refuses_is_a_failure_and_its_file_is_withdrawn(home: Home) -> None:
    failing(home, lambda _: Output(data=b"x", dataset="d" * 2_000_000))
    assert [path for path in home.data.rglob("*") if path.is_file()] == []


def test_the_item_has_the_record_and_its_path(home: Home) -> None:
    home.download(("a", "one"))
    seen: list[tuple[ManifestRecord, str]] = []
    home.run(lambda item: seen.append((item.record, item.path.read_text())))
    assert [(one.source_id, text) for one, text in seen] == [("a", "one")]
