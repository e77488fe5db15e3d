"""`add_from_event`, `ProcessedManifestManager.pending`, and the factory."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    AbstractManifest,
    DownloadManifestManager,
    ETLProcess,
    ManifestFactory,
    ManifestNotFoundError,
    ProcessedManifestManager,
    RecordRejectedError,
    UnknownManifestTypeError,
    Verdict,
)

from .builders import META, QUIET, T0, meta, record, sha, traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Opener

pytestmark = pytest.mark.every_engine


@dataclass
class State:
    """What a pipeline remembers of a source."""

    last_etag: str | None = None


@dataclass
class Source:
    """A plain object; it inherits from nothing of the library."""

    source_id: str = "src"
    dataset: str = "set"
    state: State | None = field(default_factory=State)


@dataclass
class Event:
    """A finished download, likewise."""

    sha256: str = sha("a")
    file_path: Path | str = "/raw/a"
    file_size_bytes: int = 2
    etag: str | None = None
    ts_download_completed: datetime = T0


# -- add_from_event ----------------------------------------------------------------------------------------------------


def test_an_event_becomes_a_record(manifest: DownloadManifestManager) -> None:
    """Every field of the record comes from the event, the source or the opener."""
    assert manifest.add_from_event(Source(), Event()) == (Verdict.NEW, record("a"))


def test_the_events_etag_wins(manifest: DownloadManifestManager) -> None:
    """An event with an ETag gives the record its own."""
    answer = manifest.add_from_event(Source(state=State("old")), Event(etag="new"))
    assert answer.record.etag == "new"


def test_the_sources_last_etag_is_the_fallback(manifest: DownloadManifestManager) -> None:
    """An event without an ETag takes the source's last one."""
    assert manifest.add_from_event(Source(state=State("old")), Event()).record.etag == "old"


@pytest.mark.parametrize("source", [Source(), Source(state=None), SimpleNamespace(source_id="src", dataset="set")])
def test_no_etag_anywhere_is_none(manifest: DownloadManifestManager, source: Any) -> None:
    """A source needs no last ETag, and no state at all."""
    assert manifest.add_from_event(source, Event()).record.etag is None


def test_the_version_is_the_openers(opener: Opener) -> None:
    """Records are stamped with the opener's version, not with the one stored in the file."""
    opener(meta(etl_version="1.0.0")).close()
    assert opener(meta(etl_version="2.5.0")).add_from_event(Source(), Event()).record.version == "2.5.0"


def test_the_version_is_the_openers_even_when_older(opener: Opener) -> None:
    """An older opener stamps its own version, although the stored one stays."""
    opener(meta(etl_version="2.0.0")).close()
    assert opener(meta(etl_version="1.5.0")).add_from_event(Source(), Event()).record.version == "1.5.0"


@pytest.mark.files_only
def test_the_version_is_the_stored_one_without_metadata(opener: Opener) -> None:
    """An opener that says nothing stamps what is stored."""
    opener(meta(etl_version="2.0.0")).close()
    assert opener(None).add_from_event(Source(), Event()).record.version == "2.0.0"


def test_any_object_with_the_attributes_is_accepted(manifest: DownloadManifestManager) -> None:
    """Named tuples do as well as classes."""
    Pair = namedtuple("Pair", "source_id dataset")  # noqa: PYI024 -- that such a thing fits is the point
    assert manifest.add_from_event(Pair("src", "set"), Event()).verdict is Verdict.NEW


def test_an_upper_case_event_is_normalised(manifest: DownloadManifestManager) -> None:
    """An event's checksum may be upper case."""
    assert manifest.add_from_event(Source(), Event(sha256=sha("a").upper())).record.checksum == sha("a")


BAD_EVENTS = [
    ("checksum", {"sha256": "junk"}),
    ("file_size", {"file_size_bytes": 0}),
    ("ts_downloaded", {"ts_download_completed": datetime(2023, 1, 1)}),  # naive on purpose
]


@pytest.mark.parametrize(("name", "wrong"), BAD_EVENTS)
def test_a_bad_event_is_rejected_by_name(manifest: DownloadManifestManager, name: str, wrong: dict[str, Any]) -> None:
    """A bad event is rejected, naming the field."""
    with pytest.raises(RecordRejectedError, match=name):
        manifest.add_from_event(Source(), Event(**wrong))


@pytest.mark.parametrize(("name", "wrong"), BAD_EVENTS)
def test_a_bad_event_writes_nothing(manifest: DownloadManifestManager, name: str, wrong: dict[str, Any]) -> None:
    """A rejected event leaves the files alone."""
    del name
    before = traces(manifest)
    with pytest.raises(RecordRejectedError):
        manifest.add_from_event(Source(), Event(**wrong))
    assert traces(manifest) == before


