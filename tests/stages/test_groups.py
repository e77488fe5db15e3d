"""Fan-in: one item for a group of records, made anew whenever a member is new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ProcessedManifestManager
from manifestlog.stages import Result, StageError

from .home import DOWNLOADS, PARSED, Home, sha

if TYPE_CHECKING:
    from manifestlog.stages import Item, StageReport


def join(item: Item) -> bytes:
    return "+".join(path.read_text() for path in item.paths).encode()


def grouped(home: Home, group_by: str = "dataset") -> StageReport:
    return home.run(join, group_by=group_by, output="{key}.txt")


def test_a_group_is_one_item_made_of_all_its_members(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"), dataset="red")
    home.download(("c", "3"), dataset="blue")
    assert grouped(home).counts == {Result.MADE: 2}
    assert home.outputs() == {"red.txt": "1+2", "blue.txt": "3"}


def test_the_output_is_derived_from_every_member(home: Home) -> None:
    members = home.download(("a", "1"), ("b", "2"))
    grouped(home)
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        (record,) = made.records.values()
    assert set(record.derived_from) == set(members)
    assert (record.source_id, record.dataset) == ("set", "set")


def test_a_new_member_makes_only_its_group_pending(home: Home) -> None:
    home.download(("a", "1"), dataset="red")
    home.download(("b", "2"), dataset="blue")
    grouped(home)
    home.download(("c", "3"), minute=5, dataset="red")
    assert [grouped(home).done, grouped(home).done] == [1, 0]
    assert "1+3" in home.outputs().values()


def test_a_group_has_only_the_latest_content_of_a_source(home: Home) -> None:
    home.download(("a", "old"), ("b", "2"), ("a", "new"))
    grouped(home)
    assert home.outputs() == {"set.txt": "2+new"}
    assert grouped(home).done == 0


def test_the_latest_output_of_a_group_is_current(home: Home) -> None:
    home.download(("a", "1"))
    grouped(home)
    home.download(("b", "2"), minute=-5)  # an earlier time: back-filled
    grouped(home)
    with ProcessedManifestManager(home.path(PARSED), read_only=True) as made:
        current = made.get_record_by_source("set")
    assert current is not None
    assert current.checksum == sha(b"2+1")


@pytest.mark.parametrize("group_by", ["source_id", r"/(\w)-[0-9a-f]+\.txt$", "{source_id}"])
def test_a_field_a_pattern_of_the_path_or_placeholders_make_the_key(home: Home, group_by: str) -> None:
    home.download(("a", "1"), ("b", "2"))
    grouped(home, group_by)
    assert home.outputs() == {"a.txt": "1", "b.txt": "2"}


def test_records_of_one_month_are_a_group(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    home.download(("c", "3"), minute=60 * 24 * 40)
    grouped(home, "{dataset}/{month}")
    assert home.outputs() == {"set/2024-01.txt": "1+2", "set/2024-02.txt": "3"}


def test_a_record_without_a_key_is_in_no_group(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    assert grouped(home, "/(a)-").counts == {Result.MADE: 1}
    assert grouped(home, "/(a)-").done == 0


def test_a_forgotten_member_makes_no_group_pending(home: Home) -> None:
    (first, _) = home.download(("a", "1"), ("b", "2"))
    grouped(home)
    with DownloadManifestManager(home.path(DOWNLOADS)) as downloads:
        downloads.forget(first)
    assert grouped(home).done == 0


def test_another_version_makes_every_group_anew(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    grouped(home)
    assert home.run(join, group_by="dataset", output="{key}.txt", version="2").done == 1


def test_a_group_that_failed_is_one_failure(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    home.run(lambda _: 1 / 0, group_by="dataset")
    with ProcessedManifestManager(home.path(PARSED)) as made:
        (failure,) = made.failures()
    assert (failure.source_id, len(failure.inputs), failure.attempts) == ("set", 2, 1)


@pytest.mark.parametrize(("group_by", "reason"), [("(", "no regular expression"), ("plain", "has no placeholder")])
def test_a_bad_group_by_is_refused(home: Home, group_by: str, reason: str) -> None:
    home.download(("a", "1"))
    with pytest.raises(StageError, match=reason):
        grouped(home, group_by)
