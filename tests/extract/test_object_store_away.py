"""A bucket that goes away in the middle of a run, and comes back: what is said, and that the next run finishes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from cli.program import finish, wait_until
from extract.running import pattern
from extract.runs import counts, entry
from extract.stores import FarHome
from manifestlog import DownloadManifestManager
from support import answers, s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.badserver import BadServer

PART = 8 << 20
LARGE, SMALL = pattern(PART + 100_000), pattern(3000)
ETAG = '"one"'


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Program]:
    """A server of the test's own, whose clients do not try for long."""
    with s3.programs() as found:
        for name, value in {**found.server.environ, "AWS_MAX_ATTEMPTS": "2"}.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def home(store: s3.Program, tmp_path: Path) -> FarHome:
    return FarHome(tmp_path, store.server.folder(tmp_path.name))


@pytest.mark.slow
def test_a_bucket_that_is_killed_in_the_middle_of_a_run(home: FarHome, store: s3.Program, bad: BadServer) -> None:
    """One file has landed, one is half uploaded, and one has not come yet."""
    go_on = threading.Event()
    landed = entry(bad.script("/landed", answers.whole(SMALL, ETAG), answers.status(304)))
    large = entry(bad.script("/large", answers.slow(LARGE, PART + 1000, go_on, ETAG), answers.whole(LARGE, ETAG)))
    late = entry(bad.script("/late", answers.slow_to_answer(b"late", go_on, ETAG), answers.whole(b"late", ETAG)))
    home.configure(landed, large, late, retries=0)
    process = home.start()
    wait_until(lambda: any(key.endswith(".part") for key in home.bucket.uploads) and len(recorded(home)) == 1)
    store.kill()
    go_on.set()
    result = finish(process)
    assert (result.code, counts(result)) == (1, {"new": 1, "failed": 2})
    errors = [one["error"] for one in result.json["failures"]]
    assert [("does not answer" in error, "\n" in error, s3.SECRET in error) for error in errors] == [
        (True, False, False)
    ] * 2
    store.start()
    assert counts(home.run()) == {"new": 2, "unchanged": 1}
    home.check({"landed": SMALL, "large": LARGE, "late": b"late"})


def recorded(home: FarHome) -> list[str]:
    if not home.manifest.parent.exists():
        return []
    with DownloadManifestManager(home.manifest, read_only=True) as manifest:
        return list(manifest)
