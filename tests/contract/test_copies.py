"""A copy of a manifest, from any engine to any other: what it has, what it never overwrites, how it catches up."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import (
    CopyOutcome,
    DownloadManifestManager,
    HistoryReachError,
    ManifestError,
    ManifestExistsError,
    copy_manifest,
    maintenance,
)
from manifestlog.engines.memory_records import Records
from manifestlog.engines.registry import driver_for
from manifestlog.model.events import Event, EventKind, Query
from manifestlog.queries import log_time

from .builders import META, QUIET, at, record, sha
from .conftest import ENGINES, set_aside
from .copies import GONE, engine_of, live, opened, shown, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.engines.protocol import Engine
    from support.postgres import Server

    Places = Callable[[str, str], str]

TARGETS = ("files", "postgres")
PAIRS = (("files", "postgres"), ("postgres", "files"), ("memory", "files"))


@pytest.fixture
def places(directory: Path, request: pytest.FixtureRequest) -> Iterator[Places]:
    """Where a manifest of an engine is, by the engine's name and its own."""
    servers: list[Server] = []

    def of(engine: str, name: str) -> str:
        if engine == "files":
            return str(directory / f"{name}.manifest.json")
        if engine == "memory":
            return f"memory:{name}"
        servers.append(request.getfixturevalue("postgres_server"))
        return servers[0].url(name)

    yield of
    for server in servers[:1]:
        set_aside(server)


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The engines of source and target."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def source(pair: tuple[str, str], places: Places) -> Iterator[DownloadManifestManager]:
    """A manifest in which everything has happened that an event can tell of."""
    with DownloadManifestManager(places(pair[0], "systems_download"), META, options=QUIET) as manifest:
        live(manifest)
        yield manifest


@pytest.fixture
def target(pair: tuple[str, str], places: Places) -> str:
    """Where no manifest is yet."""
    return places(pair[1], "copied_download")


