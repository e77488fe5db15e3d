"""What is pending for a stage as it last ran, told without its definition."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from manifestlog import DownloadManifestManager, ProcessedManifestManager
from manifestlog.stages import Where
from manifestlog.stages.last_run import pending_count

from .home import DOWNLOADS, FAST, PARSED, Home

if TYPE_CHECKING:
    import pytest


def upper(item: Any) -> bytes:
    return bytes(item.path.read_bytes().upper())


def fail(_: Any) -> None:
    raise ValueError("no header")


def count(home: Home) -> int | None:
    return pending_count(home.path(PARSED))


def test_what_came_since_is_pending(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    before = count(home)
    home.download(("b", "two"), ("c", "three"), minute=5)
    assert (before, count(home)) == (0, 2)


def test_what_has_failed_is_pending(home: Home) -> None:
    home.download(("a", "one"))
    home.run(fail)
    assert count(home) == 1


def test_the_condition_is_that_of_the_last_run(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper, where=Where(source=("a", "b")))
    home.download(("b", "two"), ("c", "three"), minute=5)
    assert count(home) == 1


def test_the_version_is_that_of_the_last_run(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    home.run(fail, version="2")
    assert count(home) == 1


def test_groups_are_counted_as_groups(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper, group_by="dataset")
    home.download(("b", "two"), ("c", "three"), minute=5)
    assert count(home) == 1


def test_nothing_is_written(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    home.download(("b", "two"), minute=5)
    before = {path: path.read_bytes() for path in home.manifests.rglob("*") if path.is_file()}
    count(home)
    assert {path: path.read_bytes() for path in home.manifests.rglob("*") if path.is_file()} == before


def test_it_is_not_known_before_a_stage_has_run(home: Home) -> None:
    home.download(("a", "one"))
    assert [pending_count(home.path(name)) for name in (DOWNLOADS, PARSED)] == [None, None]


def test_it_is_not_known_if_the_last_run_has_kept_nothing(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    for path in home.manifests.glob("*.pending.json"):
        path.unlink()
    assert count(home) is None


def test_it_is_not_known_if_the_upstream_manifest_is_elsewhere(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    shutil.copytree(home.manifests, home.root / "copy")
    home_of_copy = home.root / "copy" / home.path(PARSED).name
    for path in (home.root / "copy").glob(f"{DOWNLOADS}.*"):
        path.unlink()
    assert pending_count(home_of_copy) is None


def test_it_is_not_known_if_it_does_not_follow_from_the_events(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten output makes its input pending again, which only a look at everything tells."""
    home.download(("a", "one"))
    home.run(upper)
    with ProcessedManifestManager(home.path(PARSED), options=FAST) as made:
        made.forget(next(iter(made.records)))
    monkeypatch.setattr("manifestlog.stages.kept_look.first_look", None)
    assert count(home) is None


def test_a_manifest_that_is_open_in_this_process_is_shared(home: Home) -> None:
    home.download(("a", "one"))
    home.run(upper)
    with DownloadManifestManager(home.path(DOWNLOADS), options=FAST) as manifest:
        found = count(home)
        assert (found, len(manifest)) == (0, 1)
