"""Members that a newer version wrote: kept by everything, shown by nothing; and none may be made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ConfigDict, ValidationError

from manifestlog import (
    AddManyStoppedError,
    DownloadManifestManager,
    ManifestMetadata,
    ManifestRecord,
    Observation,
    RecordRejectedError,
)

from .builders import META, QUIET, at, record, sha

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEWER: dict[str, Any] = {
    "source_id": "src",
    "dataset": "set",
    "checksum": sha("a"),
    "file_path": "/raw/a",
    "file_size": 2,
    "etag": None,
    "ts_downloaded": "2023-01-01T12:05:00Z",
    "version": "9",
    "also_seen": [
        {
            "source_id": "other",
            "dataset": "set",
            "file_path": "/o",
            "etag": "x",
            "ts_downloaded": "2023-01-01T12:00:00Z",
            "version": "9",
            "mirror": {"host": "m1", "tries": [1, 2.5, None]},
        }
    ],
    "compression": {"kind": "zstd", "level": 3},
    "tags": ["b", "a"],
    "zero": 0,
    "nothing": None,
    "text": "",
}
UNKNOWN = ("compression", "tags", "zero", "nothing", "text")


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[DownloadManifestManager]:
    """A manifest that a newer version wrote."""
    path = tmp_path / "systems_download.manifest.json"
    metadata = META.model_dump(mode="json") | {"total_records": 1, "owner": {"team": "data"}}
    path.write_text(json.dumps({"metadata": metadata, "records": {sha("a"): NEWER}}))
    with DownloadManifestManager(path, options=QUIET) as manager:
        yield manager


def _on_disk(manager: DownloadManifestManager) -> Any:
    manager.save()
    return json.loads(manager.path.read_bytes())


def _nothing(manager: DownloadManifestManager) -> None:
    manager.add(record("b"))


def _twice(manager: DownloadManifestManager) -> None:
    manager.add(record("b"))
    manager.save()
    manager.add(record("c"))


def _update(manager: DownloadManifestManager) -> None:
    manager.update(sha("a"), {"checksum": sha("a"), "etag": "z", "file_path": "/z", "file_size": 9})


def _refresh(manager: DownloadManifestManager) -> None:
    manager.add(record("a", 9, etag="z"))


def _alias(manager: DownloadManifestManager) -> None:
    manager.add(record("a", 9, source="third"))


def _revert(manager: DownloadManifestManager) -> None:
    manager.add(record("b", 9))
    manager.add(record("a", 10))


@pytest.fixture(params=[_nothing, _twice, _update, _refresh, _alias, _revert], ids=lambda f: f.__name__[1:])
def change(request: pytest.FixtureRequest) -> Callable[[DownloadManifestManager], None]:
    """What happens to the record before the compaction."""
    chosen: Callable[[DownloadManifestManager], None] = request.param
    return chosen


def test_unknown_members_survive(newer: DownloadManifestManager, change: Callable[..., None]) -> None:
    """Unknown members of a record survive a compaction and every change of the record."""
    change(newer)
    stored = _on_disk(newer)["records"][sha("a")]
    assert {name: stored.get(name) for name in UNKNOWN} == {name: NEWER[name] for name in UNKNOWN}


def test_unknown_members_of_an_observation_survive(newer: DownloadManifestManager, change: Callable[..., None]) -> None:
    """Unknown members of an observation survive, nested as they are."""
    change(newer)
    seen = _on_disk(newer)["records"][sha("a")]["also_seen"]
    assert NEWER["also_seen"][0] in seen


def test_unknown_members_of_the_metadata_survive(newer: DownloadManifestManager, change: Callable[..., None]) -> None:
    """Unknown members of the metadata survive."""
    change(newer)
    assert _on_disk(newer)["metadata"].get("owner") == {"team": "data"}


def test_unknown_members_survive_when_an_observation_becomes_the_latest(newer: DownloadManifestManager) -> None:
    """An observation that becomes the latest takes nothing of the record's away, and nothing foreign along."""
    newer.add(record("a", 9, source="other", etag="x", file_path="/other"))
    stored = _on_disk(newer)["records"][sha("a")]
    assert {name: stored.get(name) for name in UNKNOWN} == {name: NEWER[name] for name in UNKNOWN}


