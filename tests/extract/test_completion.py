"""The last steps of a source: after a crash at any step the next run finishes, and no file is overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import source
from extract.running import Here, pattern, sha256
from manifestlog import DownloadManifestManager
from manifestlog.extract import Result, paths
from manifestlog.extract.claims import Claims
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.part_file import PartFile
from manifestlog.extract.paths import SourcePaths
from manifestlog.extract.register import register
from support import answers
from support.faults import die
from support.records import QUICK, metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from support.badserver import BadServer
    from support.children import Link, Start

    Crash: TypeAlias = Callable[[str, str, str], None]

pytestmark = pytest.mark.usefixtures("no_small_bodies")

BODY = pattern(1000)
OTHER = pattern(900, 1)
ETAG = '"a"'

STEPS: dict[str, tuple[Any, str]] = {
    "record_intent": (PartFile, "record_intent"),
    "publish": (PartFile, "rename"),
    "register": (DownloadManifestManager, "add"),
    "discard": (PartFile, "discard"),
}
OF_AN_ALIAS = ["register", "discard"]
"""The steps for a content that is already stored."""


def die_at(step: str, when: str) -> None:
    """Kill this process at this step from now on. For child processes only: never undone."""
    owner, name = STEPS[step]
    real = getattr(owner, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if name == "discard" and not paths.part_state_path(args[0].path).exists():
            return real(*args, **kwargs)  # before the download has started
        if when == "after":
            real(*args, **kwargs)
        return die()

    setattr(owner, name, deadly)


def run_and_die(link: Link, path: Path, data_dir: Path, url: str, step: str, when: str) -> None:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        die_at(step, when)
        Here(manifest, data_dir).fetch(url)


@pytest.fixture
def crash(start: Start, path: Path, here: Here) -> Crash:
    """Fetch a URL in a process that is killed before or after a step."""

    def crash_it(url: str, step: str, when: str) -> None:
        child = start(run_and_die, path, here.data_dir, url, step, when)
        assert child.join() == -9

    return crash_it


before_and_after = pytest.mark.parametrize("when", ["before", "after"])


# -- killed ------------------------------------------------------------------------------------------------------------


@before_and_after
@pytest.mark.parametrize("step", STEPS)
def test_a_new_file_is_finished_by_the_next_run(here: Here, bad: BadServer, crash: Crash, step: str, when: str) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, step, when)
    assert here.fetch(url).error is None
    assert (here.body(), here.files, len(here.manifest.records)) == (BODY, ["systems/a"], 1)


@before_and_after
@pytest.mark.parametrize("step", STEPS)
def test_a_new_file_is_not_sent_again(here: Here, bad: BadServer, crash: Crash, step: str, when: str) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, step, when)
    outcome = here.fetch(url)
    assert (bad.bodies["/a"], outcome.bytes_fetched) == (len(BODY), 0)


@before_and_after
@pytest.mark.parametrize("step", STEPS)
def test_a_new_file_keeps_its_validators(here: Here, bad: BadServer, crash: Crash, step: str, when: str) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    url = bad.script("/a", answers.whole(BODY, ETAG, date))
    crash(url, step, when)
    here.fetch(url)
    assert (here.record().etag, here.record().last_modified) == (ETAG, date)


@before_and_after
@pytest.mark.parametrize("step", STEPS)
def test_there_is_never_a_record_without_its_file(
    here: Here, bad: BadServer, crash: Crash, step: str, when: str
) -> None:
    crash(bad.script("/a", answers.whole(BODY, ETAG)), step, when)
    here.check()


@pytest.mark.parametrize(("step", "when"), [("record_intent", "after"), ("publish", "after"), ("register", "before")])
def test_an_interrupted_download_is_reported_as_new(
    here: Here, bad: BadServer, crash: Crash, step: str, when: str
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, step, when)
    assert here.fetch(url).result is Result.NEW


@before_and_after
@pytest.mark.parametrize("step", STEPS)
def test_after_that_a_source_is_unchanged(here: Here, bad: BadServer, crash: Crash, step: str, when: str) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, step, when)
    here.fetch(url)
    assert here.fetch(url).result is Result.UNCHANGED


@before_and_after
@pytest.mark.parametrize("step", STEPS)
def test_a_changed_file_is_finished_by_the_next_run(
    here: Here, bad: BadServer, crash: Crash, step: str, when: str
) -> None:
    url = bad.script("/a", answers.whole(OTHER, '"b"'), answers.whole(BODY, ETAG))
    here.fetch(url)
    crash(url, step, when)
    assert here.fetch(url).error is None
    assert (here.body(), len(here.files), len(here.manifest.records)) == (BODY, 2, 2)
    assert bad.bodies["/a"] == len(OTHER) + len(BODY)


@before_and_after
@pytest.mark.parametrize("step", OF_AN_ALIAS)
def test_an_alias_is_finished_by_the_next_run(here: Here, bad: BadServer, crash: Crash, step: str, when: str) -> None:
    here.fetch(bad.script("/b", answers.whole(BODY, '"b"')), source_id="b")
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, step, when)
    assert here.fetch(url).error is None
    assert (here.body(), here.files, len(here.manifest.records)) == (BODY, ["systems/b"], 1)
    assert bad.bodies["/a"] == len(BODY)


@before_and_after
@pytest.mark.parametrize("step", STEPS)
def test_a_file_without_validators_is_finished_by_the_next_run(
    here: Here, bad: BadServer, crash: Crash, step: str, when: str
) -> None:
    url = bad.script("/a", answers.no_validators(BODY))
    crash(url, step, when)
    assert here.fetch(url).error is None
    assert (here.body(), here.files, len(here.manifest.records)) == (BODY, ["systems/a"], 1)


@before_and_after
@pytest.mark.parametrize("step", ["publish", "register"])
def test_a_run_that_dies_repeatedly_is_finished_in_the_end(
    here: Here, bad: BadServer, crash: Crash, step: str, when: str
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, "record_intent", "after")
    crash(url, "publish", "before")
    crash(url, step, when)
    here.fetch(url)
    assert (here.files, bad.bodies["/a"], len(here.manifest.records)) == (["systems/a"], len(BODY), 1)


@pytest.mark.parametrize(("step", "when"), [("record_intent", "after"), ("publish", "after"), ("register", "after")])
def test_an_interrupted_download_is_registered_even_without_the_server(
    here: Here, bad: BadServer, crash: Crash, step: str, when: str
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG), answers.status(404))
    crash(url, step, when)
    here.fetch(url)
    assert (here.body(), here.files) == (BODY, ["systems/a"])


@pytest.mark.parametrize(("step", "when"), [("record_intent", "after"), ("publish", "after"), ("register", "after")])
def test_an_interrupted_download_is_registered_even_if_there_is_a_newer_one(
    here: Here, bad: BadServer, crash: Crash, step: str, when: str
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG), answers.whole(OTHER, '"b"'))
    crash(url, step, when)
    assert here.fetch(url).result is Result.CHANGED
    assert (here.body(), set(here.manifest.records)) == (OTHER, {sha256(BODY), sha256(OTHER)})


@pytest.mark.parametrize("step", ["record_intent", "publish"])
def test_an_interrupted_download_is_finished_through_any_link_to_the_directory(
    here: Here, bad: BadServer, start: Start, path: Path, tmp_path: Path, step: str
) -> None:
    here.data_dir.mkdir()
    (tmp_path / "link").symlink_to(here.data_dir)
    url = bad.script("/a", answers.whole(BODY, ETAG))
    assert start(run_and_die, path, tmp_path / "link", url, step, "after").join() == -9
    here.fetch(url)
    assert (here.body(), here.files, bad.bodies["/a"]) == (BODY, ["systems/a"], len(BODY))


def test_an_interrupted_download_has_the_time_of_its_last_byte(here: Here, bad: BadServer, crash: Crash) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, "publish", "after")
    (state,) = here.data_dir.rglob("*.part.json")
    told = json.loads(state.read_bytes())["ts_completed"]
    here.fetch(url)
    assert here.record().ts_downloaded.isoformat() == told


def test_a_name_that_was_taken_meanwhile_is_left_to_its_owner(here: Here, bad: BadServer, crash: Crash) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, "record_intent", "after")
    (here.data_dir / "systems" / "a").write_bytes(OTHER)
    here.fetch(url)
    assert (here.body(), (here.data_dir / "systems" / "a").read_bytes()) == (BODY, OTHER)


def test_a_part_that_was_changed_after_its_intent_was_recorded_is_not_registered(
    here: Here, bad: BadServer, crash: Crash
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, "record_intent", "after")
    here.part.write_bytes(OTHER)
    here.fetch(url)
    assert (here.body(), len(here.manifest.records)) == (BODY, 1)


def test_a_file_that_was_changed_after_its_intent_was_recorded_is_not_registered(
    here: Here, bad: BadServer, crash: Crash
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, "publish", "after")
    (here.data_dir / "systems" / "a").write_bytes(OTHER)
    here.fetch(url)
    assert (here.body(), here.record().file_path.name) == (BODY, f"a-{sha256(BODY)[:12]}")


@pytest.mark.parametrize(
    "change",
    [
        {"ts_completed": "never"},
        {"ts_completed": "2024-01-01T00:00:00"},
        {"file_path": "/elsewhere/a"},
        {"file_path": "a"},
        {"file_path": ""},
        {"file_path": "/elsewhere/"},
        {"file_path": "."},
        {"file_path": ".."},
        {"file_path": "\0"},
        {"sha256": ""},
        {"sha256": "0" * 64},
    ],
    ids=str,
)
@pytest.mark.parametrize("step", ["record_intent", "publish"])
def test_a_wrong_announcement_does_no_harm(
    here: Here, bad: BadServer, crash: Crash, step: str, change: dict[str, str]
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, step, "after")
    (state,) = here.data_dir.rglob("*.part.json")
    state.write_text(json.dumps(json.loads(state.read_bytes()) | change), encoding="utf-8")
    assert here.fetch(url).error is None
    assert (here.body(), here.files) == (BODY, ["systems/a"])


@pytest.mark.parametrize("step", ["record_intent", "publish"])
def test_an_interrupted_download_is_not_registered_against_a_pin(
    here: Here, bad: BadServer, crash: Crash, step: str
) -> None:
    url = bad.script("/a", answers.whole(BODY, ETAG))
    crash(url, step, "after")
    outcome = here.one(source(url, source_id="a", dataset="systems", checksum=sha256(OTHER)))
    assert (outcome.result, len(here.manifest.records)) == (Result.FAILED, 0)


def test_a_part_that_disappears_at_its_end_is_not_an_empty_file(here: Here) -> None:
    one = source(source_id="a", dataset="systems")
    part = PartFile(SourcePaths.of(here.data_dir, one))
    with (
        Claims(here.manifest, here.data_dir) as claims,
        pytest.raises(ExtractError, match="removed during the download"),
    ):
        register(here.context(claims), one, part, sha256(BODY), None, {})
