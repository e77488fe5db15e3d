"""A replica in files that follows a manifest: what it has, when it is current, and who may write to it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import (
    DownloadManifestManager,
    HistoryReachError,
    ManifestError,
    ManifestExistsError,
    ManifestOptions,
    Mirror,
    ReadOnlyError,
    ReplicaError,
    copy_manifest,
    maintenance,
    mirror_manifest,
    replica_state,
)
from manifestlog.engines.registry import driver_for
from manifestlog.errors import LockTimeoutError

from .builders import META, QUIET, at, record, sha
from .conftest import set_aside
from .copies import GONE, engine_of, live, opened, seen, shown, told
from .test_as_of import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres import Server

ENGINES = ("files", "postgres")


@pytest.fixture(params=ENGINES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the source is."""
    if request.param == "files":
        yield str(tmp_path / "source" / "systems_download.manifest.json")
        return
    server: Server = request.getfixturevalue("postgres_server")
    yield server.url("systems_download")
    set_aside(server)


@pytest.fixture
def source(location: str) -> Iterator[DownloadManifestManager]:
    with DownloadManifestManager(location, META, options=QUIET) as manifest:
        live(manifest)
        yield manifest


@pytest.fixture
def replica(directory: Path) -> Path:
    """Where the replica goes; it is checked when the test is over."""
    return directory / "systems_download.manifest.json"


@pytest.fixture
def mirror(source: DownloadManifestManager, location: str, replica: Path) -> Iterator[Mirror]:
    """A mirror that is up to date."""
    with Mirror(location, replica.parent, options=QUIET) as found:
        found.update()
        yield found


def test_a_replica_is_the_same_byte_for_byte(source: DownloadManifestManager, mirror: Mirror, replica: Path) -> None:
    assert seen(replica) == (shown(engine_of(source)), told(engine_of(source)))


