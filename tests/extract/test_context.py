"""Error messages of a worker: no secret of the source, but the exact paths of its files."""

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
    """Return the message for an error of this source."""
    with Claims(here.manifest, here.data_dir) as claims:
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
    assert said(here, ExtractError("inspect the file", own)) == f"{own}: inspect the file"


def test_the_path_of_an_error_of_the_system_is_whole(here: Here, own: str) -> None:
    advice = "ask its owner for access, or run this as a user who has it, then run extract again"
    assert said(here, PermissionError(13, "Denied", own)) == f"{own}: Denied; {advice}"


def test_a_secret_beside_a_path_is_hidden(here: Here, own: str) -> None:
    assert said(here, ExtractError("json, 2024", own)) == f"{own}: ***, ***"


def test_a_value_from_the_environment_is_hidden_in_a_path_as_well(here: Here) -> None:
    part = paths.part_path(paths.path_for(here.data_dir, ONE), ONE)
    assert said(here, PermissionError(13, "Denied", str(part)), ["prices"]).startswith(f"{part.parent}/***-2024.json")


@pytest.mark.parametrize("before", ["https://host", "file://", "x", "'"])
def test_a_path_within_other_text_is_redacted(here: Here, own: str, before: str) -> None:
    assert "json" not in said(here, ExtractError(f"{before}{own} failed"))
    assert "json" not in said(here, ExtractError("failed", f"{before}{own}"))


@pytest.mark.parametrize("behind", ["?token=json", "?json", "/json", "-json", "+json", ":?json", "json"])
def test_a_path_followed_by_other_text_is_redacted(here: Here, own: str, behind: str) -> None:
    assert "json" not in said(here, ExtractError(f"GET {own}{behind} failed"))
    assert "json" not in said(here, PermissionError(13, "Denied", f"{own}{behind}"))


@pytest.mark.parametrize("digits", ["jsonjsonjson", "0a4d1234567", "0A4D12345678"])
def test_a_name_similar_to_the_alternate_one_is_redacted(here: Here, digits: str) -> None:
    target = paths.path_for(here.data_dir, ONE)
    like = target.with_name(f"prices-2024-{digits}.json.gz")
    assert "json" not in said(here, ExtractError("failed", str(like)))


def test_no_path_in_a_detail_is_exempt(here: Here, own: str) -> None:
    """Only `path` is exempt: a detail may contain anything."""
    assert "json" not in said(here, ExtractError(f"it is kept as {own}"))
