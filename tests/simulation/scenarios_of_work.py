"""Scenarios that are tests with fixtures of their own: the trigger rule, compactions in a child, and landing."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from contract import test_compaction
from extract import test_content_encoding, test_kernel_timed, test_landing, test_leftovers
from extract.running import Here
from manifestlog import DownloadManifestManager
from manifestlog.engines.filelog.compaction import background
from processes import test_child_compaction
from support.badserver import misbehaving
from support.children import children
from support.records import NAME, QUICK, make_record, metadata
from unit import test_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Given = Callable[[Path], AbstractContextManager[dict[str, Any]]]

MIB = test_rules.MIB


@contextmanager
def _with_a_child(folder: Path) -> Iterator[dict[str, Any]]:
    """What the tests of compactions in a child ask for."""
    path = folder / NAME
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch, children() as start:
        patch.setattr(background, "CHILD_BYTES_MIN", 1)
        given = {"path": path, "tmp_path": folder, "monkeypatch": patch, "start": start}
        with DownloadManifestManager(path, metadata(), options=test_child_compaction.BY_HAND) as quiet:
            quiet.add(make_record(0))
            yield {**given, "quiet": quiet}


@contextmanager
def _by_itself(folder: Path) -> Iterator[dict[str, Any]]:
    """For a test that makes its own manifest."""
    yield {"path": folder / NAME}


@contextmanager
def _landing(folder: Path) -> Iterator[dict[str, Any]]:
    """What the tests of landing ask for."""
    with (
        DownloadManifestManager(folder / "manifests" / NAME, metadata(), options=QUICK) as manifest,
        pytest.MonkeyPatch.context() as patch,
    ):
        here = Here(manifest, folder / "data")
        yield {"here": here, "together": test_landing.Together(here), "monkeypatch": patch}
        here.check()


@contextmanager
def _fetching(folder: Path) -> Iterator[dict[str, Any]]:
    """What the tests of runs from a server ask for."""
    with _landing(folder) as found, misbehaving() as bad:
        yield {**found, "bad": bad}


def _run(given: Given, test: Callable[..., None], folder: Path) -> None:
    with given(folder) as found:
        test(**{name: found[name] for name in inspect.signature(test).parameters})


def _child(test: Callable[..., None]) -> Callable[[Path], None]:
    return partial(_run, _with_a_child, test)


def _landed(test: Callable[..., None]) -> Callable[[Path], None]:
    return partial(_run, _landing, test)


def _fetched(test: Callable[..., None]) -> Callable[[Path], None]:
    return partial(_run, _fetching, test)


def _rule(test: Callable[..., None], *args: Any) -> Callable[[Path], None]:
    return lambda _folder: test(*args)


IN_A_FOLDER: dict[str, Callable[[Path], None]] = {
    "a slow compaction, a moment ago": _rule(
        test_rules.test_a_slow_compaction_waits_a_hundred_times_as_long, 10.0, 990
    ),
    "a large canonical and a short log": _rule(
        test_rules.test_a_large_canonical_waits_for_a_log_that_is_worth_it, 100 * MIB
    ),
    "a small canonical and a short log": _rule(test_rules.test_a_small_canonical_is_written_for_any_log, 16 * MIB),
    "a long log after a slow compaction": _rule(test_rules.test_a_slow_compaction_does_not_hold_up_a_long_log),
    "a huge canonical and a long log": _rule(
        test_rules.test_a_huge_canonical_may_have_twice_the_usual_log, 10**12, 128 * MIB
    ),
    "a change from the future": _rule(test_rules.test_a_clock_that_was_set_back_holds_nothing_up_for_long),
    "a short script at a large canonical": partial(_run, _by_itself, test_compaction.closed_without_worth),
    "a child that is being started": _child(test_child_compaction.test_while_a_child_starts_nobody_else_starts_one),
    "a compaction in a child": _child(test_child_compaction.test_a_child_compacts),
    "a child whose parent is gone": _child(test_child_compaction.test_a_child_that_is_told_nothing_compacts_nothing),
    "a child that is killed": _child(test_child_compaction.test_the_thread_compacts_after_a_killed_child),
    "a child with a sitecustomize": _child(test_child_compaction.test_a_child_runs_nothing_of_the_environment),
    "a child of a manifest without history": partial(
        _run, _by_itself, test_child_compaction.test_a_child_has_the_options_of_its_parent
    ),
    "a child and its process group": _child(test_child_compaction.test_ctrl_c_is_not_for_the_child),
    "the order of landing": _landed(test_landing.test_the_order_survives_a_power_cut),
    "a directory that cannot be synced": _landed(
        test_landing.test_without_its_directory_on_the_disk_nothing_is_registered
    ),
    "a foreign file in the way of a group": _landed(test_landing.test_a_name_that_a_foreign_file_has_is_not_used),
    "a foreign file in the way": _landed(test_landing.test_alone_a_name_that_a_foreign_file_has_is_not_used),
    "a content that another worker stores": _landed(
        test_landing.test_a_content_that_another_worker_has_is_not_stored_beside_it
    ),
    "a body of unknown length that stops": _fetched(test_kernel_timed.stalled_body),
    "an attempt after a list of its directory": _fetched(test_leftovers.resumed_behind_a_list),
    "a part that another run leaves after a list": _fetched(test_leftovers.left_meanwhile),
    "a part that is decoded": _fetched(test_content_encoding.decoded_and_synced),
    "a known content whose file is gone": _landed(test_landing.test_a_known_content_whose_file_is_gone_is_stored_again),
}
