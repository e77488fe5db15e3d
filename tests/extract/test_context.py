"""What a worker says of an error: no secret of its source, and the paths of its files as they are on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.builders import CHECKSUM, source
from extract.running import Here
from manifestlog.extract import paths
from manifestlog.extract.claims import Claims
from manifestlog.extract.errors import ExtractError

if TYPE_CHECKING:
    from collections.abc import Iterable

URL = "https://host/export?format=json&year=2024&folder=systems"
ONE = source(URL, dataset="json/systems", file_name="prices-2024.json.gz")


def said(here: Here, error: BaseException, secrets: Iterable[str] = ()) -> str:
    """What is said of an error of this source."""
    with Claims(here.data_dir) as claims:
        return here.context(claims, secrets=frozenset(secrets)).redacted(ONE, error)


@pytest.fixture(params=["target", "other target", "part", "state of the part", "rejected", "folder", "folder above"])
def own(request: pytest.FixtureRequest, here: Here) -> str:
    """A path of the source."""
    target = paths.path_for(here.data_dir, ONE)
    part = paths.part_path(target, ONE)
    return str(
        {
            "target": target,
            "other target": paths.alternate_path(target, CHECKSUM),
            "part": part,
            "state of the part": paths.part_state_path(part),
            "rejected": paths.rejected_path(target, ONE),
            "folder": target.parent,
            "folder above": target.parent.parent,
        }[request.param]
    )


def test_a_path_of_the_source_is_whole(here: Here, own: str) -> None:
    assert said(here, ExtractError(f"it is kept as {own}: look at it")) == f"it is kept as {own}: look at it"


def test_the_path_of_an_error_of_the_system_is_whole(here: Here, own: str) -> None:
    assert said(here, PermissionError(13, "Denied", own)) == f"{own}: Denied: mend that, then run it again"


def test_a_secret_beside_a_path_is_hidden(here: Here, own: str) -> None:
    assert said(here, ExtractError(f"json {own}, 2024")) == f"*** {own}, ***"


def test_a_value_from_the_environment_is_hidden_in_a_path_as_well(here: Here) -> None:
    part = paths.part_path(paths.path_for(here.data_dir, ONE), ONE)
    assert said(here, PermissionError(13, "Denied", str(part)), ["prices"]).startswith(f"{part.parent}/***-2024.json")


@pytest.mark.parametrize("before", ["https://host", "file://", "x", "'"])
def test_a_path_within_something_else_is_none(here: Here, own: str, before: str) -> None:
    assert "json" not in said(here, ExtractError(f"{before}{own} failed"))


@pytest.mark.parametrize("behind", ["?token=json", "?json", "/json", "-json", "+json", ":?json", "json"])
def test_a_path_with_something_behind_it_is_none(here: Here, own: str, behind: str) -> None:
    assert "json" not in said(here, ExtractError(f"GET {own}{behind} failed"))