CHANGES: dict[str, Callable[[DownloadManifestManager], object]] = {
    "an addition": lambda m: m.add(record("new", 60)),
    "a batch": lambda m: m.add_many([record(f"x{n}", n, source="xs") for n in range(5)]),
    "a forget": lambda m: m.forget(sha("a")),
    "a failure": lambda m: m.fail(GONE, "still"),
    "an alias": lambda m: m.add(record("b", 70, source="another")),
    "a relocation": lambda m: m.relocate("/srv/etl/raw", "/srv/etl/new"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_replica_gets_every_change(
    source: DownloadManifestManager, mirror: Mirror, replica: Path, change: str
) -> None:
    CHANGES[change](source)
    mirror.update()
    assert seen(replica) == (shown(engine_of(source)), told(engine_of(source)))


def test_an_update_says_how_many_events_it_has_applied(source: DownloadManifestManager, mirror: Mirror) -> None:
    CHANGES["a batch"](source)
    assert [mirror.update(), mirror.update()] == [5, 0]


def test_a_later_mirror_goes_on(source: DownloadManifestManager, location: str, replica: Path) -> None:
    mirror_manifest(location, replica.parent, options=QUIET)
    CHANGES["an addition"](source)
    report = mirror_manifest(location, replica.parent, options=QUIET)
    assert (report.events, report.comparisons, seen(replica)[0]) == (1, 0, shown(engine_of(source)))


def test_a_mirror_that_died_before_its_note_applies_nothing_twice(
    source: DownloadManifestManager, location: str, replica: Path
) -> None:
    mirror_manifest(location, replica.parent, options=QUIET)
    note = replica.with_name("systems_download.manifest.replica.json")
    before = note.read_bytes()
    source.add(record("new", 60))
    source.fail(GONE, "still")
    mirror_manifest(location, replica.parent, options=QUIET)
    note.write_bytes(before)
    source.add(record("newer", 61))
    report = mirror_manifest(location, replica.parent, options=QUIET)
    assert (report.comparisons, seen(replica)[1]) == (0, told(engine_of(source)))


def test_a_replica_whose_events_are_gone_is_compared(
    location: str, replica: Path, source: DownloadManifestManager
) -> None:
    """As after a long pause, when the source's history was cut meanwhile."""
    mirror_manifest(location, replica.parent, options=QUIET)
    CHANGES["a batch"](source)
    source.forget(sha("a"))
    source.add(record("b", 80, etag="y"))
    source.close()
    with DownloadManifestManager(location, META, options=ManifestOptions(history="off")) as cutting:
        cutting.add(record("last", 90))
        cutting.compact()
        report = mirror_manifest(location, replica.parent, options=QUIET)
        assert (report.comparisons, seen(replica)[0]) == (1, shown(engine_of(cutting)))


def test_a_replica_that_was_only_made_is_not_compared(
    source: DownloadManifestManager, location: str, replica: Path
) -> None:
    Mirror(location, replica.parent, options=QUIET).close()
    CHANGES["an addition"](source)
    report = mirror_manifest(location, replica.parent, options=QUIET)
    assert (report.events, report.comparisons) == (1, 0)


def test_a_replica_that_was_compared_answers_for_no_time_before(
    location: str, replica: Path, source: DownloadManifestManager
) -> None:
    """What was there in between, nobody can say: the events are gone."""
    mirror_manifest(location, replica.parent, options=QUIET)
    CHANGES["a batch"](source)
    moment = now()
    source.forget(sha("x1"))
    source.close()
    with DownloadManifestManager(location, META, options=ManifestOptions(history="off")) as cutting:
        cutting.add(record("last", 90))
        cutting.compact()
        mirror_manifest(location, replica.parent, options=QUIET)
        with DownloadManifestManager(replica, read_only=True) as found:
            with pytest.raises(HistoryReachError):
                found.as_of(moment)
            assert shown(engine_of(found.as_of(now()))) == shown(engine_of(cutting))


def test_a_copy_of_a_replica_catches_up_with_a_comparison(
    location: str, replica: Path, source: DownloadManifestManager, tmp_path: Path
) -> None:
    """Its first events are missing, so the records before them are compared."""
    source.close()
    target = tmp_path / "copied" / replica.name
    with DownloadManifestManager(location, META, options=ManifestOptions(history="off")) as cutting:
        cutting.compact()
        cutting.add(record("first event", 80))
        mirror_manifest(location, replica.parent, options=QUIET)
        copy_manifest(replica, target)
        cutting.add(record("lost", 85))
        cutting.compact()
        cutting.add(record("last", 90))
        report = mirror_manifest(location, replica.parent, options=QUIET)
        copy_manifest(replica, target)
        assert (report.comparisons, seen(target)[0]) == (1, shown(engine_of(cutting)))


def forget_position(replica: Path) -> None:
    """Leave the note as a mirror does that is killed while it makes the replica."""
    driver = driver_for(replica)
    place = driver.locate(str(replica))
    note = driver.replica(place)
    assert note is not None
    driver.set_replica(place, note._replace(cursor="", own="", as_of=""))


def test_without_a_position_a_mirror_goes_on_after_the_events_that_the_replica_has(
    source: DownloadManifestManager, location: str, replica: Path
) -> None:
    mirror_manifest(location, replica.parent, options=QUIET)
    forget_position(replica)
    CHANGES["an alias"](source)
    report = mirror_manifest(location, replica.parent, options=QUIET)
    assert (report.comparisons, seen(replica)) == (0, (shown(engine_of(source)), told(engine_of(source))))


def test_without_a_position_and_the_first_events_all_records_are_compared(
    location: str, replica: Path, source: DownloadManifestManager
) -> None:
    source.close()
    with DownloadManifestManager(location, META, options=ManifestOptions(history="off")) as cutting:
        cutting.compact()
        cutting.add(record("first event", 80))
        mirror_manifest(location, replica.parent, options=QUIET)
        forget_position(replica)
        cutting.add(record("second event", 81))
        report = mirror_manifest(location, replica.parent, options=QUIET)
        assert (report.comparisons, seen(replica)[0]) == (1, shown(engine_of(cutting)))


# -- who may write -----------------------------------------------------------------------------------------------------


def test_nobody_else_opens_a_replica_to_write(mirror: Mirror, location: str, replica: Path) -> None:
    with pytest.raises(ReplicaError, match=r"this is a replica of .*: write there"):
        DownloadManifestManager(replica, META)


def test_a_refused_writer_is_told_by_an_error_of_read_only_manifests(mirror: Mirror, replica: Path) -> None:
    with pytest.raises(ReadOnlyError):
        DownloadManifestManager(replica)


def test_everybody_reads_a_replica(source: DownloadManifestManager, mirror: Mirror, replica: Path) -> None:
    with DownloadManifestManager(replica, read_only=True) as manifest:
        source.add(record("new", 60))
        mirror.update()
        assert manifest.has_checksum(sha("new"))


def test_a_replica_is_readable_while_its_source_is_away(mirror: Mirror, replica: Path, location: str) -> None:
    mirror.close()
    with DownloadManifestManager(replica, read_only=True) as manifest:
        assert manifest.has_checksum(sha("b"))


def test_a_manifest_is_not_made_a_replica(source: DownloadManifestManager, location: str, replica: Path) -> None:
    with DownloadManifestManager(replica, META, options=QUIET) as other:
        other.add(record("other"))
    with pytest.raises(ManifestExistsError, match="no replica"):
        Mirror(location, replica.parent)
    with DownloadManifestManager(replica, META, options=QUIET) as other:
        assert list(other) == [sha("other")]


def test_a_replica_follows_one_manifest(mirror: Mirror, replica: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / replica.name
    DownloadManifestManager(other, META, options=QUIET).close()
    with pytest.raises(ManifestExistsError, match="it is a replica of"):
        Mirror(other, replica.parent)


def test_a_source_that_was_made_anew_is_refused(tmp_path: Path, replica: Path) -> None:
    path = tmp_path / "source" / replica.name
    for day in (1, 2):
        path.unlink(missing_ok=True)
        metadata = META.model_copy(update={"ts_created": at(day), "ts_updated": at(day)})
        DownloadManifestManager(path, metadata, options=QUIET).close()
        if day == 1:
            mirror_manifest(path, replica.parent, options=QUIET)
    with pytest.raises(ManifestExistsError, match="was made anew"):
        mirror_manifest(path, replica.parent, options=QUIET)


def test_of_two_mirrors_of_one_replica_one_is_refused(
    source: DownloadManifestManager, mirror: Mirror, location: str, replica: Path
) -> None:
    with Mirror(location, replica.parent, options=QUIET) as other:
        other.update()
        source.add(record("new", 60))
        mirror.update()
        with pytest.raises(ManifestExistsError, match="another program has written to it meanwhile"):
            other.update()
    assert seen(replica)[1] == told(engine_of(source))


def test_a_note_that_cannot_be_read_still_refuses_writers(mirror: Mirror, replica: Path) -> None:
    mirror.close()
    replica.with_name("systems_download.manifest.replica.json").write_bytes(b"{")
    with pytest.raises(ReplicaError, match="which its note no longer names"):
        DownloadManifestManager(replica, META)


def test_a_replica_is_in_files(source: DownloadManifestManager, location: str, postgres_server: Server) -> None:
    url = postgres_server.url("x_y").replace("/x_y?", "/?")
    with pytest.raises(ManifestError, match="a replica is a manifest in files"):
        Mirror(location, url)


# -- how old it is -----------------------------------------------------------------------------------------------------


def test_a_replica_says_where_it_comes_from(mirror: Mirror, source: DownloadManifestManager, replica: Path) -> None:
    state = replica_state(replica)
    assert state is not None
    assert state.source == source.location.display


def test_a_current_replica_is_young(mirror: Mirror, replica: Path) -> None:
    state = replica_state(replica)
    assert state is not None
    assert 0 <= (state.age_s or 0.0) < 60


def test_a_replica_gets_older_while_its_source_is_away(
    mirror: Mirror, replica: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> str:
        raise LockTimeoutError("x", 0.0)

    monkeypatch.setattr(mirror._source, "cursor", away)
    before = replica_state(replica)
    turns = iter([False, False, False, False, True])
    mirror.run(lambda: next(turns), pause_max_s=0.001)
    assert replica_state(replica) == before


def test_a_mirror_follows_until_it_is_told_to_end(
    source: DownloadManifestManager, mirror: Mirror, replica: Path
) -> None:
    contents = iter(range(3))

    def is_over() -> bool:
        with suppress(StopIteration):
            source.add(record(f"new {next(contents)}", 60))
            return False
        return told(engine_of(source)) == seen(replica)[1]

    mirror.run(is_over, pause_max_s=0.01)
    assert seen(replica)[0] == shown(engine_of(source))


def test_a_manifest_that_is_no_replica_has_no_state(source: DownloadManifestManager, location: str) -> None:
    assert replica_state(location) is None


def test_the_status_names_the_source_of_a_replica(
    mirror: Mirror, source: DownloadManifestManager, replica: Path
) -> None:
    state = maintenance.status(replica).replica
    assert state is not None
    assert state.source == source.location.display


# -- roots -------------------------------------------------------------------------------------------------------------


def test_a_replica_has_a_root_that_leads_where_that_of_its_source_does(tmp_path: Path, replica: Path) -> None:
    path = tmp_path / "source" / "manifests" / replica.name
    metadata = META.model_copy(update={"root_dir": Path("..")})
    with DownloadManifestManager(path, metadata, options=QUIET) as manifest:
        manifest.add(record("a", file_path=Path("raw/a")))
        mirror_manifest(path, replica.parent, options=QUIET)
        with DownloadManifestManager(replica, read_only=True) as found:
            assert found.root == manifest.root


def test_a_replica_can_be_copied(
    mirror: Mirror, source: DownloadManifestManager, replica: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copied" / replica.name
    copy_manifest(replica, target)
    with opened(target) as copy:
        assert shown(copy) == shown(engine_of(source))
