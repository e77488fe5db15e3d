"""`decide`, by table: from what is known and what happened to a verdict and a row."""

from __future__ import annotations

import pytest

from manifestlog.model.rows import Row, Sighting, observations, sort_key
from manifestlog.model.verdict import Verdict, decide

from .builders import row, sha


def _sighting(seen: Row) -> Sighting:
    return Sighting(sort_key(seen), seen["dataset"], seen["checksum"])


A1, A2, A3 = row("a", 1), row("a", 2), row("a", 3)
B1, B2, B3 = row("b", 1), row("b", 2), row("b", 3)
OTHER = row("a", 1, source="other")

TABLE: list[tuple[str, Row, Row | None, list[Row], Verdict]] = [
    ("nothing known", A1, None, [], Verdict.NEW),
    ("the source_id has another dataset", A1, None, [row("b", 1, dataset="x")], Verdict.NEW),
    ("the pair has other content", A2, None, [B1], Verdict.CHANGED),
    ("the pair has later content", A1, None, [B2], Verdict.CHANGED),
    ("the same again", A1, A1, [A1], Verdict.DUPLICATE),
    ("the same later", A2, A1, [A1], Verdict.DUPLICATE),
    ("the same by another version", row("a", 1, version="9"), A1, [A1], Verdict.DUPLICATE),
    ("another ETag", row("a", 2, etag="x"), A1, [A1], Verdict.REFRESHED),
    ("another ETag, same time", row("a", 1, etag="x"), A1, [A1], Verdict.REFRESHED),
    ("another ETag, older", row("a", 0, etag="x"), A1, [A1], Verdict.DUPLICATE),
    ("another path", row("a", 2, file_path="/x"), A1, [A1], Verdict.REFRESHED),
    ("another last_modified", row("a", 2, last_modified="x"), A1, [A1], Verdict.REFRESHED),
    ("had it before, later event", A3, A1, [B2], Verdict.REVERTED),
    ("had it before, same time", A2, A1, [B2], Verdict.DUPLICATE),
    ("had it before, older event", A2, A1, [B3], Verdict.DUPLICATE),
    ("another source", A2, OTHER, [], Verdict.ALIAS),
    ("another source, and other content here", A2, OTHER, [B1], Verdict.ALIAS),
    ("another source, and later content here", A2, OTHER, [B3], Verdict.ALIAS),
    ("another source_id", row("a", 2), OTHER, [], Verdict.ALIAS),
]


@pytest.mark.parametrize(
    ("event", "known", "latest", "expected"), [pytest.param(*each[1:], id=each[0]) for each in TABLE]
)
def test_the_verdict(event: Row, known: Row | None, latest: list[Row], expected: Verdict) -> None:
    """The first row of the table that fits."""
    assert decide(event, known, [_sighting(seen) for seen in latest])[0] is expected


@pytest.mark.parametrize(
    ("event", "known", "latest", "expected"), [pytest.param(*each[1:], id=each[0]) for each in TABLE]
)
def test_only_a_duplicate_writes_nothing(event: Row, known: Row | None, latest: list[Row], expected: Verdict) -> None:
    """Every other verdict comes with a row to append."""
    stored = decide(event, known, [_sighting(seen) for seen in latest])[1]
    assert (stored is None) == (expected is Verdict.DUPLICATE)


@pytest.mark.parametrize(
    ("event", "known", "latest"), [pytest.param(*each[1:4], id=each[0]) for each in TABLE if each[2]]
)
def test_no_source_is_forgotten(event: Row, known: Row, latest: list[Row]) -> None:
    """A row that is written has every source that the known row had."""
    stored = decide(event, known, [_sighting(seen) for seen in latest])[1] or known
    had = {(o["source_id"], o["dataset"]) for o in observations(known)}
    assert had <= {(o["source_id"], o["dataset"]) for o in observations(stored)}


@pytest.mark.parametrize(("event", "known", "latest"), [pytest.param(*each[1:4], id=each[0]) for each in TABLE])
def test_the_arguments_are_not_changed(event: Row, known: Row | None, latest: list[Row]) -> None:
    """Nothing that is passed in is changed."""
    before = repr((event, known, latest))
    decide(event, known, [_sighting(seen) for seen in latest])
    assert repr((event, known, latest)) == before


def test_a_tie_is_won_by_the_later() -> None:
    """A content at the time of the current one gets a higher rank."""
    stored = decide(B1, None, [_sighting(A1)])[1]
    assert stored is not None
    assert sort_key(stored) > sort_key(A1)


def test_a_tie_of_a_tie_is_won_by_the_latest() -> None:
    """Ranks go on."""
    second = decide(B1, None, [_sighting(A1)])[1]
    assert second is not None
    third = decide(row("c", 1), None, [_sighting(second)])[1]
    assert third is not None
    assert sort_key(third) > sort_key(second)


def test_a_tie_with_another_dataset_is_won_by_the_later() -> None:
    """Also without a dataset, the later in the log answers for the source."""
    stored = decide(row("b", 1, dataset="x"), None, [_sighting(A1)])[1]
    assert stored is not None
    assert sort_key(stored) > sort_key(A1)


def test_no_tie_no_rank() -> None:
    """A record without a rival at its time has no rank in its JSON."""
    stored = decide(B2, None, [_sighting(A1)])[1]
    assert stored is not None
    assert "tie" not in stored


def test_a_refresh_keeps_the_rank_of_its_time() -> None:
    """A winner of a tie that is refreshed at the same time stays the winner."""
    winner = row("b", 1, tie=1)
    stored = decide(row("b", 1, etag="x"), winner, [_sighting(winner)])[1]
    assert stored is not None
    assert sort_key(stored) >= sort_key(winner)


def test_a_refresh_at_a_rivals_time_wins() -> None:
    """A refresh that comes to the time of another dataset's record is the later in the log."""
    rival = row("b", 2, dataset="x")
    stored = decide(row("a", 2, etag="x"), A1, [_sighting(A1), _sighting(rival)])[1]
    assert stored is not None
    assert sort_key(stored) > sort_key(rival)


def test_the_latest_of_several_layers_counts() -> None:
    """A pair may be sighted in the log and in the canonical; the greatest is its current."""
    assert decide(A2, A1, [_sighting(B1), _sighting(B3)])[0] is Verdict.DUPLICATE


def test_a_known_output_made_from_other_inputs_shows_those() -> None:
    """The record shows the latest derivation; the history has the earlier one."""
    known = row("a", 1, derived_from=[sha("i")])
    stored = decide(row("a", 1, derived_from=[sha("j")]), known, [_sighting(known)])[1]
    assert stored is not None
    assert stored["derived_from"] == [sha("j")]


def test_a_known_output_made_by_another_version_is_refreshed() -> None:
    """Otherwise the question whether version 2 has done its work would have no answer."""
    known = row("a", 1, derived_from=[sha("i")], version="1")
    verdict, stored = decide(row("a", 2, derived_from=[sha("i")], version="2"), known, [_sighting(known)])
    assert (verdict, stored and stored["version"]) == (Verdict.REFRESHED, "2")


def test_a_known_output_made_the_same_way_is_a_duplicate() -> None:
    """The same version and inputs say nothing new."""
    known = row("a", 1, derived_from=sorted([sha("i"), sha("j")]))
    again = row("a", 2, derived_from=[sha("j"), sha("i")])
    assert decide(again, known, [_sighting(known)])[0] is Verdict.DUPLICATE