def test_the_orchestrators_three_questions(manifest: DownloadManifestManager) -> None:
    """State check, deduplication and completion agree with each other."""
    manifest.add_from_event(Source(), Event(etag="v1"))
    found = manifest.get_record_by_source("src", "set")
    assert (found and found.etag, manifest.has_checksum(sha("a"))) == ("v1", True)


# -- pending -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def processed(directory: Path) -> Iterator[ProcessedManifestManager]:
    """The manifest of a step behind `manifest`."""
    metadata = META.model_copy(update={"process": ETLProcess.TRANSFORMER})
    with ProcessedManifestManager(directory / "systems_ingestion.manifest.json", metadata, options=QUIET) as manager:
        yield manager


@pytest.fixture
def upstream(manifest: DownloadManifestManager) -> DownloadManifestManager:
    """Three downloads."""
    manifest.add_many(record(c, n, source=c) for n, c in enumerate("abc"))
    return manifest


def _pending(processed: ProcessedManifestManager, upstream: AbstractManifest) -> set[str]:
    return {r.checksum for r in processed.pending(upstream)}


def test_everything_is_pending_at_first(processed: ProcessedManifestManager, upstream: DownloadManifestManager) -> None:
    """With no outputs, every upstream record is pending, as a record."""
    assert list(processed.pending(upstream)) == [upstream.records[c] for c in upstream]


def test_an_input_that_was_used_is_not_pending(
    processed: ProcessedManifestManager, upstream: DownloadManifestManager
) -> None:
    """What an output was derived from is done."""
    processed.add(record("out", derived_from=(sha("a"),)))
    assert _pending(processed, upstream) == {sha("b"), sha("c")}


def test_an_output_of_several_inputs_does_them_all(
    processed: ProcessedManifestManager, upstream: DownloadManifestManager
) -> None:
    """One output may have many inputs."""
    processed.add(record("out", derived_from=tuple(map(sha, "abc"))))
    assert _pending(processed, upstream) == set()


def test_a_forgotten_output_is_pending_again(
    processed: ProcessedManifestManager, upstream: DownloadManifestManager
) -> None:
    """When an output is forgotten, its inputs are pending again."""
    processed.add(record("out", derived_from=(sha("a"),)))
    processed.save()
    processed.forget(sha("out"))
    assert sha("a") in _pending(processed, upstream)


@pytest.mark.parametrize("minute", [-1, 0, 1])
@pytest.mark.parametrize("source", ["src", "other"])
def test_the_same_output_of_two_inputs_does_both(
    processed: ProcessedManifestManager, upstream: DownloadManifestManager, minute: int, source: str
) -> None:
    """Two inputs that give the same output are both done, in whatever order they were reported."""
    processed.add(record("out", 5, derived_from=(sha("a"),)))
    processed.add(record("out", 5 + minute, source=source, derived_from=(sha("b"),)))
    assert _pending(processed, upstream) == {sha("c")}


def test_inputs_are_kept_by_a_compaction(
    processed: ProcessedManifestManager, upstream: DownloadManifestManager
) -> None:
    """What an output was derived from is in the canonical."""
    processed.add(record("out", 5, derived_from=(sha("a"),)))
    processed.save()
    processed.add(record("out", 6, derived_from=(sha("b"),)))
    processed.save()
    assert _pending(processed, upstream) == {sha("c")}


def test_inputs_of_one_batch_are_joined(processed: ProcessedManifestManager, upstream: DownloadManifestManager) -> None:
    """One output reported twice in a batch has both inputs."""
    processed.add_many([record("out", n, derived_from=(sha(c),)) for n, c in enumerate("ab")])
    assert _pending(processed, upstream) == {sha("c")}


def test_an_older_output_still_counts_its_input_as_done(
    processed: ProcessedManifestManager, upstream: DownloadManifestManager
) -> None:
    """A source went on to other content; an old output of it that names another input does that input too."""
    processed.add(record("out", 5, derived_from=(sha("a"),)))
    processed.add(record("next", 6))
    processed.add(record("out", 4, derived_from=(sha("b"),)))
    assert _pending(processed, upstream) == {sha("c")}


def test_inputs_may_be_upper_case(processed: ProcessedManifestManager, upstream: DownloadManifestManager) -> None:
    """Upper-case hex is normalised in `derived_from` too."""
    processed.add(record("out", derived_from=(sha("a").upper(),)))
    assert sha("a") not in _pending(processed, upstream)


