"""Sources of fsspec: a store's properties of a file replace the validators of a server."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from extract.builders import raw_config, raw_source, source
from extract.running import NOON, pattern
from manifestlog.extract import Defaults, FetchRequest, MissingExtraError, Progress, RemoteFetcher, Result, plan_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extract.builders import Write
    from extract.running import Here

BODY = pattern(1000)
OTHER = pattern(1000, 1)


class StoreError(Exception):
    """An error of a store's own library; it contains the URL with a password."""

    def __init__(self) -> None:
        super().__init__("could not read store://user:password@host/x")


class Store(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store with the responses a test sets."""

    protocol = "store"
    store: dict[str, Any] = {}  # noqa: RUF012 -- as the class above keeps its files
    cachable = False
    extra: dict[str, Any] = {}  # noqa: RUF012 -- reset by the fixture
    fails_at: str = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._fail("init")
        super().__init__(*args, **kwargs)

    def _fail(self, where: str) -> None:
        if self.fails_at == where:
            raise StoreError

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        self._fail("info")
        told = {"created": None} | super().info(path, **kwargs) | self.extra
        return {name: value for name, value in told.items() if value is not None}

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        self._fail("open")
        return super().open(path, mode, **kwargs)


@pytest.fixture
def store() -> Iterator[type[Store]]:
    fsspec.register_implementation("store", Store, clobber=True)
    yield Store
    Store.extra, Store.fails_at = {}, ""
    Store.store.clear()
    MemoryFileSystem.store.clear()


def put(path: Path, body: bytes, seconds: int) -> None:
    path.write_bytes(body)
    os.utime(path, (seconds, seconds))


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", BODY, NOON)
    outcome = here.fetch(f"file://{tmp_path}/a.json")
    assert (outcome.result, here.body(), here.files) == (Result.NEW, BODY, ["systems/a.json"])


def test_a_file_is_recorded_with_its_time(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", BODY, NOON)
    here.fetch(f"file://{tmp_path}/a.json")
    assert (here.record().etag, here.record().last_modified) == (None, datetime.fromtimestamp(NOON, UTC).isoformat())


def test_a_file_of_the_same_time_is_unchanged(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", BODY, NOON)
    here.fetch(f"file://{tmp_path}/a.json")
    outcome = here.fetch(f"file://{tmp_path}/a.json")
    assert (outcome.result, outcome.bytes_fetched, outcome.bytes_saved) == (Result.UNCHANGED, 0, len(BODY))


def test_a_file_of_another_time_is_fetched(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", BODY, NOON)
    here.fetch(f"file://{tmp_path}/a.json")
    put(tmp_path / "a.json", OTHER, NOON + 1)
    assert (here.fetch(f"file://{tmp_path}/a.json").result, here.body()) == (Result.CHANGED, OTHER)


def test_an_older_file_is_fetched_too(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", BODY, NOON)
    here.fetch(f"file://{tmp_path}/a.json")
    put(tmp_path / "a.json", OTHER, NOON - 1)
    assert here.fetch(f"file://{tmp_path}/a.json").result is Result.CHANGED


def test_a_file_that_was_only_touched_is_refreshed(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", BODY, NOON)
    here.fetch(f"file://{tmp_path}/a.json")
    put(tmp_path / "a.json", BODY, NOON + 1)
    assert (here.fetch(f"file://{tmp_path}/a.json").result, here.files) == (Result.REFRESHED, ["systems/a.json"])


def test_a_missing_file_fails_at_once(here: Here, tmp_path: Path) -> None:
    outcome = here.fetch(f"file://{tmp_path}/none")
    assert (outcome.result, outcome.error, here.waits) == (
        Result.FAILED, "no such file: check the source's url", [],
    )  # fmt: skip


def test_a_folder_fails_at_once(here: Here, tmp_path: Path) -> None:
    outcome = here.fetch(f"file://{tmp_path}")
    assert (outcome.result, outcome.error, here.waits) == (
        Result.FAILED, "the url names a directory, not a file: check the source's url", [],
    )  # fmt: skip


def test_an_empty_file_fails(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", b"", NOON)
    outcome = here.fetch(f"file://{tmp_path}/a.json")
    assert (outcome.result, here.files) == (Result.FAILED, [])


class Broken(BaseException):
    """Anything that ends a process in an orderly way."""


def test_a_cut_file_is_resumed(here: Here, tmp_path: Path) -> None:
    large = pattern(3_500_000)
    put(tmp_path / "a.json", large, NOON)

    class Breaking(list[Any]):
        def append(self, event: Any) -> None:
            if isinstance(event, Progress):
                raise Broken

    here.events = Breaking()
    while not any(name.endswith(".part") for name in here.files):  # a slow machine tells before it has written
        with pytest.raises(Broken):
            here.fetch(f"file://{tmp_path}/a.json")
    here.events = []
    kept = here.part.stat().st_size
    outcome = here.fetch(f"file://{tmp_path}/a.json")
    assert (here.body(), outcome.bytes_fetched) == (large, len(large) - kept)
    assert kept > 0


def test_a_plan_of_a_file_reads_none_of_it(here: Here, tmp_path: Path) -> None:
    put(tmp_path / "a.json", BODY, NOON)
    (plan,) = plan_all(here.manifest, [source(f"file://{tmp_path}/a.json")])
    assert (plan.action, plan.length_bytes, here.files) == ("fetch", len(BODY), [])


# -- stores ------------------------------------------------------------------------------------------------------------


def keep(url: str, body: bytes) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(body)
    return url


@pytest.mark.usefixtures("store")
def test_a_store_in_memory_is_fetched(here: Here) -> None:
    assert (here.fetch(keep("memory://folder/a.json", BODY)).result, here.body()) == (Result.NEW, BODY)


@pytest.mark.usefixtures("store")
def test_a_store_in_memory_is_unchanged(here: Here) -> None:
    url = keep("memory://folder/a.json", BODY)
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED


@pytest.mark.usefixtures("store")
def test_a_store_in_memory_is_changed(here: Here) -> None:
    here.fetch(keep("memory://folder/a.json", BODY))
    assert here.fetch(keep("memory://folder/a.json", OTHER)).result is Result.CHANGED


@pytest.mark.usefixtures("store")
def test_a_file_that_a_store_does_not_have_fails(here: Here) -> None:
    assert here.fetch("memory://none.json").error == "no such file: check the source's url"


@pytest.mark.parametrize("name", ["ETag", "etag", "e_tag"])
def test_an_etag_of_a_store_is_recorded(here: Here, store: type[Store], name: str) -> None:
    store.extra = {name: '"a"'}
    here.fetch(keep("store://folder/a.json", BODY))
    assert here.record().etag == '"a"'


def test_an_etag_of_a_store_makes_unchanged(here: Here, store: type[Store]) -> None:
    store.extra = {"ETag": '"a"'}
    here.fetch(keep("store://folder/a.json", BODY))
    assert here.fetch(keep("store://folder/a.json", BODY)).result is Result.UNCHANGED


def test_another_etag_of_a_store_makes_changed(here: Here, store: type[Store]) -> None:
    store.extra = {"ETag": '"a"'}
    here.fetch(keep("store://folder/a.json", BODY))
    store.extra = {"ETag": '"b"'}
    assert here.fetch(keep("store://folder/a.json", OTHER)).result is Result.CHANGED


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00+00:00"),
        (NOON, "2024-01-01T12:00:00+00:00"),
        (NOON + 0.5, "2024-01-01T12:00:00.500000+00:00"),
        ("Mon, 01 Jan 2024", "Mon, 01 Jan 2024"),
        (b"2024", None),
    ],
)
def test_a_time_of_a_store_is_recorded_as_text(here: Here, store: type[Store], value: object, text: str) -> None:
    store.extra = {"created": None, "LastModified": value}
    here.fetch(keep("store://folder/a.json", BODY))
    assert here.record().last_modified == text


@pytest.mark.parametrize("value", [1e300, float("inf"), float("nan"), -1e300])
def test_an_invalid_time_fails_the_source_and_not_the_run(here: Here, store: type[Store], value: float) -> None:
    store.extra = {"created": None, "mtime": value}
    assert len(here.run(source(keep("store://folder/a.json", BODY))).outcomes) == 1


def test_a_store_without_metadata_is_fetched_every_time(here: Here, store: type[Store]) -> None:
    store.extra = {"created": None, "size": None}
    url = keep("store://folder/a.json", BODY)
    here.fetch(url)
    outcome = here.fetch(url)
    assert (outcome.result, outcome.bytes_fetched, here.files) == (Result.UNCHANGED, len(BODY), ["systems/a.json"])


def test_a_store_that_says_too_short_a_length_fails(here: Here, store: type[Store]) -> None:
    store.extra = {"size": 999}
    assert here.fetch(keep("store://folder/a.json", BODY)).result is Result.FAILED


@pytest.mark.parametrize("where", ["init", "info", "open"])
def test_an_error_of_a_store_fails_the_source_and_not_the_run(here: Here, store: type[Store], where: str) -> None:
    url = keep("store://folder/a.json", BODY)
    store.fails_at = where
    report = here.run(source(url, source_id="a"), source(keep("memory://folder/b.json", OTHER), source_id="b"))
    assert sorted(outcome.result for outcome in report.outcomes) == [Result.FAILED, Result.NEW]


@pytest.mark.parametrize("where", ["init", "info", "open"])
def test_an_error_of_a_store_is_retried(here: Here, store: type[Store], where: str) -> None:
    url = keep("store://folder/a.json", BODY)
    store.fails_at = where
    here.fetch(url, retries=2)
    assert len(here.waits) == 2


@pytest.mark.parametrize("where", ["init", "info", "open"])
def test_an_error_of_a_store_shows_no_password(here: Here, store: type[Store], where: str) -> None:
    url = keep("store://folder/a.json", BODY)
    store.fails_at = where
    error = here.fetch(url, retries=0).error
    assert error is not None
    assert ("password" in error, "StoreError" in error) == (False, True)


def test_a_store_that_cannot_be_planned_is_a_plan_that_failed(here: Here, store: type[Store]) -> None:
    url = keep("store://folder/a.json", BODY)
    store.fails_at = "init"
    (plan,) = plan_all(here.manifest, [source(url)])
    assert plan.action == "failed"


# -- schemes -----------------------------------------------------------------------------------------------------------


def test_an_unknown_scheme_fails_at_once(here: Here) -> None:
    outcome = here.fetch("nobody://host/a")
    assert (outcome.result, here.waits) == (Result.FAILED, [])
    assert outcome.error is not None
    assert "fsspec does not support the scheme nobody" in outcome.error


@pytest.mark.skipif(any(path for path in sys.path if Path(path, "s3fs").exists()), reason="s3fs is installed")
def test_a_scheme_that_needs_another_package_fails_and_names_it(here: Here) -> None:
    outcome = here.fetch("s3://bucket/key")
    assert (outcome.result, here.waits) == (Result.FAILED, [])
    assert outcome.error is not None
    assert "s3fs" in outcome.error


# -- without the extra -------------------------------------------------------------------------------------------------

INSTALL = "pip install 'manifestlog[extract]'"

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None  # as if it were not installed
from manifestlog.cli.app import main
sys.exit(main(sys.argv[2:]))
"""


def run_without(library: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, library, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(
    ("library", "url"),
    [("certifi", "https://host/a"), ("urllib3", "https://host/a"), ("fsspec", "file:///a")],
)
def test_without_the_extra_the_verb_says_which_command_installs_it(write: Write, library: str, url: str) -> None:
    done = run_without(library, "extract", write(raw_config(raw_source(url=url))))
    assert (done.returncode, INSTALL in done.stderr, library in done.stderr) == (1, True, True)
    assert "Traceback" not in done.stderr


def test_without_urllib3_files_are_fetched_all_the_same(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(BODY)
    done = run_without("urllib3", "extract", write(raw_config(raw_source(url=f"file://{tmp_path}/a.json"))))
    assert done.returncode == 0


@pytest.mark.parametrize(("library", "url"), [("urllib3", "https://host/a"), ("fsspec", "memory://a")])
def test_without_the_extra_the_fetcher_says_so(monkeypatch: pytest.MonkeyPatch, library: str, url: str) -> None:
    for name in ("manifestlog.extract.fetchers.http", "manifestlog.extract.fetchers.fsspec_fetcher"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match="pip install") as caught:
        RemoteFetcher(Defaults()).probe(source(url), FetchRequest())
    assert caught.value.library == library
