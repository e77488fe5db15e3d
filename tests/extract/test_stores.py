"""What every object store must do: S3 on a real server, and the other stores on obstore's own in memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from obstore.store import MemoryStore

from extract.builders import source
from extract.running import FAST, pattern
from manifestlog.extract import Defaults, PipelineOrchestrator
from manifestlog.objects import other_stores
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.opening import Stores, open_store
from manifestlog.objects.protocol import Copied, ObjectStat
from support import answers

if TYPE_CHECKING:
    from manifestlog import DownloadManifestManager
    from manifestlog.objects.protocol import ObjectStore
    from support.badserver import BadServer
    from support.children import Link, Start
    from support.s3 import Folder

PART = pattern(5 << 20)
TAIL = pattern(1000, 1)
LARGE = PART + TAIL
SHA256 = hashlib.sha256(b"content").hexdigest()
NAMES = ["a.json", "a b.json", "ü.json", "100%41.json", "a#b.json", "a+b.json", "a=b&c.json", "(a),'b'.json"]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """The store of every `gs://` URL."""
    found = MemoryStore()
    monkeypatch.setattr(other_stores, "from_url", lambda _: found)
    return found


@pytest.fixture(params=["s3", "gs"])
def at(request: pytest.FixtureRequest) -> str:
    """The URL of an empty directory."""
    if request.param == "gs":
        request.getfixturevalue("memory")
        return "gs://bucket/raw"
    folder: Folder = request.getfixturevalue("s3_folder")
    return f"{folder.url}/raw"


@pytest.fixture
def store(at: str) -> ObjectStore:
    return open_store(at)


def read(store: ObjectStore, url: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.read(url, start, length))


def upload(store: ObjectStore, url: str, *parts: bytes) -> None:
    one = store.upload(url)
    for part in parts:
        one.write(part)
    one.complete()


# -- small objects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_object_has_the_name_that_it_is_given(store: ObjectStore, at: str, name: str) -> None:
    store.create(f"{at}/d/{name}", b"content", SHA256)
    assert [one.url for one in store.list(at)] == [f"{at}/d/{name}"]
    assert read(store, f"{at}/d/{name}") == b"content"


def test_an_object_that_is_there_is_not_created(store: ObjectStore, at: str) -> None:
    assert store.create(f"{at}/a", b"content", SHA256)
    assert not store.create(f"{at}/a", b"others!", hashlib.sha256(b"others!").hexdigest())
    assert read(store, f"{at}/a") == b"content"


def test_an_object_that_is_there_is_written_anew(store: ObjectStore, at: str) -> None:
    store.write(f"{at}/a", b"one")
    store.write(f"{at}/a", b"two")
    assert read(store, f"{at}/a") == b"two"


def test_the_size_of_an_object_is_known(store: ObjectStore, at: str) -> None:
    store.write(f"{at}/a", b"content")
    found = store.stat(f"{at}/a")
    assert found is not None
    assert (found.size, found.sha256 in (None, SHA256)) == (7, True)


def test_nothing_is_known_of_what_is_not_there(store: ObjectStore, at: str) -> None:
    assert store.stat(f"{at}/a") is None


def test_what_is_not_there_cannot_be_read(store: ObjectStore, at: str) -> None:
    with pytest.raises(ObjectStoreError):
        read(store, f"{at}/a")


@pytest.mark.parametrize(
    ("start", "length", "found"), [(0, None, b"content"), (3, None, b"tent"), (0, 3, b"con"), (3, 2, b"te")]
)
def test_a_range_is_read(store: ObjectStore, at: str, start: int, length: int | None, found: bytes) -> None:
    store.write(f"{at}/a", b"content")
    assert read(store, f"{at}/a", start, length) == found


def test_a_listing_has_what_lies_below_and_nothing_beside(store: ObjectStore, at: str) -> None:
    for name in ("raw/d/a", "raw/d/e/b", "raw/dd/c"):
        store.write(f"{at.removesuffix('raw')}{name}", b"content")
    assert [(one.url, one.size) for one in store.list(f"{at}/d")] == [(f"{at}/d/a", 7), (f"{at}/d/e/b", 7)]


def test_what_is_deleted_is_gone(store: ObjectStore, at: str) -> None:
    store.write(f"{at}/a", b"content")
    store.delete(f"{at}/a")
    store.delete(f"{at}/a")
    assert store.stat(f"{at}/a") is None


# -- large objects -----------------------------------------------------------------------------------------------------


def test_an_upload_has_all_parts_in_order(store: ObjectStore, at: str) -> None:
    upload(store, f"{at}/a", PART, TAIL)
    assert read(store, f"{at}/a") == LARGE


def test_nobody_sees_an_upload_before_it_is_complete(store: ObjectStore, at: str) -> None:
    one = store.upload(f"{at}/a")
    one.write(PART)
    assert store.stat(f"{at}/a") is None
    one.abort()


def test_an_upload_that_is_aborted_never_appears(store: ObjectStore, at: str) -> None:
    one = store.upload(f"{at}/a")
    one.write(PART)
    one.abort()
    assert (store.stat(f"{at}/a"), list(store.unfinished(at))) == (None, [])


def test_parts_that_lie_in_the_store_may_be_copied(store: ObjectStore, at: str) -> None:
    store.write(f"{at}/a", b"xx" + LARGE)
    one = store.upload(f"{at}/b")
    one.write(PART, Copied(f"{at}/a", 2))
    one.write(TAIL)
    one.complete()
    assert read(store, f"{at}/b") == LARGE


def test_a_copy_has_the_same_content(store: ObjectStore, at: str) -> None:
    upload(store, f"{at}/a", PART, TAIL)
    found = ObjectStat(len(LARGE), hashlib.sha256(LARGE).hexdigest())
    assert store.copy(f"{at}/a", f"{at}/b ü", found, creates=True)
    assert read(store, f"{at}/b ü") == LARGE


def test_a_copy_replaces_nothing_when_it_creates(store: ObjectStore, at: str) -> None:
    upload(store, f"{at}/a", PART, TAIL)
    store.write(f"{at}/b", b"content")
    assert not store.copy(f"{at}/a", f"{at}/b", ObjectStat(len(LARGE)), creates=True)
    assert (read(store, f"{at}/b"), list(store.unfinished(at))) == (b"content", [])


def test_a_copy_may_replace_an_object(store: ObjectStore, at: str) -> None:
    upload(store, f"{at}/a", PART, TAIL)
    store.write(f"{at}/b", b"content")
    assert store.copy(f"{at}/a", f"{at}/b", ObjectStat(len(LARGE)), creates=False)
    assert read(store, f"{at}/b") == LARGE


# -- s3 ----------------------------------------------------------------------------------------------------------------


def test_s3_refuses_what_differs_from_its_checksum(s3_folder: Folder) -> None:
    with pytest.raises(ObjectStoreError, match="BadDigest, PutObject"):
        open_store(s3_folder.url).create(f"{s3_folder.url}/a", b"content", "ab" * 32)
    assert s3_folder.keys == []


def test_a_copy_that_differs_from_its_checksum_does_not_appear(s3_folder: Folder) -> None:
    store = open_store(s3_folder.url)
    upload(store, f"{s3_folder.url}/a", PART, TAIL)
    with pytest.raises(ObjectStoreError, match="the store's copy has the SHA-256"):
        store.copy(f"{s3_folder.url}/a", f"{s3_folder.url}/b", ObjectStat(len(LARGE), "ab" * 32), creates=True)
    assert (s3_folder.keys, s3_folder.uploads) == (["a"], [])


def test_unfinished_uploads_are_found_and_aborted(s3_folder: Folder) -> None:
    store = open_store(s3_folder.url)
    s3_folder.begin("raw/a")
    s3_folder.begin("other/a")
    (found,) = store.unfinished(f"{s3_folder.url}/raw")
    store.abort(found)
    store.abort(found)
    assert s3_folder.uploads == ["other/a"]


# -- the others --------------------------------------------------------------------------------------------------------


def test_files_go_to_another_store(manifest: DownloadManifestManager, memory: MemoryStore, bad: BadServer) -> None:
    large = pattern((8 << 20) + 1)
    urls = [bad.script("/small", answers.whole(b"body")), bad.script("/large", answers.whole(large))]
    one = PipelineOrchestrator(manifest, data_dir="gs://bucket/raw", defaults=Defaults(**FAST))
    report = one.run(source(url, source_id=url[-5:], dataset="d") for url in urls)
    assert [outcome.error for outcome in report.outcomes] == [None, None]
    found = {str(record.file_path): record.file_size for record in manifest.records.values()}
    assert found == {"gs://bucket/raw/d/small": 4, "gs://bucket/raw/d/large": len(large)}
    assert sorted(found) == [one.url for one in open_store("gs://bucket").list("gs://bucket/raw/d")]
    assert memory is not None


def test_who_has_forked_is_refused_instead_of_waiting_for_ever(start: Start, memory: MemoryStore) -> None:
    open_store("gs://bucket/raw").stat("gs://bucket/raw/a")

    def fork(_: Link) -> str:
        with pytest.raises(ObjectStoreError, match="start processes by multiprocessing's `spawn`"):
            open_store("gs://bucket/raw")
        return "refused"

    assert start(fork).receive() == "refused"
    assert memory is not None


@pytest.mark.parametrize(("url", "method"), [("gs://bucket/raw", "spawn"), ("s3://bucket/raw", None)])
def test_workers_are_spawned_where_a_fork_would_hang(
    url: str, method: str | None, memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    stores = Stores()
    stores.of(url)
    assert (stores.context and stores.context.get_start_method(), memory is not None) == (method, True)


# -- opening -----------------------------------------------------------------------------------------------------------


def test_an_unknown_scheme_has_no_store() -> None:
    with pytest.raises(ObjectStoreError, match="expected s3://, gs:// or az://"):
        open_store("ftp://host/raw")


@pytest.mark.parametrize(("url", "module", "extra"), [("s3://b/k", "s3", "s3"), ("az://b/k", "other_stores", "az")])
def test_a_missing_library_says_what_to_install(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'lib'", name="lib")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ObjectStoreError, match=rf"needs lib; install it: pip install 'manifestlog\[{extra}\]'"):
        open_store(url)
    assert module
