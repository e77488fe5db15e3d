"""Stages that other programs run: what is pending, what is recorded, what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    EventKind,
    ManifestNotFoundError,
    ProcessedManifestManager,
    RecordRejectedError,
    UnknownContentError,
    trace,
)
from manifestlog.stages import invalid, loaded, nothing, valid
from manifestlog.stages.by_hand import ByHand
from manifestlog.stages.report import Result

from .home import DOWNLOADS, FAST, PARSED, sha

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog import ManifestRecord
    from manifestlog.stages import Outcome

    from .home import Home


def by_hand(home: Home, **more: Any) -> ByHand:
    given: dict[str, Any] = {"manifest": PARSED, "upstream": DOWNLOADS, "directory": home.manifests, "options": FAST}
    return ByHand(**given | more)


def make(home: Home, name: str, text: str = "made") -> Path:
    path = home.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def keys(home: Home, **more: Any) -> list[str]:
    return [ref.key for ref in by_hand(home, **more).pending()]


def only_record(home: Home) -> ManifestRecord:
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as manifest:
        (found,) = manifest.records.values()
        return found


# -- pending -----------------------------------------------------------------------------------------------------------


def test_everything_is_pending_for_a_manifest_that_does_not_exist(home: Home) -> None:
    assert sorted(home.download(("a", "1"), ("b", "2"))) == keys(home)
    assert not home.path(PARSED).exists()


def test_a_recorded_input_is_not_pending(home: Home) -> None:
    first, second = home.download(("a", "1"), ("b", "2"))
    by_hand(home).record([first], [make(home, "a.json")])
    assert keys(home) == [second]


def test_what_a_stage_has_done_is_not_pending(home: Home) -> None:
    home.download(("a", "1"))
    home.run(lambda item: item.path.read_bytes() + b"!")
    assert keys(home, version="1.0.0") == []


def test_what_is_recorded_by_hand_is_not_pending_for_a_stage(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home).record([first], [make(home, "a.json")])
    assert home.run(lambda item: item.path.read_bytes()).counts.total() == 0


def test_the_name_of_the_stage_that_wrote_the_manifest_is_taken_over(home: Home) -> None:
    home.download(("a", "1"))
    home.run(lambda item: item.path.read_bytes() + b"!", name="another-name")
    assert keys(home) == []


def test_for_another_version_everything_is_pending_again(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home).record([first], [make(home, "a.json")])
    assert keys(home, version="2.0.0") == [first]


def test_the_version_is_that_of_the_manifest(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home, version="2.0.0").record([first], [make(home, "a.json")])
    assert keys(home) == []


def test_a_pattern_selects(home: Home) -> None:
    first, _ = home.download(("a", "1"), ("b", "2"))
    assert [ref.key for ref in by_hand(home).pending(only="a")] == [first]


def test_a_missing_upstream_manifest_is_an_error(home: Home) -> None:
    with pytest.raises(ManifestNotFoundError):
        by_hand(home).pending()


# -- record ------------------------------------------------------------------------------------------------------------


def test_an_output_has_the_source_and_time_of_its_input(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home).record([first], [make(home, "a.json")])
    found = only_record(home)
    assert (found.source_id, found.dataset, found.derived_from) == ("a", "set", (first,))


def test_an_output_is_recorded_with_what_its_file_holds(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    (made,) = by_hand(home).record([first], [make(home, "a.json", "content")]).outputs
    assert (made.checksum, made.file_size) == (sha(b"content"), 7)
    assert home.outputs() == {"a.json": "content"}


def test_an_input_can_be_named_by_its_file(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    (ref,) = by_hand(home).pending()
    by_hand(home).record([ref.file_path], [make(home, "a.json")])
    assert only_record(home).derived_from == (first,)


def test_the_upstream_manifest_is_found(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home, upstream=None).record([first], [make(home, "a.json")])
    assert keys(home) == []


def test_an_unknown_input_is_refused_by_the_name_that_was_given(home: Home) -> None:
    home.download(("a", "1"))
    stranger = make(home, "stranger.txt", "nobody knows me")
    with pytest.raises(UnknownContentError, match=r"stranger\.txt"):
        by_hand(home).record([stranger], [make(home, "a.json")])
    assert not home.path(PARSED).exists()


def test_several_outputs_are_told_apart_by_their_names(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home).record([first], [make(home, "x.json", "x"), make(home, "y.json", "y")])
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as manifest:
        assert {one.source_id for one in manifest.records.values()} == {"a/x.json", "a/y.json"}


def test_an_output_of_several_inputs_is_derived_from_all_of_them(home: Home) -> None:
    inputs = home.download(("a", "1"), ("b", "2"))
    by_hand(home).record(inputs, [make(home, "all.json")])
    assert keys(home) == []
    found = only_record(home)
    assert found.derived_from == tuple(sorted(inputs))
    assert found.source_id.endswith("all.json")


def test_the_source_of_an_output_can_be_given(home: Home) -> None:
    inputs = home.download(("a", "1"), ("b", "2"))
    by_hand(home).record(inputs, [make(home, "all.json")], source_id="everything", dataset="merged")
    found = only_record(home)
    assert (found.source_id, found.dataset) == ("everything", "merged")


def test_recording_the_same_again_changes_nothing(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    for _ in range(2):
        by_hand(home).record([first], [make(home, "a.json")])
    assert len(home.events(kinds=[EventKind.PUT, EventKind.DERIVED])) == 1


def test_trace_leads_from_the_output_to_the_download(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    path = make(home, "a.json")
    by_hand(home).record([first], [path])
    with (
        ProcessedManifestManager(home.path(DOWNLOADS), read_only=True) as downloads,
        ProcessedManifestManager(home.path(PARSED), read_only=True) as parsed,
    ):
        found = trace([downloads, parsed], path=path)
    assert first in found.contents


def test_an_empty_output_is_refused(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    with pytest.raises(RecordRejectedError, match="is empty"):
        by_hand(home).record([first], [make(home, "a.json", "")])
    assert keys(home) == [first]


def test_an_output_that_is_a_link_is_refused_as_such(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    (home.data / "link.json").symlink_to(make(home, "a.json"))
    with pytest.raises(
        RecordRejectedError, match=r"^record rejected: .*/link\.json is a symbolic link to .*/a\.json; "
    ):
        by_hand(home).record([first], [home.data / "link.json"])


def test_an_input_may_be_a_link_to_its_file(home: Home) -> None:
    home.download(("a", "1"))
    (source,) = (home.root / "raw").rglob("a-*.txt")
    (home.root / "link.txt").symlink_to(source)
    by_hand(home).record([home.root / "link.txt"], [make(home, "a.json")])
    assert keys(home) == []


def test_a_missing_output_is_refused(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    with pytest.raises(FileNotFoundError):
        by_hand(home).record([first], [home.data / "missing.json"])
    assert keys(home) == [first]


def test_outputs_and_an_outcome_exclude_each_other(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    with pytest.raises(ValueError, match="give outputs, or an outcome"):
        by_hand(home).record([first], [make(home, "a.json")], outcome=nothing())


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (nothing("no rows"), Result.NOTHING),
        (valid(), Result.VALID),
        (invalid("bad header"), Result.INVALID),
        (loaded(5), Result.LOADED),
    ],
)
def test_what_else_came_of_an_input_is_recorded(home: Home, outcome: Outcome, result: Result) -> None:
    (first,) = home.download(("a", "1"))
    assert by_hand(home).record([first], outcome=outcome).result == result
    assert keys(home) == []


def test_the_reason_is_in_the_history(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home).record([first], outcome=invalid("bad header"))
    (event,) = home.events(kinds=[EventKind.PUT])
    assert (event.judgement, event.details["reason"]) == ("invalid", "bad header")


# -- fail --------------------------------------------------------------------------------------------------------------


def test_a_failed_input_stays_pending(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home).fail([first], "boom", exit_code=3)
    assert keys(home) == [first]


def test_a_failure_says_what_failed_and_why(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home, version="2.0.0").fail([first], "boom", exit_code=3, stderr="line 1\nline 2")
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as manifest:
        (failure,) = manifest.failures()
    assert (failure.inputs, failure.error, failure.exit_code) == ((first,), "boom", 3)
    assert (failure.version, failure.stderr) == ("2.0.0", "line 1\nline 2")


def test_a_record_ends_the_failure(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    by_hand(home).fail([first], "boom")
    by_hand(home).record([first], [make(home, "a.json")])
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as manifest:
        assert manifest.failures() == []


def test_failures_by_hand_count_for_giving_up(home: Home) -> None:
    (first,) = home.download(("a", "1"))
    for _ in range(2):
        by_hand(home, version="1.0.0").fail([first], "boom")
    assert home.run(lambda item: item.path.read_bytes(), give_up_after=2).counts[Result.GIVEN_UP] == 1
