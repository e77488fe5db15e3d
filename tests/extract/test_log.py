"""What a run of extract logs: one line for each source, at INFO, whatever came of it; and never a secret."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Result
from support import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from extract.running import Here, Put
    from support.badserver import BadServer

    Told = Callable[[], list[str]]

BODY = pattern(1000)
NOBODY = "http://me:pass-5ecret@127.0.0.1:1/a?key=5ecret-too"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """What the orchestrator said at INFO, durations as `0 s`."""
    caplog.set_level(logging.INFO, "manifestlog")

    def texts() -> list[str]:
        own = [r for r in caplog.records if r.name == "manifestlog.extract.orchestrator"]
        assert {r.levelno for r in own} <= {logging.INFO}
        return [re.sub(r"\d+\.\d+ s", "0 s", r.getMessage()) for r in own]

    return texts


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_outcome_is_logged_and_the_sum(here: Here, put: Put, told: Told, jobs: int) -> None:
    """In the process that runs the pipeline, by however many workers it came."""
    one = source(put("a", BODY), source_id="a", dataset="systems")
    here.run(one, jobs=jobs)
    here.run(one, jobs=jobs)
    path = here.manifest.path
    assert told() == [
        "systems/a: new, 1000 bytes in 0 s",
        f"{path}: through with 1 new; 1000 bytes fetched in 0 s",
        "systems/a: unchanged",
        f"{path}: through with 1 unchanged; 0 bytes fetched in 0 s",
    ]


def test_a_source_that_fails_is_logged_without_its_secrets(here: Here, told: Told) -> None:
    one = source(NOBODY, source_id="a", dataset="systems", headers={"X-Api-Key": "key-5ecret"})
    (outcome,) = here.run(one, retries=0).outcomes
    assert (outcome.result, told()[0]) == (Result.FAILED, f"systems/a: failed: {outcome.error}")
    assert "5ecret" not in "".join(told())


def test_an_attempt_that_failed_is_logged(here: Here, bad: BadServer, told: Told) -> None:
    url = bad.script("/a", answers.status(503), answers.whole(BODY))
    here.run(source(url, source_id="a", dataset="systems"))
    assert told()[:2] == ["systems/a: HTTP 503; again in 0 s", "systems/a: new, 1000 bytes in 0 s"]


def test_a_warning_is_logged_with_its_outcome(here: Here, bad: BadServer, told: Told) -> None:
    url = bad.script("/a.csv", answers.exactly(200, {"Content-Type": "text/html", "Content-Length": "1000"}, BODY))
    (outcome,) = here.run(source(url, source_id="a", dataset="systems", file_name="a.csv")).outcomes
    assert outcome.warning
    assert told()[0] == f"systems/a: new, 1000 bytes in 0 s: {outcome.warning}"


def test_debug_says_what_was_asked_and_answered(here: Here, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "manifestlog")
    one = source(put("a", BODY), source_id="a", dataset="systems")
    here.run(one)
    here.run(one)
    debug = [r.getMessage() for r in caplog.records if r.name == "manifestlog.extract.download"]
    assert debug == [f"systems/a: asked, answered with status {status}" for status in (200, 304)]
