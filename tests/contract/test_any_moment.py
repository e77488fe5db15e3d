"""Whatever was done in whatever order: each moment is answered as it was then, and can be gone back to."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from manifestlog.engines.filelog.history import keep

from .builders import at, record, sha
from .test_as_of import everything, now
from .test_undo import held

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog import DownloadManifestManager

    from .conftest import Opener

pytestmark = pytest.mark.every_engine

CONTENTS = "abcde"
SOURCES = ("one", "two", "three")
STEPS = 60


def _any_record(chance: Random) -> object:
    etag = chance.choice([None, '"1"', '"2"'])
    return record(chance.choice(CONTENTS), chance.randrange(20), chance.choice(SOURCES), etag=etag)


def _update(manifest: DownloadManifestManager, chance: Random) -> None:
    key = sha(chance.choice(CONTENTS))
    if key in manifest:
        fields = {"checksum": key, "etag": None, "file_path": f"/u/{chance.random()}", "file_size": 9}
        manifest.update(key, fields | {"ts_downloaded": at(chance.randrange(20))})


def _relocate(manifest: DownloadManifestManager, chance: Random) -> None:
    folders = ["/raw", "/moved", "/u", "/srv", "/mnt"]
    manifest.relocate(*chance.sample(folders, 2))


def _failed_run(manifest: DownloadManifestManager, chance: Random) -> None:
    with manifest.run("nightly"):
        manifest.add(_any_record(chance))  # type: ignore[arg-type]
        manifest.fail(SimpleNamespace(source_id=chance.choice(SOURCES), dataset="set"), "no")


ACTS: list[Callable[[DownloadManifestManager, Random], object]] = [
    *[lambda m, c: m.add(_any_record(c))] * 5,
    lambda m, c: m.add(_any_record(c), live=True),  # type: ignore[arg-type]
    lambda m, c: m.add_many(_any_record(c) for _ in range(4)),  # type: ignore[misc]
    lambda m, c: m.forget(sha(c.choice(CONTENTS))),
    _update,
    _relocate,
    _failed_run,
    lambda m, _: m.save(),
    lambda m, c: m.undo(to=now() - timedelta(seconds=c.random() / 50)) if len(m) else None,
]


@pytest.mark.parametrize("seed", range(4))
def test_each_moment_is_answered_and_can_be_gone_back_to(opener: Opener, seed: int) -> None:
    _act_and_look_back(opener(), Random(seed))


@pytest.mark.files_only
@pytest.mark.parametrize("seed", range(2))
def test_each_moment_is_answered_from_packs_too(opener: Opener, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "LOOSE_BYTES_MAX", 1)
    manifest = opener()
    _act_and_look_back(manifest, Random(seed))
    assert list((manifest.path.parent / "history").glob("*.zst"))


def _act_and_look_back(manifest: DownloadManifestManager, chance: Random) -> None:
    begun = now()
    seen = []
    for _ in range(STEPS):
        seen.append((now(), everything(manifest), held(manifest)))
        chance.choice(ACTS)(manifest, chance)
    for moment, then, _ in seen:
        assert everything(manifest.as_of(moment)) == then
    for moment, _, then in chance.sample(seen, 5):
        manifest.undo(to=moment)
        assert held(manifest) == then
    assert len(manifest.as_of(begun)) == 0
