"""What is pending, look after look: each later look gives what a first one gives, and reads only what is new."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from manifestlog import AbstractManifest, DownloadManifestManager, ETLProcess, ProcessedManifestManager
from manifestlog.pending import Look

from .builders import META, QUIET, record, sha

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = 150


@pytest.fixture
def processed(directory: Path) -> Iterator[ProcessedManifestManager]:
    metadata = META.model_copy(update={"process": ETLProcess.TRANSFORMER})
    with ProcessedManifestManager(directory / "systems_ingestion.manifest.json", metadata, options=QUIET) as manager:
        yield manager


@pytest.fixture
def first_looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each time that a manifest is looked at for the first time."""
    found: list[str] = []
    original = Look.__init__

    def look(self: Look, *engines: object) -> None:
        found.append("look")
        original(self, *engines)  # type: ignore[arg-type]

    monkeypatch.setattr(Look, "__init__", look)
    return found


def _pending(processed: ProcessedManifestManager, upstream: AbstractManifest) -> list[str]:
    return [one.checksum for one in processed.pending(upstream)]


def _at_first(processed: ProcessedManifestManager, upstream: AbstractManifest) -> list[str]:
    processed.__dict__.pop("_looks", None)
    return _pending(processed, upstream)


STEPS: dict[str, Callable[[DownloadManifestManager, ProcessedManifestManager], object]] = {
    "a download": lambda up, _: up.add(record("new", 100)),
    "a download from another source": lambda up, _: up.add(record("1", 100, source="other")),
    "a forgotten download that was pending": lambda up, _: up.forget(sha("5")),
    "a forgotten download that was done": lambda up, _: up.forget(sha("1")),
    "a download that comes back": lambda up, _: (up.forget(sha("1")), up.add(record("1", 100))),
    "an output": lambda _, out: out.add(record("out 5", 100, derived_from=(sha("5"), sha("6")))),
    "an output before its input": lambda up, out: (
        out.add(record("late", 100, derived_from=(sha("new"),))),
        up.add(record("new", 100)),
    ),
    "an output made once more": lambda _, out: out.add(record("out 1", 100, derived_from=(sha("5"),))),
    "an older derivation": lambda _, out: out.add(record("out 1", -100, derived_from=(sha("5"),))),
    "an output without inputs": lambda _, out: out.add(record("alone", 100)),
    "a forgotten output": lambda _, out: out.forget(sha("out 1")),
    "a failed attempt": lambda _, out: out.fail(record("x"), "no", inputs=[sha("5")]),
    "an update": lambda _, out: out.update(
        sha("out 1"), {"checksum": sha("out 1"), "file_path": "/x", "file_size": 1, "derived_from": [sha("5")]}
    ),
    "compactions": lambda up, out: (up.save(), out.save()),
}


@pytest.fixture
def upstream(manifest: DownloadManifestManager, processed: ProcessedManifestManager) -> DownloadManifestManager:
    """Twenty downloads, of which five have an output."""
    manifest.add_many(record(str(number), number, source=f"s{number}") for number in range(20))
    processed.add_many(record(f"out {number}", 30, derived_from=(sha(str(number)),)) for number in range(5))
    return manifest


@pytest.mark.parametrize("name", STEPS)
def test_a_later_look_gives_what_a_first_one_gives(
    upstream: DownloadManifestManager, processed: ProcessedManifestManager, name: str
) -> None:
    _pending(processed, upstream)
    STEPS[name](upstream, processed)
    later = _pending(processed, upstream)
    assert later == _at_first(processed, upstream)


@pytest.mark.parametrize("seed", range(5))
def test_many_steps_in_any_order(
    upstream: DownloadManifestManager, processed: ProcessedManifestManager, seed: int
) -> None:
    random_ = random.Random(seed)
    for number in range(ROUNDS):
        content = str(random_.randrange(30))
        act = random_.randrange(5)
        if act == 0:
            upstream.add(record(content, 50 + number, source=random_.choice("xy")))
        elif act == 1:
            upstream.forget(sha(content))
        elif act == 2:
            processed.add(record(f"out {content}", 50 + number, derived_from=(sha(str(random_.randrange(30))),)))
        elif act == 3:
            processed.forget(sha(f"out {random_.randrange(90)}"))
        elif random_.random() < 0.2:
            random_.choice([upstream, processed]).save()
        later = _pending(processed, upstream)
        looks = processed.__dict__.pop("_looks")
        assert later == _pending(processed, upstream)
        processed.__dict__["_looks"] = looks


def looked_at_after_a_forget(path: Path) -> None:
    """An output goes, and its input is pending again, also for who has looked before."""
    made = META.model_copy(update={"process": ETLProcess.TRANSFORMER})
    with (
        DownloadManifestManager(path, META, options=QUIET) as upstream,
        ProcessedManifestManager(path.with_name("systems_ingestion.manifest.json"), made, options=QUIET) as processed,
    ):
        upstream.add(record("a"))
        processed.add(record("out", derived_from=(sha("a"),)))
        assert _pending(processed, upstream) == []
        processed.forget(sha("out"))
        assert _pending(processed, upstream) == [sha("a")]


def looked_at_while_an_input_comes_late(path: Path) -> None:
    """An output names an input that its upstream has only later: it is done."""
    made = META.model_copy(update={"process": ETLProcess.TRANSFORMER})
    with (
        DownloadManifestManager(path, META, options=QUIET) as upstream,
        ProcessedManifestManager(path.with_name("systems_ingestion.manifest.json"), made, options=QUIET) as processed,
    ):
        processed.add(record("out", derived_from=(sha("a"),)))
        assert _pending(processed, upstream) == []
        upstream.add(record("a"))
        assert _pending(processed, upstream) == []


def test_a_later_look_reads_no_manifest_as_a_whole(
    upstream: DownloadManifestManager, processed: ProcessedManifestManager, first_looks: list[str]
) -> None:
    for number in range(5, 10):
        processed.add(record(f"out {number}", 30, derived_from=(sha(str(number)),)))
        upstream.add(record(f"new {number}", 60))
        upstream.save()
        _pending(processed, upstream)
    assert first_looks == ["look"]


def test_each_upstream_has_its_own_look(
    upstream: DownloadManifestManager, processed: ProcessedManifestManager, directory: Path
) -> None:
    with DownloadManifestManager(directory / "other_download.manifest.json", META, options=QUIET) as other:
        other.add(record("elsewhere"))
        assert (_pending(processed, other), len(_pending(processed, upstream))) == ([sha("elsewhere")], 15)


def test_an_earlier_time_of_the_upstream_has_its_own_pending(
    upstream: DownloadManifestManager, processed: ProcessedManifestManager
) -> None:
    then = upstream.as_of(upstream.metadata.ts_updated)
    upstream.add(record("new", 100))
    assert sha("new") not in _pending(processed, then)


def test_a_manifest_that_was_made_anew_is_looked_at_again(
    upstream: DownloadManifestManager, processed: ProcessedManifestManager
) -> None:
    _pending(processed, upstream)
    path = upstream.path
    upstream.close()
    for file in path.parent.glob("systems_download.*"):
        file.unlink()
    metadata = META.model_copy(update={"ts_created": META.ts_created.replace(year=2024)})
    with DownloadManifestManager(path, metadata, options=QUIET) as again:
        again.add(record("another"))
        assert _pending(processed, again) == [sha("another")]
