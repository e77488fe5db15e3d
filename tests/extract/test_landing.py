"""Parts that complete at the same time land together: one write for all records, and nobody pays for another's failure."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import source
from extract.running import Here, pattern, sha256
from manifestlog import DownloadManifestManager, EventKind
from manifestlog.extract import ETLSource, Outcome, ResponseHead, landing
from manifestlog.extract.claims import Claims
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.part_file import PartFile, PartWriter
from manifestlog.extract.paths import SourcePaths
from manifestlog.extract.register import register
from manifestlog.workers.grouping import Grouping
from support.records import QUICK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE_S = 20.0
Found = Outcome | Exception


class Together:
    """Completes sources in threads of their own, which form one group."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self.grouping = Grouping[Any]()
        self.found: dict[str, Found] = {}

    def __call__(self, *bodies: tuple[ETLSource, bytes], etags: Mapping[str, str] | None = None) -> list[Found]:
        """Complete these sources with these bodies."""

        def lead(_group: list[Any]) -> None:
            while len(self.grouping._waiting) < len(bodies):
                threading.Event().wait(0.001)

        first = threading.Thread(target=self.grouping.join, args=(None, lead))
        first.start()
        while not self.grouping._is_led:
            threading.Event().wait(0.001)
        threads = [
            threading.Thread(target=self._complete, args=(one, body, (etags or {}).get(one.source_id)))
            for one, body in bodies
        ]
        for thread in (*threads, first):
            if thread is not first:
                thread.start()
        for thread in (*threads, first):
            thread.join(PATIENCE_S)
        return [self.found[one.source_id] for one, _ in bodies]

    def _complete(self, one: ETLSource, body: bytes, etag: str | None) -> None:
        here = self.here
        part = PartFile(SourcePaths.of(here.data_dir, one))
        with PartWriter(part, ResponseHead(200, etag, length_bytes=len(body))) as writer:
            writer.write(body)
        before = here.manifest.get_record_by_source(one.source_id, one.dataset)
        try:
            with Claims(here.manifest, here.data_dir) as claims:
                context = here.context(claims, landing=self.grouping)
                self.found[one.source_id] = register(context, one, part, sha256(body), before, {"status": 200})
        except Exception as error:
            self.found[one.source_id] = error


@pytest.fixture
def together(here: Here) -> Together:
    return Together(here)


def some(number: int) -> list[tuple[ETLSource, bytes]]:
    return [(source(f"https://host/{n}", source_id=f"s{n}"), pattern(1000, n)) for n in range(number)]


def results(found: list[Found]) -> list[str]:
    return [one.result.value if isinstance(one, Outcome) else type(one).__name__ for one in found]


def batches(manifest: DownloadManifestManager) -> int:
    logs = manifest.path.parent.glob("*.wal-*.jsonl")
    return sum(line.startswith(b'{"op":"batch"') for log in logs for line in log.read_bytes().splitlines())


def test_all_are_registered_in_one_write(here: Here, together: Together) -> None:
    assert (results(together(*some(5))), batches(here.manifest)) == (["new"] * 5, 1)


def test_every_file_is_where_its_record_says(here: Here, together: Together) -> None:
    bodies = some(5)
    together(*bodies)
    assert [here.body(one.source_id, one.dataset) for one, _ in bodies] == [body for _, body in bodies]


def test_nothing_else_is_left(here: Here, together: Together) -> None:
    together(*some(5))
    assert here.files == [f"star_systems/{n}" for n in range(5)]


def test_every_event_has_its_attempt(here: Here, together: Together) -> None:
    together(*some(3))
    assert [event.status for event in here.manifest.history(kinds=[EventKind.PUT])] == [200] * 3


def test_a_content_that_comes_twice_is_stored_once(here: Here, together: Together) -> None:
    (one, body), (other, _) = some(2)
    assert (sorted(results(together((one, body), (other, body)))), len(here.files)) == (["alias", "new"], 1)


def test_a_content_that_is_known_is_not_stored_again(here: Here, together: Together) -> None:
    (one, body), (other, _), third = some(3)
    together((one, body))
    assert (results(together((other, body), third)), len(here.files)) == (["alias", "new"], 2)


def test_two_contents_of_one_name_get_two_names(here: Here, together: Together) -> None:
    bodies = [(source("https://host/a", source_id=f"s{n}"), pattern(1000, n)) for n in range(2)]
    assert results(together(*bodies)) == ["new", "new"]
    assert {here.body(one.source_id, one.dataset) for one, _ in bodies} == {body for _, body in bodies}


def test_a_name_that_a_foreign_file_has_is_not_used(here: Here, together: Together) -> None:
    taken = here.data_dir / "star_systems" / "0"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"foreign")
    assert (results(together(*some(2))), taken.read_bytes()) == (["new", "new"], b"foreign")


def test_a_file_of_the_same_content_without_a_record_is_adopted(here: Here, together: Together) -> None:
    """As a crash between name and record leaves it."""
    bodies = some(2)
    left = here.data_dir / "star_systems" / "0"
    left.parent.mkdir(parents=True)
    left.write_bytes(bodies[0][1])
    assert (results(together(*bodies)), here.files) == (["new", "new"], ["star_systems/0", "star_systems/1"])


@pytest.mark.parametrize("is_known", [True, False])
def test_a_file_of_a_killed_run_is_registered_although_another_source_has_its_content(
    here: Here, together: Together, is_known: bool
) -> None:
    """Otherwise no record would ever name it: its source is unchanged from now on."""
    (one, body), (other, _) = some(2)
    left = here.data_dir / "star_systems" / "1"
    left.parent.mkdir(parents=True)
    left.write_bytes(body)
    if is_known:
        together((one, body))
    together((one, body), (other, body))
    assert here.record("s1", "star_systems").file_path == left