def test_an_output_event_takes_its_inputs(
    processed: ProcessedManifestManager, upstream: DownloadManifestManager
) -> None:
    """`add_output` is `add_from_event` with inputs."""
    processed.add_output(Source(), Event(), [sha("a"), sha("b")])
    assert _pending(processed, upstream) == {sha("c")}


def test_pending_of_an_empty_upstream(processed: ProcessedManifestManager, manifest: DownloadManifestManager) -> None:
    """Nothing upstream, nothing pending."""
    assert list(processed.pending(manifest)) == []


def test_a_processed_manifest_is_updated_without_an_etag(processed: ProcessedManifestManager) -> None:
    """Outputs have no ETag, so an update need not give one."""
    processed.add(record("out"))
    processed.update(sha("out"), {"checksum": sha("out"), "file_path": "/moved", "file_size": 4})
    assert str(processed.records[sha("out")].file_path) == "/moved"


# -- the factory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [("downloads", DownloadManifestManager), ("processed", ProcessedManifestManager)]
)
def test_the_factory_knows_both_kinds(directory: Path, name: str, kind: type[AbstractManifest]) -> None:
    """`downloads` and `processed` are registered from the start."""
    with ManifestFactory.get_manifest_manager(name, directory / "a_b.manifest.json", META) as manager:
        assert type(manager) is kind


def test_the_factory_opens_what_exists(path: Path, opener: Opener) -> None:
    """Without metadata, an existing manifest is opened."""
    opener().close()
    with ManifestFactory.get_manifest_manager("downloads", path) as manager:
        assert len(manager) == 0


def test_the_factory_creates_nothing_without_metadata(path: Path) -> None:
    """Without metadata, a missing manifest is not found."""
    with pytest.raises(ManifestNotFoundError):
        ManifestFactory.get_manifest_manager("downloads", path)


def test_an_unknown_kind_lists_the_known(path: Path) -> None:
    """An unknown name is an error with the known names."""
    with pytest.raises(UnknownManifestTypeError, match=r"uploads.*downloads, processed"):
        ManifestFactory.get_manifest_manager("uploads", path, META)


def test_an_unknown_kind_is_a_value_error(path: Path) -> None:
    """Code that knows only Python's own errors catches it too."""
    with pytest.raises(ValueError, match="uploads"):
        ManifestFactory.get_manifest_manager("uploads", path, META)


def test_a_registered_kind_is_created(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own kind can be registered."""

    class Mine(DownloadManifestManager):
        """One's own kind."""

    monkeypatch.setattr(ManifestFactory, "_types", dict(ManifestFactory._types))
    ManifestFactory.register_manifest_type("mine", Mine)
    with ManifestFactory.get_manifest_manager("mine", directory / "a_b.manifest.json", META) as manager:
        assert type(manager) is Mine


@pytest.mark.parametrize("wrong", [int, "downloads", None])
def test_anything_but_a_manager_class_is_not_registered(wrong: Any) -> None:
    """Only subclasses of `AbstractManifest` can be registered."""
    with pytest.raises(TypeError):
        ManifestFactory.register_manifest_type("wrong", wrong)


def test_a_known_name_keeps_its_kind() -> None:
    """A name that is taken cannot be given to another class."""
    with pytest.raises(ValueError, match="downloads"):
        ManifestFactory.register_manifest_type("downloads", ProcessedManifestManager)


def test_the_abstract_manifest_cannot_be_opened(path: Path) -> None:
    """`update` is abstract, so the base class has no instances."""
    with pytest.raises(TypeError, match="update"):
        AbstractManifest(path, META)  # type: ignore[abstract]


def test_another_version_of_a_stage_is_recorded(processed: ProcessedManifestManager) -> None:
    """Otherwise nobody could tell whether version 2 has done its work; the bytes are the same."""
    processed.add(record("out", 1, version="1"))
    again = processed.add(record("out", 2, version="2"))
    assert (again.verdict, again.record.version) == (Verdict.REFRESHED, "2")


def test_the_same_version_of_a_stage_is_a_duplicate(processed: ProcessedManifestManager) -> None:
    processed.add(record("out", 1, version="1"))
    assert processed.add(record("out", 2, version="1")).verdict is Verdict.DUPLICATE


def test_another_version_of_a_download_is_a_duplicate(upstream: DownloadManifestManager) -> None:
    """Who downloaded it says nothing of what it is."""
    upstream.add(record("in", 1, version="1"))
    assert upstream.add(record("in", 2, version="2")).verdict is Verdict.DUPLICATE
