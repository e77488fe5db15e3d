"""Placeholders, safe names, and the keys of groups."""

from __future__ import annotations

from typing import Any

import pytest

from manifestlog.stages import naming

ROW: dict[str, Any] = {
    "source_id": "prices",
    "dataset": "market",
    "checksum": "0123456789abcdef" * 4,
    "file_path": "raw/2024/prices.csv.gz",
    "ts_downloaded": "2024-02-03T04:05:06Z",
}
VALUES = naming.row_values(ROW, ROW["ts_downloaded"])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{dataset}/{stem}.json", "market/prices.json"),
        ("{name}", "prices.csv.gz"),
        ("{stem}-{checksum8}{suffix}", "prices-01234567.csv.gz"),
        ("{parent}/{year}/{month}/{date}/{hour}", "2024/2024/2024-02/2024-02-03/2024-02-03T04"),
        ("{unknown}/x", "{unknown}/x"),
    ],
)
def test_placeholders_are_replaced(pattern: str, found: str) -> None:
    assert naming.output_name(pattern, VALUES) == found


@pytest.mark.parametrize(
    ("dataset", "found"),
    [("a/b", "a/b/x"), ("../..", "__/__/x"), ("/etc", "etc/x"), ("", "download/x"), ("a:b\n", "a_b_/x")],
)
def test_a_value_never_leaves_its_directory(dataset: str, found: str) -> None:
    assert naming.output_name("{dataset}/x", VALUES | {"dataset": dataset}) == found


@pytest.mark.parametrize("name", ["/a", "../a", "a/../b", "", ".", "a/.b", "a.part", "a\0b", "con"])
def test_a_given_name_that_is_not_safe_is_refused(name: str) -> None:
    with pytest.raises(naming.OutsideError):
        naming.checked(name)


def test_a_given_name_has_one_spelling() -> None:
    assert naming.checked("a//./b") == "a/b"


def test_an_alternate_name_keeps_its_suffixes() -> None:
    assert naming.alternate("/d/prices.csv.gz", "ab" * 32) == "/d/prices-abababababab.csv.gz"


@pytest.mark.parametrize(
    ("group_by", "key"),
    [
        ("dataset", "market"),
        ("source_id", "prices"),
        ("{dataset}-{month}", "market-2024-02"),
        (r"/(\d{4})/", "2024"),
        (r"/(\d{4})/(\w+)\.", "2024/prices"),
        (r"(\d{4})/(nothing)?", "2024"),
        (r"(nothing)", None),
        (r"(\w{6})\.csv", "prices"),
    ],
)
def test_a_group_has_a_key(group_by: str, key: str | None) -> None:
    assert naming.GroupKey("s", group_by).of(ROW) == key


@pytest.mark.parametrize(("text", "unknown"), [("{stem}{x}", "x"), ("{input}", "input"), ("{stem}", None)])
def test_a_placeholder_that_means_nothing_is_named(text: str, unknown: str | None) -> None:
    assert naming.unknown_placeholder(text, paths=False) == unknown
