"""Lineage: exploring what was made from what, and folding rows and events into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifestlog import Derivation, Event, EventKind, Lineage
from manifestlog.model.lineage import deliveries_in, derivations_in, explore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog import Delivery


class Ledger:
    """What was made from what, as letters."""

    def __init__(self, *made: tuple[str, str]) -> None:
        self.made = [Derivation("m", output, tuple(inputs), None, "1", None, "") for inputs, output in made]

    def deliveries(self, checksums: Sequence[str]) -> Sequence[Sequence[Delivery]]:
        return [()] * len(checksums)

    def made_by(self, checksums: Sequence[str]) -> list[Derivation]:
        return [one for checksum in checksums for one in self.made if one.output == checksum]

    def made_of(self, checksums: Sequence[str]) -> list[Derivation]:
        return [one for checksum in checksums for one in self.made if checksum in one.inputs]


DIAMOND = Ledger(("a", "b"), ("a", "c"), ("bc", "d"), ("d", "e"), ("x", "y"))


def _explored(start: str, ledger: Ledger = DIAMOND, *, up: bool = True, down: bool = True) -> Lineage:
    return explore([start], ledger, up=up, down=down)


def test_up_leads_to_every_input() -> None:
    assert set(_explored("d", down=False).contents) == set("dbca")


def test_down_leads_to_every_output() -> None:
    assert set(_explored("a", up=False).contents) == set("abcde")


def test_both_ways_do_not_turn_on_the_way() -> None:
    assert set(_explored("b").contents) == set("bade")


def test_each_derivation_comes_once() -> None:
    assert len(_explored("d").derivations) == 4


def test_what_is_not_connected_is_left_out() -> None:
    assert "x" not in _explored("d").contents


def test_a_cycle_ends() -> None:
    ledger = Ledger(("a", "b"), ("b", "a"), ("a", "a"))
    assert set(_explored("a", ledger).contents) == {"a", "b"}


def test_a_long_chain_is_no_problem() -> None:
    ledger = Ledger(*((chr(number), chr(number + 1)) for number in range(100, 1700)))
    assert len(_explored(chr(1700), ledger, down=False).contents) == 1601


# -- folds -------------------------------------------------------------------------------------------------------------

A, B, C = "a" * 64, "b" * 64, "c" * 64


def _row(checksum: str = C, **more: Any) -> dict[str, Any]:
    seen = {"source_id": "s", "dataset": "d", "file_path": "f", "etag": None, "ts_downloaded": "2026-01-01T00:00:00Z"}
    return {**seen, "checksum": checksum, "file_size": 1, "version": "1"} | more


def _event(row: dict[str, Any] | None, kind: EventKind = EventKind.PUT, **details: Any) -> Event:
    checksum = row["checksum"] if row else details.get("checksum")
    return Event("0.1.5", "2026-02-01T00:00:00.000000Z", kind, checksum, row, details)


def test_a_record_with_inputs_is_a_derivation() -> None:
    (found,) = derivations_in("m", [_row(derived_from=[A])], [])
    assert (found.output, found.inputs, found.version) == (C, (A,), "1")


def test_a_record_and_its_event_are_one_derivation() -> None:
    row = _row(derived_from=[A])
    (found,) = derivations_in("m", [row], [_event(row, stage="clean", run="r")])
    assert (found.stage, found.run) == ("clean", "r")


def test_an_earlier_derivation_is_only_in_the_history() -> None:
    found = derivations_in("m", [_row(derived_from=[B])], [_event(_row(derived_from=[A]))])
    assert {one.inputs for one in found} == {(A,), (B,)}


def test_a_repeated_derivation_counts_once() -> None:
    event = _event(None, EventKind.DERIVED, checksum=C, inputs=[A], version="1")
    assert len(derivations_in("m", [], [event, event])) == 1


def test_a_failure_is_no_derivation() -> None:
    assert derivations_in("m", [], [_event(None, EventKind.FAILED, inputs=[A])]) == []


def test_a_delivery_has_the_address_of_its_event() -> None:
    row = _row()
    (found,) = deliveries_in("m", row, [_event(row, url="https://h/f", status=200)])
    assert (found.url, found.status, found.recorded) == ("https://h/f", 200, True)


def test_a_later_event_without_an_address_keeps_the_known_one() -> None:
    row = _row()
    (found,) = deliveries_in("m", row, [_event(row, url="https://h/f"), _event(row, verdict="refreshed")])
    assert found.url == "https://h/f"


def test_each_source_is_a_delivery_of_its_own() -> None:
    row = _row(also_seen=[_row(source_id="t")])
    assert [one.source_id for one in deliveries_in("m", row, [])] == ["s", "t"]


def test_a_forgotten_delivery_is_marked() -> None:
    (found,) = deliveries_in("m", None, [_event(_row(), url="https://h/f")])
    assert (found.url, found.recorded) == ("https://h/f", False)
