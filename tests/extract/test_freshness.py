"""Sources that were not confirmed within their `stale_after`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import config_error, raw_config, raw_source, source
from extract.runs import Home, entry
from manifestlog.engines.filelog.claims import FileClaims
from manifestlog.extract import Stale
from manifestlog.extract.claims import Claims, claim_name
from manifestlog.extract.paths import part_path, path_for
from manifestlog.names import SEEN_NAME
from support import answers

if TYPE_CHECKING:
    from pathlib import Path

    from extract.builders import Write
    from extract.running import Here
    from support.badserver import BadServer

ETAG = '"a"'
OK, GONE = answers.whole(b"body", ETAG), answers.exactly(404, {})


def stale(here: Here, url: str, span: str | None = "7d", **defaults: Any) -> list[str]:
    report = here.run(source(url, source_id="a", dataset="systems", stale_after=span), **defaults)
    return [found.source_id for found in report.stale]


def seen(here: Here, **ago: float) -> None:
    """Make the source last confirmed this long ago."""
    text = json.dumps({"systems": {"a": (datetime.now(UTC) - timedelta(**ago)).isoformat()}})
    (here.data_dir / SEEN_NAME).write_text(text)


def fetched(here: Here, **ago: float) -> None:
    """Make the source last fetched and confirmed this long ago."""
    record = here.record()
    here.manifest.forget(record.checksum)
    here.manifest.add(record.model_copy(update={"ts_downloaded": datetime.now(UTC) - timedelta(**ago)}))
    (here.data_dir / SEEN_NAME).unlink(missing_ok=True)


def test_a_source_that_is_fetched_is_fresh(here: Here, bad: BadServer) -> None:
    assert stale(here, bad.script("/a", OK)) == []


def test_a_source_that_fails_for_one_night_is_fresh(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, GONE)
    stale(here, url)
    assert stale(here, url) == []


def test_a_source_that_fails_for_longer_is_stale(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, GONE)
    stale(here, url)
    fetched(here, days=8)
    seen(here, days=8)
    assert stale(here, url) == ["a"]


def test_a_source_whose_server_has_nothing_new_is_fresh(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK)
    stale(here, url)
    fetched(here, days=8)
    seen(here, days=8)
    assert stale(here, url) == []


def test_a_confirmation_counts_for_later_runs(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, answers.exactly(304, {"ETag": ETAG}), GONE)
    stale(here, url)
    fetched(here, days=8)
    stale(here, url)
    assert stale(here, url) == []


def test_a_source_that_was_never_fetched_counts_from_the_first_try(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", GONE)
    first = stale(here, url)
    seen(here, days=8)
    assert (first, stale(here, url)) == ([], ["a"])


def test_a_source_that_another_run_holds_grows_stale(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, answers.whole(b"other", '"other"'))
    stale(here, url)
    fetched(here, days=8)
    seen(here, days=8)
    one = source(url, source_id="a", dataset="systems")
    with (
        Claims(here.manifest, here.data_dir) as claims,
        claims.trying("part", claims.name_of(part_path(path_for(here.data_dir, one), one))),
    ):
        assert stale(here, url) == ["a"]


def test_a_default_counts_for_every_source(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", GONE)
    stale(here, url)
    seen(here, days=8)
    assert stale(here, url, None, stale_after="7d") == ["a"]


def test_a_source_comes_before_the_default(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", GONE)
    stale(here, url)
    seen(here, days=8)
    assert stale(here, url, "2w", stale_after="7d") == []


def test_without_it_nothing_is_noted(here: Here, bad: BadServer) -> None:
    stale(here, bad.script("/a", GONE), None)
    assert not (here.data_dir / SEEN_NAME).exists()


@pytest.mark.parametrize("content", [b"", b"x", b"[]", b'{"systems":1}', b'{"systems":{"a":1}}', b"[" * 100_000])
def test_unreadable_notes_are_ignored(here: Here, bad: BadServer, content: bytes) -> None:
    url = bad.script("/a", OK, GONE)
    stale(here, url)
    (here.data_dir / SEEN_NAME).write_bytes(content)
    assert stale(here, url) == []


def test_notes_of_other_sources_stay(here: Here, bad: BadServer) -> None:
    stale(here, bad.script("/a", OK))
    here.run(source(bad.script("/b", OK), source_id="b", dataset="systems", stale_after="1h"))
    assert set(json.loads((here.data_dir / SEEN_NAME).read_text())["systems"]) == {"a", "b"}


def test_without_notes_a_source_is_as_fresh_as_its_record(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, GONE)
    stale(here, url, None)
    fetched(here, days=8)
    assert stale(here, url) == ["a"]


def test_notes_that_cannot_be_kept_hide_no_stale_source(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, GONE)
    stale(here, url, None)
    fetched(here, days=8)
    (here.data_dir / SEEN_NAME).mkdir()
    assert [stale(here, url), stale(here, url)] == [["a"], ["a"]]


def test_a_record_from_the_future_hides_no_stale_source(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, GONE)
    stale(here, url)
    fetched(here, days=-90)
    seen(here, days=8)
    assert stale(here, url) == ["a"]


def test_a_note_from_the_future_counts_from_now_on(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", GONE)
    stale(here, url)
    seen(here, days=-90)
    stale(here, url)
    noted = json.loads((here.data_dir / SEEN_NAME).read_text())["systems"]["a"]
    assert datetime.fromisoformat(noted) <= datetime.now(UTC)


def test_notes_that_no_run_has_used_for_a_year_are_removed(here: Here, bad: BadServer) -> None:
    days = {"last-year": 400, "last-week": 7}
    times = {name: (datetime.now(UTC) - timedelta(days=ago)).isoformat() for name, ago in days.items()}
    url = bad.script("/a", OK)
    stale(here, url)
    (here.data_dir / SEEN_NAME).write_text(json.dumps({"daily": times}))
    stale(here, url)
    assert set(json.loads((here.data_dir / SEEN_NAME).read_text())["daily"]) == {"last-week"}


def test_a_duration_is_shown_as_it_was_written() -> None:
    assert str(Stale("a", "b", datetime(2026, 1, 1, tzinfo=UTC), 36 * 3600, was_fetched=True)) == (
        "b/a: stale: not fetched or confirmed since 2026-01-01T00:00:00+00:00, which exceeds stale_after (36h)"
    )


@pytest.mark.parametrize("wrong", ["", "0d", "7", 7, "7 d", "-1d", "week"])
def test_an_invalid_duration_is_reported(write: Write, wrong: object) -> None:
    assert config_error(write(raw_config(raw_source(stale_after=wrong)))).field == "sources[0].stale_after"


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, bad: BadServer) -> Home:
    """A source that is stale without a failure: another run has claimed it."""
    found = Home(tmp_path)
    found.configure(entry(bad.script("/a", OK), stale_after="7d"))
    return found


def make_stale(home: Home, bad: BadServer) -> None:
    home.configure(entry(bad.script("/a", GONE), stale_after="7d"))
    home.run()
    (home.data / SEEN_NAME).write_text(json.dumps({"dumps": {"a": "2020-01-01T00:00:00+00:00"}}))


def test_a_run_with_nothing_to_report_is_silent(home: Home) -> None:
    result = home.start_python("-m", "manifestlog", "extract", "etl.config.json", "--quiet", "--fail-stale")
    assert (*result.communicate(timeout=60), result.returncode) == ("", "", 0)


def test_quiet_names_a_stale_source(home: Home, bad: BadServer) -> None:
    make_stale(home, bad)
    assert "dumps/a: stale: never fetched, first tried at 2020-01-01" in home.run("--quiet").err


def test_json_carries_it(home: Home, bad: BadServer) -> None:
    make_stale(home, bad)
    assert home.run().json["stale"] == [{"source_id": "a", "dataset": "dumps", "since": "2020-01-01T00:00:00+00:00"}]


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--fail-stale",), 1)])
def test_a_stale_source_fails_a_run_that_is_asked_to(home: Home, options: tuple[str, ...], code: int) -> None:
    home.run()
    one = source(**json.loads((home.folder / "etl.config.json").read_text())["sources"][0])
    text = json.dumps({"dumps": {"a": "2020-01-01T00:00:00+00:00"}})
    name = claim_name(home.data, part_path(path_for(home.data, one), one))
    with FileClaims(str(home.data)) as claims, claims.claim("part", name):
        (home.data / SEEN_NAME).write_text(text)
        forget(home)
        assert home.run(*options).code == code


def forget(home: Home) -> None:
    from manifestlog import DownloadManifestManager

    with DownloadManifestManager(home.manifest) as manifest:
        for checksum in list(manifest):
            manifest.forget(checksum)


def test_fail_stale_without_stale_after_is_a_usage_error(home: Home, bad: BadServer) -> None:
    home.configure(entry(bad.script("/a", OK)))
    assert home.run("--fail-stale").code == 2


def failing(here: Here) -> list[str | None]:
    return [one.source_id for one in here.manifest.failures()]


def test_a_source_that_fails_is_failing_until_it_is_fetched(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", GONE, OK)
    stale(here, url)
    before = failing(here)
    stale(here, url)
    assert (before, failing(here)) == (["a"], [])


def test_a_source_that_fails_is_failing_until_it_is_unchanged(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, GONE, answers.exactly(304, {"ETag": ETAG}))
    stale(here, url)
    stale(here, url)
    before = failing(here)
    stale(here, url)
    assert (before, failing(here)) == (["a"], [])


def test_a_run_names_a_source_as_recovered_once(here: Here, bad: BadServer) -> None:
    url = bad.script("/a", OK, GONE, answers.exactly(304, {"ETag": ETAG}), answers.exactly(304, {"ETag": ETAG}))
    for _ in range(4):
        stale(here, url)
    assert [len(end.recovered) for end in here.manifest.history(kinds=["ended"])] == [0, 0, 1, 0]
