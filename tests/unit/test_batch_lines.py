"""A batch line that is parsed for a search says the same as one that is parsed whole, of what is searched for."""

from __future__ import annotations

import random
from typing import Any

import pytest

from manifestlog.engines.filelog.history import batch_lines
from manifestlog.engines.filelog.history.batch_lines import parse
from manifestlog.engines.filelog.history.changes import changes
from manifestlog.model import codec
from manifestlog.model.changes import Change

from .builders import row, sha

COUNT = 60
ALIAS = {
    "source_id": "other",
    "dataset": "d",
    "file_path": "/x",
    "etag": None,
    "ts_downloaded": "2023-01-01T00:00:00Z",
    "version": "1",
}


@pytest.fixture(autouse=True)
def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search in the shortest line."""
    monkeypatch.setattr(batch_lines, "BYTES_MIN", 1)


def line(records: list[dict[str, Any]], **more: Any) -> bytes:
    return codec.dumps(
        {"op": "batch", "ts": "2026-01-01T00:00:00.000000Z", "synced": 5, "records": records, **more, "crc": "00000000"}
    )


def records(**more: Any) -> list[dict[str, Any]]:
    return [row(str(number), source=f"s{number}") | more for number in range(COUNT)]


def derived() -> list[dict[str, Any]]:
    return [one | {"derived_from": [sha(str(number + 1)), sha("all")]} for number, one in enumerate(records())]


def events(of: dict[int, Any]) -> list[Any]:
    return [of.get(number) for number in range(COUNT)]


LINES: dict[str, bytes] = {
    "plain": line(records()),
    "one record": line(records()[:1]),
    "inputs": line(derived()),
    "a run": line(records(), event={"run": "r1"}),
    "events": line(derived(), events=events({3: {"verdict": "changed", "was": {"etag": "x"}}, 7: {"run": "r2"}})),
    "inputs in an event": line(derived(), events=events({3: {"inputs": [sha("hidden")], "version": "3"}, 0: {"inputs": [sha("7")]}})),
    "inputs of all": line(records(), event={"inputs": [sha("hidden")]}),
    "other sources": line([one | {"also_seen": [ALIAS, ALIAS]} if n % 7 == 3 else one for n, one in enumerate(records())]),
    "one other source": line([one | {"also_seen": [ALIAS]} if n == 5 else one for n, one in enumerate(records())]),
    "unknown objects": line([one | {"parts": [{"source_id": "x", "checksum": sha("7")}, {"source_id": "y"}]} if n == 5 else one for n, one in enumerate(records())]),
    "an unknown object": line([one | {"part": {"source_id": "x"}} for one in records()]),
    "an unknown list": line([one | {"parts": [1, {"source_id": "x"}, {"source_id": sha("7")}, 2]} if n == 5 else one for n, one in enumerate(records())]),
    "text that looks like JSON": line(records(file_path='/x},{"source_id":"y","records":[{"checksum":"')),
    "forgets": line(records(), forgets=[sha("gone"), sha("7")], events=[None] * COUNT + [{"was": row("gone")}, None]),
    "forgets only": line([], forgets=[sha("gone")]),
    "too few events": line(records(), events=[None]),
    "events that are text": line(records(), events="x"),
    "an event that is text": line(records(), event="x"),
}  # fmt: skip
ASKED = [sha(text) for text in ("0", "7", "59", "60", "all", "hidden", "gone", "nowhere", "1")]


def concerning(data: dict[str, Any], asked: set[str]) -> list[tuple[int, Change]]:
    found = [(number, one) for number, one in enumerate(changes(data)) if one is not None]
    return [(number, one) for number, one in found if one.checksum in asked or asked & set(inputs(one))]


def inputs(one: Change) -> list[str]:
    told: list[str] = one.details["inputs"] if "inputs" in one.details else (one.row or {}).get("derived_from", [])
    return told


def finder(asked: set[str]) -> Any:
    texts = [f'"{one}"'.encode() for one in asked]

    def find(data: bytes, start: int = 0) -> int:
        return min((place for text in texts if (place := data.find(text, start)) >= 0), default=-1)

    return find


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("asked", ASKED)
def test_a_search_for_one_content_says_what_the_whole_line_says(name: str, asked: str) -> None:
    data = parse(LINES[name], finder({asked}))
    assert concerning(data, {asked}) == concerning(codec.loads(LINES[name]), {asked})


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("seed", range(5))
def test_a_search_for_several_contents_says_what_the_whole_line_says(name: str, seed: int) -> None:
    asked = set(random.Random(seed).sample([*ASKED, *(sha(str(number)) for number in range(COUNT))], 8))
    data = parse(LINES[name], finder(asked))
    assert concerning(data, asked) == concerning(codec.loads(LINES[name]), asked)


@pytest.mark.parametrize("name", LINES)
def test_there_are_as_many_events_as_in_the_whole_line(name: str) -> None:
    """A cursor counts them."""
    assert len(changes(parse(LINES[name], finder({sha("7")})))) == len(changes(codec.loads(LINES[name])))


@pytest.mark.parametrize("name", ["plain", "inputs", "events", "a run", "text that looks like JSON"])
def test_of_usual_records_only_those_are_parsed_that_are_searched_for(name: str) -> None:
    found = parse(LINES[name], finder({sha("7")}))["records"]
    assert sum(one is not None for one in found) <= 2


def test_a_short_line_is_parsed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lines, "BYTES_MIN", 1 << 20)
    assert parse(LINES["plain"], finder(set())) == codec.loads(LINES["plain"])