def test_unknown_members_do_not_show(newer: DownloadManifestManager) -> None:
    """A record read from the disk has the fields that this version understands."""
    assert newer.records[sha("a")] == ManifestRecord(
        source_id="src", dataset="set", checksum=sha("a"), file_path=Path("/raw/a"), file_size=2,
        ts_downloaded=at(5), version="9",
        also_seen=(
            Observation(source_id="other", dataset="set", file_path=Path("/o"), etag="x", ts_downloaded=at(0), version="9"),
        ),
    )  # fmt: skip


def test_an_older_source_of_a_record_with_unknown_members_is_found(newer: DownloadManifestManager) -> None:
    """The observation in `also_seen` answers for its source."""
    found = newer.get_record_by_source("other")
    assert found is not None
    assert found.etag == "x"


def test_an_unknown_keyword_is_an_error() -> None:
    """`ManifestRecord(colour=…)` is refused, naming the field."""
    with pytest.raises(ValidationError, match="colour"):
        record("a", colour="red")


def test_an_unknown_keyword_of_an_observation_is_an_error() -> None:
    """`Observation(colour=…)` likewise."""
    with pytest.raises(ValidationError, match="colour"):
        Observation(
            source_id="s",
            dataset="d",
            file_path=Path("/p"),
            ts_downloaded=at(0),
            version="1",
            colour="red",  # type: ignore[call-arg]
        )


def test_a_record_cannot_be_changed() -> None:
    """Records are frozen."""
    with pytest.raises(ValidationError, match="frozen"):
        record("a").etag = "x"


# -- subclasses --------------------------------------------------------------------------------------------------------


class _Coloured(ManifestRecord):
    colour: str = "red"


class _ColouredObservation(Observation):
    colour: str = "red"


class _Open(ManifestRecord):
    model_config = ConfigDict(extra="allow")


class _ColouredMetadata(ManifestMetadata):
    colour: str = "red"


class _OpenMetadata(ManifestMetadata):
    model_config = ConfigDict(extra="allow")


class _WithMethod(ManifestRecord):
    def name(self) -> str:
        """What the file is called."""
        return self.file_path.name


def _coloured() -> ManifestRecord:
    return _Coloured(**record("a").model_dump(), colour="blue")


def _open() -> ManifestRecord:
    return _Open(**(record("a").model_dump() | {"colour": "blue"}))


def _seen_in_colour() -> ManifestRecord:
    fields = record("a", source="other").model_dump(exclude={"checksum", "file_size", "also_seen", "derived_from"})
    return record("a", also_seen=(_ColouredObservation(**fields),))


UNKEPT = [_coloured, _open, _seen_in_colour]


@pytest.mark.parametrize("make", UNKEPT)
def test_a_field_of_a_subclass_is_refused_by_name(
    newer: DownloadManifestManager, make: Callable[[], ManifestRecord]
) -> None:
    """It would not be on the disk, so the answer must not hold it."""
    with pytest.raises(RecordRejectedError, match="does not keep: colour"):
        newer.add(make())


@pytest.mark.parametrize("make", UNKEPT)
def test_a_field_of_a_subclass_is_refused_in_a_batch(
    newer: DownloadManifestManager, make: Callable[[], ManifestRecord]
) -> None:
    with pytest.raises(AddManyStoppedError, match="colour"):
        newer.add_many([record("b"), make()])


@pytest.mark.parametrize("make", UNKEPT)
def test_a_rejected_record_writes_nothing(newer: DownloadManifestManager, make: Callable[[], ManifestRecord]) -> None:
    before = len(newer)
    with pytest.raises(AddManyStoppedError):
        newer.add_many([record("b"), make()])
    assert len(newer) == before


def test_a_subclass_without_additional_fields_is_accepted(newer: DownloadManifestManager) -> None:
    given = _WithMethod(**record("b").model_dump())
    newer.add(given)
    assert newer.get(given.checksum) == record("b")


@pytest.mark.parametrize("kind", [_ColouredMetadata, _OpenMetadata])
@pytest.mark.parametrize("there", [True, False])
def test_a_field_of_metadata_of_a_subclass_is_refused_by_name(
    tmp_path: Path, kind: type[ManifestMetadata], there: bool
) -> None:
    path = tmp_path / "other_download.manifest.json"
    if there:
        DownloadManifestManager(path, META, options=QUIET).close()
    with pytest.raises(ValueError, match="does not keep: colour"):
        DownloadManifestManager(path, kind(**(META.model_dump() | {"colour": "blue"})), options=QUIET)