def test_a_copy_is_the_same_byte_for_byte(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    with opened(target) as copy:
        assert shown(copy) == shown(engine_of(source))


def test_a_copy_has_every_event_with_its_time(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    with opened(target) as copy:
        assert told(copy) == told(engine_of(source))


def test_a_copy_answers_for_every_earlier_time(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    engine = engine_of(source)
    with opened(target) as copy:
        for event in [*engine.events(Query())][::4]:
            assert shown(_as_of(copy, event)) == shown(_as_of(engine, event))


def _as_of(engine: Engine, event: Event) -> Engine:
    return engine.as_of(event.ts)


def test_a_copy_is_sound(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    assert maintenance.check(target).findings == []


def test_a_copy_says_what_it_has(source: DownloadManifestManager, target: str) -> None:
    report = source.copy_to(target)
    events = len(told(engine_of(source)))
    assert (report.outcome, report.records, report.events) == (
        CopyOutcome.COPIED,
        len(source),
        events,
    )


def test_a_copy_goes_on_as_its_source_does(source: DownloadManifestManager, target: str) -> None:
    """The same writes have the same verdicts, and the same lookups the same answers."""
    source.copy_to(target)
    with DownloadManifestManager(target, options=QUIET) as copy:
        added = [record("a", 50), record("b", 51), record("never", 52), record("many 3", 53, source="s3")]
        assert [copy.add(one) for one in added] == [source.add(one) for one in added]


def test_a_second_copy_writes_nothing(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    assert source.copy_to(target).outcome is CopyOutcome.ALREADY_THERE


def test_a_copy_catches_up(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    source.add(record("later", 60))
    source.forget(sha("a"))
    source.fail(GONE, "still")
    report = source.copy_to(target)
    with opened(target) as copy:
        assert (report.outcome, report.events, told(copy)) == (CopyOutcome.CAUGHT_UP, 3, told(engine_of(source)))


def test_a_copy_that_has_caught_up_is_the_same_byte_for_byte(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    source.add(record("later", 60))
    source.relocate("/srv/etl/raw", "/srv/etl/new")
    source.copy_to(target)
    with opened(target) as copy:
        assert shown(copy) == shown(engine_of(source))
    assert maintenance.check(target).findings == []


def test_what_a_copy_has_of_its_own_is_never_overwritten(source: DownloadManifestManager, target: str) -> None:
    source.copy_to(target)
    with DownloadManifestManager(target, options=QUIET) as copy:
        copy.add(record("its own", 60))
        before = shown(engine_of(copy))
    source.add(record("later", 61))
    with pytest.raises(ManifestExistsError, match="is not that of the source"):
        source.copy_to(target)
    with opened(target) as copy_again:
        assert shown(copy_again) == before


def test_another_manifest_is_never_overwritten(source: DownloadManifestManager, target: str) -> None:
    with DownloadManifestManager(target, META, options=QUIET) as other:
        other.add(record("other"))
    with pytest.raises(ManifestExistsError, match="records: 1"):
        source.copy_to(target)


def test_a_manifest_without_anything_in_it_is_filled(source: DownloadManifestManager, target: str) -> None:
    """As `manifestlog init` has made it."""
    DownloadManifestManager(target, META.model_copy(update={"ts_created": at(9)}), options=QUIET).close()
    assert source.copy_to(target).outcome is CopyOutcome.COPIED
    with opened(target) as copy:
        assert shown(copy) == shown(engine_of(source))


@pytest.mark.parametrize("engine", TARGETS)
def test_an_empty_manifest_can_be_copied(places: Places, engine: str) -> None:
    target = places(engine, "copied_download")
    with DownloadManifestManager(places("memory", "systems_download"), META, options=QUIET) as source:
        for _ in range(2):
            source.copy_to(target)
        with opened(target) as copy:
            assert shown(copy) == shown(engine_of(source))


def test_a_copy_of_what_changes_meanwhile_is_one_moment_and_says_so(
    source: DownloadManifestManager, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_for(target)
    before, load = shown(engine_of(source)), driver.load

    def meanwhile(*given: object) -> Engine:
        source.add(record("meanwhile", 70))
        return load(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(driver, "load", meanwhile)
    report = source.copy_to(target)
    with opened(target) as copy:
        assert (report.source_has_changed, shown(copy)) == (True, before)


@pytest.fixture
def in_files(places: Places) -> Iterator[DownloadManifestManager]:
    """A manifest in files, in which everything has happened."""
    with DownloadManifestManager(places("files", "systems_download"), META, options=QUIET) as manifest:
        live(manifest)
        yield manifest


@pytest.mark.parametrize("other", TARGETS)
def test_there_and_back_again_the_canonical_is_the_same_file(
    in_files: DownloadManifestManager, places: Places, other: str
) -> None:
    there, back = places(other, "there_download"), places("files", "back_download")
    in_files.copy_to(there)
    copy_manifest(there, back)
    in_files.save()
    assert Path(back).read_bytes() == in_files.path.read_bytes()


def test_there_and_back_again_every_event_is_there(in_files: DownloadManifestManager, places: Places) -> None:
    there, back = places("postgres", "there_download"), places("files", "back_download")
    in_files.copy_to(there)
    copy_manifest(there, back)
    with opened(back) as copy:
        assert told(copy) == told(engine_of(in_files))


def test_a_root_that_would_lead_elsewhere_is_refused(places: Places, directory: Path) -> None:
    metadata = META.model_copy(update={"root_dir": Path("..")})
    with (
        DownloadManifestManager(places("files", "systems_download"), metadata, options=QUIET) as source,
        pytest.raises(ManifestError, match=rf"it leads to {directory.parent}, .* lead to /;"),
    ):
        source.copy_to(places("postgres", "copied_download"))


def test_a_copy_has_the_root_that_is_given(places: Places) -> None:
    target = places("postgres", "copied_download")
    metadata = META.model_copy(update={"root_dir": Path("..")})
    with DownloadManifestManager(places("files", "systems_download"), metadata, options=QUIET) as source:
        source.add(record("a"))
        source.copy_to(target, root="/srv/etl")
        assert source.copy_to(target, root="/srv/etl").outcome is CopyOutcome.ALREADY_THERE
    with DownloadManifestManager(target, read_only=True) as copy:
        assert copy.root == Path("/srv/etl")


def test_a_segment_of_a_copy_has_an_event_however_small_segments_are(
    in_files: DownloadManifestManager, places: Places
) -> None:
    """Their first lines alone are longer."""
    target = Path(places("files", "copied_download"))
    copy_manifest(in_files.path, target, options=replace(QUIET, segment_bytes_max=1))
    assert len(list(target.parent.glob("history/copied_download.*"))) == len(told(engine_of(in_files)))


def test_memory_is_no_target(in_files: DownloadManifestManager) -> None:
    with pytest.raises(ManifestError, match="ends with this process"):
        in_files.copy_to("memory:copied_download")


def test_a_manifest_is_no_copy_of_itself(places: Places) -> None:
    path = places("files", "systems_download")
    with DownloadManifestManager(path, META, options=QUIET) as source, pytest.raises(ManifestError, match="the same"):
        source.copy_to(path)


# -- the seam ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=ENGINES)
def loaded(request: pytest.FixtureRequest, in_files: DownloadManifestManager, places: Places) -> Iterator[Engine]:
    """A manifest of each engine that was made of an image; also one of a process's own memory."""
    place = places(request.param, "loaded_download")
    driver = driver_for(place)
    with closing(driver.load(driver.locate(place), engine_of(in_files).image(), QUIET)) as found:
        yield found


def test_every_engine_loads_an_image(in_files: DownloadManifestManager, loaded: Engine) -> None:
    assert (shown(loaded), told(loaded)) == (shown(engine_of(in_files)), told(engine_of(in_files)))


def test_every_engine_replays_events(in_files: DownloadManifestManager, loaded: Engine) -> None:
    before = in_files.cursor
    in_files.add(record("later", 60))
    in_files.forget(sha("a"))
    loaded.replay(list(in_files.changes(before)), loaded.cursor())
    assert (shown(loaded), told(loaded)) == (shown(engine_of(in_files)), told(engine_of(in_files)))


def test_the_cursor_after_a_replay_is_the_last_one(in_files: DownloadManifestManager, loaded: Engine) -> None:
    events = list(in_files.history())[-1:]
    assert loaded.replay(events, loaded.cursor()) == loaded.cursor()


def test_of_what_came_before_a_gap_nothing_is_known(in_files: DownloadManifestManager, loaded: Engine) -> None:
    last = list(in_files.history())[-1]
    ts = log_time(datetime.now(UTC))
    loaded.replay([Event("", ts, EventKind.META, None, None, {"gap": True, "metadata": {}})], loaded.cursor())
    with pytest.raises(HistoryReachError, match="out of reach"):
        loaded.as_of(last.ts)
    assert shown(loaded.as_of(ts)) == shown(loaded)


def test_nothing_is_replayed_after_other_events(in_files: DownloadManifestManager, loaded: Engine) -> None:
    expected = loaded.cursor()
    loaded.record_event(EventKind.FAILED, {"source_id": "gone", "dataset": "set", "error": "no"})
    with pytest.raises(ManifestExistsError, match="meanwhile"):
        loaded.replay(list(in_files.history())[:1], expected)


@pytest.fixture
def alone(places: Places, in_files: DownloadManifestManager) -> Path:
    """A manifest with records that are older than its first event: a canonical that came without its log."""
    found = Path(places("files", "alone_download"))
    in_files.save()
    found.write_bytes(in_files.path.read_bytes())
    with DownloadManifestManager(found, META, options=QUIET) as manifest:
        manifest.add(record("first event", 80))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_says_how_far_its_events_reach_back(places: Places, alone: Path, engine: str) -> None:
    place = places(engine, "loaded_download")
    driver = driver_for(place)
    with opened(str(alone)) as source:
        first = next(source.events(Query())).ts
        with closing(driver.load(driver.locate(place), source.image(), QUIET)) as found:
            assert (found.image().reach, found.reach()) == (first, first)


@pytest.mark.parametrize("engine", TARGETS)
def test_a_copy_without_the_first_events_catches_up(places: Places, alone: Path, engine: str) -> None:
    target = places(engine, "copied_download")
    copy_manifest(alone, target)
    with DownloadManifestManager(alone, options=QUIET) as manifest:
        manifest.forget(sha("many 1"))
        manifest.copy_to(target)
        with opened(target) as copy:
            assert shown(copy) == shown(engine_of(manifest))


def test_a_copy_with_other_records_before_its_first_event_is_never_overwritten(places: Places, alone: Path) -> None:
    """The events are the same: only the records tell."""
    other = Path(places("files", "other_download"))
    copy_manifest(alone, other)
    with opened(str(alone)) as source:
        event = next(source.events(Query()))
        image = source.image()
        records = [(one, raw.replace(b"/raw/many 7", b"/raw/many 8")) for one, raw in image.snapshot.records()]
        changed = image._replace(snapshot=Records(image.metadata, dict(records)), events=iter([event]))
        driver = driver_for(other)
        place = driver.locate(places("files", "changed_download"))
        driver.load(place, changed, QUIET).close()
    with pytest.raises(ManifestExistsError, match="is not that of the source"):
        copy_manifest(alone, place.display)
