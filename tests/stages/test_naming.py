"""Placeholders, safe names, and the keys of groups."""

from __future__ import annotations

from typing import Any

import pytest

from manifestlog.stages import StageError, naming

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
    with pytest.raises(naming.OutputNameError):
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


@pytest.mark.parametrize(
    "group_by",
    ["{dataset}/{mnth}", "{key}", "{dataset}-{stage}", "{dataset}/{month", "{dataset}/{Month}", "(", "plain"],
)
def test_what_groups_nothing_is_refused(group_by: str) -> None:
    with pytest.raises(StageError, match="group_by"):
        naming.GroupKey("s", group_by)


# -- patterns that no item can use -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    ["../x/{stem}.csv", "a/../{stem}", "{dataset}/..", "/srv/{stem}.csv", "//srv/{stem}", "s3://bucket/{stem}.csv"],
)
def test_a_pattern_that_leads_out_is_refused(pattern: str) -> None:
    assert str(naming.output_problem(pattern)).startswith("leads out of output_dir; ")


@pytest.mark.parametrize("pattern", ["~/{stem}.csv", "~etl/{stem}", "$HOME/{stem}.csv", "${HOME}/x", "${stem}.csv"])
def test_a_pattern_for_a_shell_is_refused(pattern: str) -> None:
    assert str(naming.output_problem(pattern)).startswith("~ and $ are not expanded")


@pytest.mark.parametrize(
    "pattern", ["{stem", "stem}.csv", "{dataset}/{stem.csv", "{Stem}.csv", "{stem:>9}", "{{stem}}"]
)
def test_a_pattern_with_a_brace_of_no_placeholder_is_refused(pattern: str) -> None:
    assert str(naming.output_problem(pattern)).startswith("a brace is not closed, not opened, or holds no placeholder")


@pytest.mark.parametrize("pattern", ["{nmae}", "{stem}.{}", "{input}.csv", "{dataset}/{output}"])
def test_a_pattern_with_an_unknown_placeholder_is_refused(pattern: str) -> None:
    assert "is no placeholder of an output's name; expected " in str(naming.output_problem(pattern))


@pytest.mark.parametrize("pattern", [".", "{dataset}/", "{dataset}/."])
def test_a_pattern_that_names_a_directory_is_refused(pattern: str) -> None:
    assert str(naming.output_problem(pattern)).startswith("names a directory; ")


@pytest.mark.parametrize(
    "pattern",
    [".hidden/{stem}", "{stem}.", "-{stem}", "a:b/{stem}", "con{suffix}", "{stem}.part", "{suffix}", "a" * 181],
)
def test_a_pattern_whose_every_name_is_unsafe_is_refused(pattern: str) -> None:
    assert str(naming.output_problem(pattern)).startswith("a part of it ")


@pytest.mark.parametrize(
    "pattern",
    [
        "same.txt", "{dataset}/{name}", "{stem}-{checksum8}{suffix}", "au{stem}", "com{stem}", "x.part{suffix}", "x.{suffix}",
        "{source_id}/{year}/{month}/{date}/{hour}", "a//./{stem}", "a..b/{stem}", "{stem}~", "price$usd/{stem}", "a" * 180,
        "{parent}/{key}-{stage}-{version}",
    ],
)  # fmt: skip
def test_a_pattern_that_some_item_can_use_is_accepted(pattern: str) -> None:
    """What its values make of it is found out for each item."""
    assert naming.output_problem(pattern) is None
