"""How a search in the history is kept short: keys of packs, and where a search in reverse ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from manifestlog.engines.filelog.history import keys, reading
from manifestlog.model.events import Query
from manifestlog.queries import query

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["begun", "ended", "failed"])
def test_a_pack_knows_where_the_rare_kinds_are(kind: str) -> None:
    (key,) = reading.keys_of(query(kinds=[kind])) or ()
    assert key in keys.keys_in(b'{"op":"%b","ts":"x"}' % kind.encode())


@pytest.mark.parametrize("kinds", [["put"], ["begun", "ended"], []])
def test_other_kinds_are_searched_everywhere(kinds: list[str]) -> None:
    assert reading.keys_of(query(kinds=kinds)) is None


def test_a_text_that_looks_like_a_line_is_no_kind() -> None:
    assert keys.keys_in(b'{"op":"put","event":{"error":"{\\"op\\":\\"failed\\","}}') == set()


def test_a_source_is_searched_by_its_own_key() -> None:
    assert reading.keys_of(query(source_id="s", kinds=["failed"])) == (keys.source_key("s"),)


@pytest.mark.parametrize("many", [0, 1, 3])
def test_contents_are_searched_by_their_own_keys(many: int) -> None:
    asked = [f"{number:064x}" for number in range(many)]
    assert reading.keys_of(query(checksums=asked)) == tuple(map(keys.checksum_key, asked))


def test_a_search_in_reverse_ends_a_day_before_its_time() -> None:
    assert reading._end_of(query(since=MONDAY, reverse=True)) == "2026-01-04T00:00:00+00:00"


@pytest.mark.parametrize("asked", [query(since=MONDAY), query(reverse=True), query(since="0001-01-01", reverse=True)])
def test_any_other_search_reads_on(asked: Query) -> None:
    assert reading._end_of(asked) == ""