def test_a_directory_in_the_place_of_a_file_does_not_matter_to_an_alias(here: Here, together: Together) -> None:
    (one, body), (other, _) = some(2)
    together((one, body))
    (here.data_dir / "star_systems" / "1").mkdir()
    assert results(together((other, body))) == ["alias"]


def test_a_member_whose_names_are_taken_fails_alone(here: Here, together: Together) -> None:
    bodies = some(3)
    folder = here.data_dir / "star_systems"
    folder.mkdir(parents=True)
    (folder / "0").write_bytes(b"foreign")
    (folder / f"0-{sha256(bodies[0][1])[:12]}").write_bytes(b"foreign")
    found = together(*bodies)
    assert results(found) == ["ExtractError", "new", "new"]


def test_a_record_that_is_rejected_fails_alone(here: Here, together: Together) -> None:
    """It cannot be in one write with the others, so each is written by itself."""
    too_long = "e" * (QUICK.record_bytes_max + 1)
    assert results(together(*some(3), etags={"s1": too_long})) == ["new", "RecordRejectedError", "new"]
    assert len(here.manifest) == 2


def test_a_member_whose_content_another_worker_has_waits_for_it_alone(here: Here, together: Together) -> None:
    """The others are registered meanwhile."""
    bodies = some(3)
    with Claims(here.manifest, here.data_dir) as other:
        claim = other.trying("content", sha256(bodies[0][1]))
        assert claim.__enter__()

        def release() -> None:
            while len(here.manifest) < 2:
                threading.Event().wait(0.001)
            claim.__exit__(None, None, None)

        releasing = threading.Thread(target=release)
        releasing.start()
        found = together(*bodies)
        releasing.join(PATIENCE_S)
    assert results(found) == ["new"] * 3


def test_a_content_that_another_worker_has_is_not_stored_beside_it(here: Here, together: Together) -> None:
    """Before that worker is done, nobody knows where it will be."""
    bodies, stored = some(3), []
    with Claims(here.manifest, here.data_dir) as other:
        claim = other.trying("content", sha256(bodies[0][1]))
        assert claim.__enter__()

        def release() -> None:
            while len(here.manifest) < 2:
                threading.Event().wait(0.001)
            stored.extend(here.files)
            claim.__exit__(None, None, None)

        releasing = threading.Thread(target=release)
        releasing.start()
        together(*bodies)
        releasing.join(PATIENCE_S)
    assert "star_systems/0" not in stored


def test_a_known_content_whose_file_is_gone_is_stored_again(here: Here, together: Together) -> None:
    """Somebody has deleted it."""
    (one, body), (other, _), third = some(3)
    together((one, body))
    first = here.data_dir / "star_systems" / "0"
    first.unlink()
    together((other, body), third)
    assert here.body(other.source_id, other.dataset) == body
    first.write_bytes(body)  # for the check at the end


def test_alone_a_name_that_a_foreign_file_has_is_not_used(here: Here) -> None:
    """A member that could not land with its group does the same by itself."""
    taken = here.data_dir / "star_systems" / "0"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"foreign")
    ((one, body),) = some(1)
    part = PartFile(SourcePaths.of(here.data_dir, one))
    with PartWriter(part, ResponseHead(200, None, length_bytes=len(body))) as writer:
        writer.write(body)
    with Claims(here.manifest, here.data_dir) as claims:
        register(here.context(claims), one, part, sha256(body), None, {"status": 200})
    assert taken.read_bytes() == b"foreign"


def test_what_fails_for_the_manifest_fails_for_all(
    here: Here, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DownloadManifestManager, "add_each", full)
    assert results(together(*some(3))) == ["OSError"] * 3
    assert len(here.manifest) == 0


def test_without_its_directory_on_the_disk_nothing_is_registered(
    here: Here, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the sync of a directory fails, a power cut could take the name; the other directory's files are registered."""

    def fail(directories: list[Path]) -> None:
        if directories[0].name == "bad":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(landing, "sync_directories", fail)
    bad = (source("https://host/x", source_id="x", dataset="bad"), b"content")
    assert (results(together(*some(2), bad)), len(here.manifest)) == (["new", "new", "OSError"], 2)


def test_the_order_survives_a_power_cut(here: Here, together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, names, directory, records: each is durable before the next."""
    log: list[str] = []
    fsync, replace, add_each = os.fsync, os.replace, DownloadManifestManager.add_each

    def logged_sync(fd: int) -> None:
        log.append("directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "bytes")
        fsync(fd)

    def logged_replace(old: Any, new: Any) -> None:
        log.append("name")
        replace(old, new)

    def logged_add(*arguments: Any, **options: Any) -> Any:
        log.append("records")
        return add_each(*arguments, **options)

    bodies = some(3)
    (here.data_dir / "star_systems").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", logged_sync)
    monkeypatch.setattr(os, "replace", logged_replace)
    monkeypatch.setattr(DownloadManifestManager, "add_each", logged_add)
    together(*bodies)
    assert log[: log.index("records")] == ["bytes"] * 3 + ["name"] * 3 + ["directory"]


def test_an_error_that_is_no_error_of_the_member_is_raised_by_it(here: Here, together: Together) -> None:
    """Each thread gets the error of its own source."""
    folder = here.data_dir / "star_systems"
    folder.mkdir(parents=True)
    bodies = some(2)
    for name in ("0", f"0-{sha256(bodies[0][1])[:12]}"):
        (folder / name).write_bytes(b"foreign")
    found = together(*bodies)
    assert isinstance(found[0], ExtractError)
    assert "both names" in str(found[0])
