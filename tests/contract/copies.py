"""A manifest in which everything has happened, and what a copy of it must have."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from manifestlog import (
    DownloadManifestManager,
    HistoryReachError,
    ManifestExistsError,
    ManifestOptions,
    copy_manifest,
    mirror_manifest,
)
from manifestlog.engines.memory_records import Records
from manifestlog.engines.registry import driver_for, open_to_read
from manifestlog.model import codec, document
from manifestlog.model.batches import encoded
from manifestlog.model.events import EventKind, Query

from .builders import META, QUIET, T0, one_of_each, record, sha

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.engines.protocol import Engine

GONE = SimpleNamespace(source_id="gone", dataset="set")
Told = list[tuple[object, ...]]


def live(manifest: DownloadManifestManager) -> None:
    """Let everything happen."""
    with manifest.run("nightly"):
        for one in one_of_each():
            manifest.add(one)
        manifest.fail(GONE, "no such host")
    manifest.compact()
    manifest.add_many([record(f"many {n}", n, source=f"s{n}") for n in range(20)])
    manifest.update(sha("many 1"), record("many 1", 1, source="s1", file_path=Path("/elsewhere")).model_dump())
    manifest.forget(sha("many 3"))
    manifest.relocate("/raw", "/srv/etl/raw")
    manifest.add(record("made", 30, derived_from=(sha("a"), sha("b"))))


@contextmanager
def opened(place: str | Path) -> Iterator[Engine]:
    with closing(open_to_read(place, QUIET)) as engine:
        yield engine


def shown(engine: Engine) -> bytes:
    """The canonical file that a compaction would write now."""
    snapshot = engine.snapshot()
    return document.render(snapshot.metadata, snapshot.records())


def told(engine: Engine) -> Told:
    """Every event, without its position."""
    return [event[1:] for event in engine.events(Query())]


def engine_of(manifest: DownloadManifestManager) -> Engine:
    return manifest._engine


def seen(place: str | Path) -> tuple[bytes, Told]:
    """The canonical file and the events of a manifest."""
    with opened(place) as engine:
        return shown(engine), told(engine)


def fill(engine: Engine) -> None:
    """A few events of several kinds, for tests that copy very often."""
    for one in one_of_each():
        engine.add(encoded(one, QUIET), details={"run": "r1"})
    engine.forget(sha("b"))
    engine.record_event(EventKind.FAILED, {"source_id": "gone", "dataset": "set", "error": "no"})
    engine.set_metadata({"etl_version": "2.0.0"})


# -- what safeguards protect; seeded bugs are tried with these too ---------------------------------------------------------


def copied(path: Path) -> tuple[DownloadManifestManager, Path]:
    """A manifest and the path of its copy."""
    manifest = DownloadManifestManager(path, META, options=QUIET)
    manifest.add(record("a"))
    target = path.with_name("copied_download.manifest.json")
    manifest.copy_to(target)
    return manifest, target


def refused(act: Callable[[], object]) -> None:
    try:
        act()
    except ManifestExistsError:
        return
    raise AssertionError("it was not refused")


def not_over_another(path: Path) -> None:
    """A canonical that was copied alone: it has no log that could be noticed."""
    manifest, target = copied(path)
    other = target.with_name("other_download.manifest.json")
    with DownloadManifestManager(other, META, options=QUIET) as found:
        found.add(record("other"))
        found.save()
        text = found.path.read_bytes()
    alone = path.parent / "alone" / other.name
    alone.parent.mkdir()
    alone.write_bytes(text)
    with manifest:
        refused(lambda: manifest.copy_to(alone))


def not_over_another_history(path: Path) -> None:
    """A history alone, of a manifest that began as the one that is copied there."""
    manifest, target = copied(path)
    manifest.close()
    (pack,) = target.parent.glob(f"history/{target.name.removesuffix('.json')}.*")
    left = pack.read_bytes()
    for file in target.parent.glob(f"{target.name.removesuffix('.json')}.*"):
        file.unlink()
    other = target.with_name("other_download.manifest.json")
    with DownloadManifestManager(other, META, options=QUIET) as found:
        found.add(record("other"))
        found.copy_to(target)
    assert [file.read_bytes() for file in target.parent.glob("quarantine/*/*")] == [left]


def not_over_its_own(path: Path) -> None:
    manifest, target = copied(path)
    with DownloadManifestManager(target, options=QUIET) as copy:
        copy.add(record("its own"))
    manifest.add(record("later", 1))
    with manifest:
        refused(lambda: manifest.copy_to(target))


def not_after_others(path: Path) -> None:
    manifest, target = copied(path)
    with manifest, DownloadManifestManager(target, options=QUIET) as copy:
        expected = copy.cursor
        copy.add(record("meanwhile", 1))
        refused(lambda: copy._engine.replay(list(manifest.history()), expected))


def not_of_two_moments(path: Path) -> None:
    """An older canonical alone, beside the history of a newer moment."""
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        manifest.add(record("a"))
        manifest.compact()
        older = path.read_bytes()
        manifest.add(record("b", 1))
        manifest.add(record("c", 2))
        moment = list(manifest.history())[1].time
        manifest.compact()
    for file in path.parent.glob(f"{path.name.removesuffix('.json')}.[wi]*"):
        file.unlink()  # the log and the index
    path.write_bytes(older)
    with DownloadManifestManager(path, read_only=True) as restored:
        assert list(restored._engine.events_after(restored.cursor)) == []
        with suppress(HistoryReachError):
            assert sha("b") in restored.as_of(moment)


def not_over_a_gap(path: Path) -> None:
    """A replica whose source has cut what is missing."""
    replica = path.parent / "replica"
    with DownloadManifestManager(path, META, options=ManifestOptions(history="off")) as manifest:
        mirror_manifest(path, replica)
        manifest.add(record("a"))
        (event,) = manifest.history()
        manifest.forget(sha("a"))
        manifest.compact()
        manifest.add(record("last", 1))
        mirror_manifest(path, replica)
    with DownloadManifestManager(replica / path.name, read_only=True) as found, suppress(HistoryReachError):
        assert sha("a") in found.as_of(event.time)


def not_over_other_beginnings(path: Path) -> None:
    """Records that no event tells of differ; the events do not."""
    manifest, target = copied(path)
    with manifest:
        image = manifest._engine.image()
        driver = driver_for(target)
        places = [target.with_name(f"{name}_download.manifest.json") for name in ("one", "two")]
        for place, first in zip(places, ("/raw/1", "/raw/2"), strict=True):
            old = codec.dumps(codec.loads(encoded(record("old"), QUIET)[0]) | {"file_path": first})
            records = {sha("old"): old} | dict(image.snapshot.records())
            changed = manifest._engine.image()._replace(
                metadata=image.metadata | {"total_records": 2},
                snapshot=Records(image.metadata, records),
                reach=T0.isoformat(),
            )
            driver.load(driver.locate(str(place)), changed, QUIET).close()
    refused(lambda: copy_manifest(places[0], places[1]))
