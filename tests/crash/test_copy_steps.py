"""A copy into files that dies before any call to the disk: there is no manifest or the whole one, and the next copy ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contract.builders import record
from contract.copies import Told, live, opened, seen
from manifestlog import CopyOutcome, DownloadManifestManager, ManifestNotFoundError, copy_manifest, maintenance
from support.children import children
from support.faults import die_before_call
from support.records import MANUAL, NAME, metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.children import Link
    from support.counts import Count

CALLS_MIN = 15
STEP = 4
"""In the short test, every fourth call."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "original" / NAME
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        live(manifest)
    return path


def _copy_until(_link: Link, source: Path, target: Path, number: int) -> None:
    die_before_call(number)
    copy_manifest(source, target, options=MANUAL)


def _seen(path: Path) -> tuple[bytes, Told] | None:
    """The canonical and the events of a manifest; None if there is none."""
    try:
        return seen(path)
    except ManifestNotFoundError:
        return None


def _nothing(_: Path) -> None:
    pass


def _die_at_each(
    source: Path,
    tmp_path: Path,
    step: int,
    begin: Callable[[Path], None] = _nothing,
    then: Callable[[Path], None] = _nothing,
) -> int:
    """Copy and die before each call; return how many calls there are.

    `begin` makes what is in the place of the copy, `then` changes the source after the death.
    """
    number, status = 1, -9
    while status == -9:
        target = tmp_path / f"copy-{number}" / NAME
        begin(target)
        before, whole = _seen(target), _seen(source)
        with children() as start:
            status = start(_copy_until, source, target, number).join()
        assert _seen(target) in (None, before, whole), number
        then(source)
        copy_manifest(source, target, options=MANUAL)
        assert _seen(target) == _seen(source), number
        assert copy_manifest(source, target, options=MANUAL).outcome is CopyOutcome.ALREADY_THERE
        assert maintenance.check(target).findings == [], number
        assert _reach(target) == _reach(source), number
        assert not (target.parent / "quarantine").exists(), number
        number += step
    return number


def _reach(path: Path) -> str:
    with opened(path) as engine:
        return engine.reach()


def test_a_copy_that_dies_costs_nothing(source: Path, tmp_path: Path, count: Count) -> None:
    calls = _die_at_each(source, tmp_path, STEP)
    count("crashes of copies", calls // STEP)
    assert calls > CALLS_MIN


def _create(path: Path) -> None:
    """A manifest of another moment, in which nothing is, as `manifestlog init` makes it."""
    DownloadManifestManager(path, metadata(), options=MANUAL).close()


def test_a_copy_into_an_empty_manifest_that_dies_costs_nothing(source: Path, tmp_path: Path, count: Count) -> None:
    """The history of the copy never lies beside the canonical of the other one."""
    calls = _die_at_each(source, tmp_path, STEP, _create)
    count("crashes of copies", calls // STEP)
    assert calls > CALLS_MIN


def _go_on(path: Path) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(record(f"later {len(manifest)}", 60 + len(manifest)))


def test_a_copy_that_dies_costs_nothing_although_its_source_goes_on(source: Path, tmp_path: Path, count: Count) -> None:
    """The next copy is of another moment: it ends the earlier one, and catches up."""
    calls = _die_at_each(source, tmp_path, STEP, then=_go_on)
    count("crashes of copies", calls // STEP)
    assert calls > CALLS_MIN


@pytest.mark.slow
def test_a_copy_that_dies_before_any_call_to_the_disk_costs_nothing_although_its_source_goes_on(
    source: Path, tmp_path: Path, count: Count
) -> None:
    calls = _die_at_each(source, tmp_path, 1, then=_go_on)
    count("crashes of copies", calls)
    assert calls > CALLS_MIN


@pytest.mark.slow
def test_a_copy_into_an_empty_manifest_that_dies_before_any_call_to_the_disk_costs_nothing(
    source: Path, tmp_path: Path, count: Count
) -> None:
    calls = _die_at_each(source, tmp_path, 1, _create)
    count("crashes of copies", calls)
    assert calls > CALLS_MIN


@pytest.mark.slow
def test_a_copy_that_dies_before_any_call_to_the_disk_costs_nothing(source: Path, tmp_path: Path, count: Count) -> None:
    calls = _die_at_each(source, tmp_path, 1)
    count("crashes of copies", calls)
    assert calls > CALLS_MIN
