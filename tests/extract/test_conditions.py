"""When conditional requests are sent and when not: pins, `Conditions`, forced runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern, sha256
from manifestlog.extract import Conditions, ExtractError, PipelineOrchestrator, Result, plan_all
from support import answers

if TYPE_CHECKING:
    from extract.running import Here
    from manifestlog.extract import ETLSource
    from support.badserver import BadServer

BODY, OTHER = pattern(1000), pattern(900, 1)
ETAG = '"a"'


@pytest.fixture
def pinned(here: Here, bad: BadServer) -> ETLSource:
    """A source whose pinned content is recorded."""
    url = bad.script("/a", answers.whole(BODY, ETAG))
    one = source(url, source_id="a", dataset="systems", checksum=sha256(BODY))
    here.one(one)
    return one


def forced(one: ETLSource) -> ETLSource:
    return one.model_copy(update={"conditions": Conditions.NEVER})


def test_a_satisfied_pin_is_not_requested(here: Here, bad: BadServer, pinned: ETLSource) -> None:
    here.one(pinned)
    assert len(bad.asked("/a")) == 1


def test_a_satisfied_pin_is_unchanged(here: Here, pinned: ETLSource) -> None:
    outcome = here.one(pinned)
    assert (outcome.result, outcome.bytes_saved) == (Result.UNCHANGED, len(BODY))


def test_a_dry_run_does_not_request_a_satisfied_pin(here: Here, bad: BadServer, pinned: ETLSource) -> None:
    (plan,) = plan_all(here.manifest, [pinned])
    assert (plan.action, plan.why, len(bad.asked("/a"))) == ("unchanged", "the pinned content is recorded", 1)


def test_another_pin_is_requested(here: Here, bad: BadServer, pinned: ETLSource) -> None:
    bad.script("/a", answers.whole(OTHER, '"b"'))
    assert here.one(pinned.model_copy(update={"checksum": sha256(OTHER)})).result is Result.CHANGED


def test_a_satisfied_pin_is_requested_when_forced(here: Here, bad: BadServer, pinned: ETLSource) -> None:
    here.one(forced(pinned))
    assert len(bad.asked("/a")) == 2


@pytest.mark.parametrize("header", ["if-none-match", "if-modified-since"])
def test_a_forced_source_is_asked_without_conditions(
    here: Here, bad: BadServer, pinned: ETLSource, header: str
) -> None:
    here.one(forced(pinned))
    assert header not in {name.lower() for name in bad.asked("/a")[-1].headers}


def test_a_forced_source_of_the_same_content_is_unchanged(here: Here, pinned: ETLSource) -> None:
    assert here.one(forced(pinned)).result is Result.UNCHANGED


def test_a_forced_source_is_fetched_whatever_its_validators_say(here: Here, bad: BadServer, pinned: ETLSource) -> None:
    """The same ETag, other bytes."""
    bad.script("/a", answers.whole(OTHER, ETAG))
    assert here.one(forced(pinned).model_copy(update={"checksum": None})).result is Result.CHANGED


def test_a_forced_source_restores_a_lost_file(here: Here, pinned: ETLSource) -> None:
    here.record().file_path.unlink()
    here.one(forced(pinned))
    assert here.body() == BODY


def test_a_dry_run_says_why_a_forced_source_is_fetched(here: Here, pinned: ETLSource) -> None:
    (plan,) = plan_all(here.manifest, [forced(pinned)])
    assert (plan.action, plan.why) == ("fetch", "it is requested without conditions")


@pytest.mark.parametrize("where", ["ftp://host/raw", "file:///srv/data"])
def test_files_cannot_go_to_an_address(here: Here, where: str) -> None:
    with pytest.raises(ExtractError, match="expected a local directory"):
        PipelineOrchestrator(here.manifest, data_dir=where)
