"""What a copy finds in the place of its history: that of its own try, which was killed, or that of another manifest."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ManifestError, copy_manifest, mirror_manifest
from manifestlog.files import disk
from support.damage import flip
from support.faults import before, die

from .builders import META, QUIET, at, record
from .copies import live, not_over_another_history, seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Link, Start

NAME = "systems_download.manifest.json"
STEM = NAME.removesuffix(".json")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A manifest in which everything has happened."""
    path = tmp_path / "original" / NAME
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        live(manifest)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another manifest of that name."""
    path = tmp_path / "other" / NAME
    with DownloadManifestManager(path, META.model_copy(update={"ts_created": at(9)}), options=QUIET) as manifest:
        manifest.add(record("other"))
    return path


@pytest.fixture
def target(directory: Path) -> Path:
    """Where the copy goes; it is checked when the test is over."""
    return directory / NAME


def _copy(source: Path, target: Path) -> None:
    copy_manifest(source, target, options=QUIET)


def _copy_in_small_segments(source: Path, target: Path) -> None:
    copy_manifest(source, target, options=replace(QUIET, segment_bytes_max=1))


def _mirror(source: Path, target: Path) -> None:
    mirror_manifest(source, target.parent, options=QUIET)


def _until_it_has_its_name(_link: Link, act: Callable[[Path, Path], None], source: Path, target: Path) -> None:
    before(disk, "publish_new", die)
    act(source, target)


def _killed(start: Start, source: Path, target: Path, act: Callable[[Path, Path], None] = _copy) -> bytes:
    """Kill a copy when its history has its name, and its canonical has not; return the first file of the history."""
    assert start(_until_it_has_its_name, act, source, target).join() == -9
    assert not target.exists()
    return _history(target)[0].read_bytes()


def _history(target: Path) -> list[Path]:
    return sorted(target.parent.glob(f"history/{STEM}.*"))


def _in_quarantine(target: Path) -> list[bytes]:
    return [file.read_bytes() for file in target.parent.glob("quarantine/*/*")]


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# -- that of its own try -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [_copy, _copy_in_small_segments, _mirror])
def test_the_next_copy_goes_on_over_the_history_of_a_killed_one(
    start: Start, source: Path, target: Path, act: Callable[[Path, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    _killed(start, source, target, act)
    act(source, target)
    assert (seen(target), _in_quarantine(target), _warnings(caplog)) == (seen(source), [], [])


def test_it_does_so_although_its_source_has_gone_on(
    start: Start, source: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _killed(start, source, target)
    with DownloadManifestManager(source, options=QUIET) as manifest:
        manifest.add(record("later", 60))
    _copy(source, target)
    assert (seen(target), _in_quarantine(target), _warnings(caplog)) == (seen(source), [], [])


def test_what_was_killed_in_smaller_segments_leaves_none_of_them(start: Start, source: Path, target: Path) -> None:
    _killed(start, source, target, _copy_in_small_segments)
    _copy(source, target)
    assert (seen(target), len(_history(target))) == (seen(source), 1)


def test_a_damaged_pack_of_a_killed_copy_goes_to_quarantine(start: Start, source: Path, target: Path) -> None:
    _killed(start, source, target)
    (pack,) = _history(target)
    flip(pack, 10)
    damaged = pack.read_bytes()
    _copy(source, target)
    assert _in_quarantine(target) == [damaged]


# -- that of another manifest ------------------------------------------------------------------------------------------


def test_the_history_of_another_manifest_goes_to_quarantine(
    start: Start, source: Path, other: Path, target: Path
) -> None:
    left = _killed(start, other, target)
    _copy(source, target)
    assert (seen(target), _in_quarantine(target)) == (seen(source), [left])


def test_so_does_that_of_a_manifest_that_began_as_this_one(directory: Path) -> None:
    not_over_another_history(directory / NAME)


def test_so_does_one_beside_an_empty_manifest(start: Start, source: Path, other: Path, target: Path) -> None:
    """As after a restore of an old canonical alone."""
    left = _killed(start, other, target)
    empty = source.parent / "empty_download.manifest.json"
    DownloadManifestManager(empty, META, options=QUIET).close()
    target.write_bytes(empty.read_bytes())
    _copy(source, target)
    assert (seen(target), _in_quarantine(target)) == (seen(source), [left])


def test_a_follower_of_an_empty_manifest_stays_registered(source: Path, target: Path) -> None:
    with DownloadManifestManager(target, META, options=QUIET) as manifest:
        manifest.register_follower("other", manifest.cursor)
    _copy(source, target)
    assert [file for file in _history(target) if "follower" in file.name]


def test_a_copy_that_is_refused_moves_no_history(source: Path, target: Path) -> None:
    """What is there has lost its canonical: its log and its history are what a repair makes a new one of."""
    with DownloadManifestManager(target, META, options=QUIET) as manifest:
        manifest.add(record("other"))
        manifest.compact()
    target.unlink()
    there = _history(target)
    with pytest.raises(ManifestError):
        _copy(source, target)
    assert there == _history(target) != []


# -- whoever creates a manifest there ----------------------------------------------------------------------------------


def test_a_manifest_that_is_created_after_a_killed_copy_has_none_of_its_events(
    start: Start, source: Path, target: Path
) -> None:
    left = _killed(start, source, target)
    with DownloadManifestManager(target, META, options=QUIET) as manifest:
        assert (list(manifest.history()), _in_quarantine(target)) == ([], [left])


def test_its_creator_is_told_what_may_have_left_it(
    start: Start, source: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _killed(start, source, target)
    DownloadManifestManager(target, META, options=QUIET).close()
    (said,) = _warnings(caplog)
    assert "an earlier manifest of this name, or a copy that was not finished" in said
