"""How a search in the history is kept short: keys of packs, and times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from manifestlog.engines.filelog.history import keys, reading
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


@pytest.mark.parametrize(("lines", "before"), [([4], True), ([4, 3], True), ([5, 4], False), ([4, 5], False)])
def test_lines_are_left_out_if_all_of_them_are_too_early(lines: list[int], before: bool) -> None:
    data = b"".join(b'{"op":"put","ts":"2026-01-%02dT00:00:00.000000Z"}\n' % day for day in lines)
    assert reading._is_before(data, query(since=MONDAY).since.encode()) is before


def test_a_search_without_a_time_leaves_out_nothing() -> None:
    assert not reading._is_before(b'{"op":"seal"}\n', b"")
