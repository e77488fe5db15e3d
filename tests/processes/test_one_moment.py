"""A copy of the records is of one moment, also while another process forgets, changes and compacts."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from contract.builders import META, QUIET, record, sha
from manifestlog import DownloadManifestManager, ManifestRecord
from manifestlog.records import Records
from support.records import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.children import Link, Start

COUNT = 400
CONTENTS = [f"c{n}" for n in range(COUNT)]
FIRST = {sha(content): record(content) for content in CONTENTS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / NAME
    with DownloadManifestManager(found, META, options=QUIET) as manager:
        manager.add_many(FIRST.values())
        manager.save()
    return found


@pytest.fixture
def reader(path: Path) -> Iterator[DownloadManifestManager]:
    with DownloadManifestManager(path, options=QUIET) as manager:
        yield manager


def _forget_all(link: Link, path: Path) -> None:
    link.recv()
    with DownloadManifestManager(path, options=QUIET) as manager:
        for content in CONTENTS:
            manager.forget(sha(content))
        manager.add(record("new"))
        manager.save()


def _change_all(link: Link, path: Path) -> None:
    link.recv()
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.add_many(record(content, 9, etag="changed") for content in CONTENTS)


def _elsewhere(start: Start, path: Path, act: Callable[..., None]) -> None:
    child = start(act, path)
    child.send("go")
    child.result()


CHANGES = [_forget_all, _change_all]


@pytest.mark.parametrize("act", CHANGES)
def test_the_records_of_taken_keys_are_of_the_moment_of_the_taking(
    path: Path, reader: DownloadManifestManager, start: Start, act: Callable[..., None]
) -> None:
    """`dict(records)` does just this: all keys first, then each record."""
    records = reader.records
    keys = list(records.keys())
    _elsewhere(start, path, act)
    assert {key: records[key] for key in keys} == FIRST


@pytest.mark.parametrize("act", CHANGES)
def test_a_loop_over_the_keys_finds_each_record_as_it_was(
    path: Path, reader: DownloadManifestManager, start: Start, act: Callable[..., None]
) -> None:
    records = reader.records
    found = {}
    for number, key in enumerate(records):
        if number == 3:
            _elsewhere(start, path, act)
        found[key] = records[key]
    assert found == FIRST


def test_a_loop_that_leaves_some_out_finds_the_others(
    path: Path, reader: DownloadManifestManager, start: Start
) -> None:
    records = reader.records
    found = []
    for number, key in enumerate(records.keys()):
        if number == 3:
            _elsewhere(start, path, _forget_all)
        if number % 3 == 2:
            found.append(records[key])
    assert len(found) == COUNT // 3


COPIES: list[Callable[[Records], dict[str, ManifestRecord]]] = [
    dict,
    lambda records: {**records},
    lambda records: dict(records.items()),
    lambda records: {} | dict(records),
    lambda records: {key: records[key] for key in records},
]


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_beside_a_process_that_forgets_holds_what_one_moment_held(
    path: Path, reader: DownloadManifestManager, start: Start, copy: Callable[[Records], dict[str, ManifestRecord]]
) -> None:
    """Contents go in a known order, so that what is left tells whether it was ever all there was."""
    child = start(_forget_all, path)
    child.send("go")
    while len(reader) >= COUNT:
        pass
    left = COUNT
    while left > 1:
        found = copy(reader.records)
        left = len(found)
        gone = COUNT - left
        assert found.keys() in (
            {sha(c) for c in CONTENTS[gone:]},
            {sha("new"), *(sha(c) for c in CONTENTS[gone + 1 :])},
        )
    child.result()


def test_after_a_copy_answers_are_of_now_again(path: Path, reader: DownloadManifestManager, start: Start) -> None:
    records = reader.records
    dict(records)
    _elsewhere(start, path, _forget_all)
    with pytest.raises(KeyError):
        records[min(FIRST)]


def test_after_a_loop_answers_are_of_now_again(path: Path, reader: DownloadManifestManager, start: Start) -> None:
    records = reader.records
    first = next(iter(list(records)))
    _elsewhere(start, path, _forget_all)
    with pytest.raises(KeyError):
        records[first]


def test_get_answers_for_now(path: Path, reader: DownloadManifestManager, start: Start) -> None:
    """In the middle of a loop, too."""
    records = reader.records
    keys = iter(records.keys())
    first = next(keys)
    _elsewhere(start, path, _forget_all)
    assert records.get(first) is None


def test_threads_copy_one_object_beside_each_other(reader: DownloadManifestManager) -> None:
    records = reader.records
    found: list[dict[str, ManifestRecord]] = []
    threads = [Thread(target=lambda: found.append(dict(records))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FIRST] * 4


def test_a_copy_in_a_loop_does_not_disturb_the_loop(path: Path, reader: DownloadManifestManager, start: Start) -> None:
    records = reader.records
    found = {}
    for number, key in enumerate(records):
        if number == 3:
            dict(records)
            _elsewhere(start, path, _forget_all)
        found[key] = records[key]
    assert found == FIRST
