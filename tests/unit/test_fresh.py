"""Plans that are made ahead of the locks are those that would be made under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import META, QUIET, record, sha
from manifestlog import DownloadManifestManager
from manifestlog.engines.postgres.fresh import fresh
from manifestlog.engines.postgres.together import ready
from manifestlog.model import codec
from manifestlog.model.batches import encoded
from manifestlog.model.writes import Rules, plan_add

if TYPE_CHECKING:
    from manifestlog import ManifestRecord
    from manifestlog.model.writes import Lookup

RULES = Rules("/srv/etl", 1 << 20)
RECORDS = {
    "a plain one": record("a", 5),
    "with everything": record("a", 5, etag='"e"', last_modified="Mon", derived_from=(sha("x"), sha("y"))),
    "of a fraction of a second": record("a", 5.001),
}
DETAILS: dict[str, dict[str, Any] | None] = {
    "nothing": None,
    "a run": {"run": "r1", "url": "https://example.org/a", "status": 200},
    "its size": {"bytes": 2, "seconds": 1.5},
}


def planned(known: Lookup, one: ManifestRecord, details: dict[str, Any] | None, *, live: bool) -> tuple[Any, ...]:
    plan = plan_add(known, encoded(one, QUIET), RULES, live=live, details=details)
    return plan.answer, plan.record, plan.details or None


@pytest.mark.parametrize("live", [False, True], ids=["at its time", "live"])
@pytest.mark.parametrize("details", DETAILS)
@pytest.mark.parametrize("name", RECORDS)
def test_they_are_those_of_a_manifest_in_either_state(name: str, details: str, live: bool) -> None:
    one, given = RECORDS[name], DETAILS[details]
    found = fresh(encoded(one, QUIET), RULES, live=live, details=given)
    assert found is not None
    with DownloadManifestManager("memory:test_download", META) as manifest:
        for number in (0, 1):
            said = (found.details, found.other_details)[number]
            ahead = found.answers[number], encoded(one, QUIET), codec.loads(said) if said else None
            assert ahead == planned(manifest.snapshot(), one, given, live=live)
            manifest.add(record("earlier", 1))


def test_what_depends_on_more_is_left_to_the_locks() -> None:
    merged = record("a", 1, also_seen=(record("a", 0, source="other").model_dump(exclude={"checksum", "file_size"}),))
    assert fresh(encoded(merged, QUIET), RULES, live=False, details=None) is None


@pytest.mark.parametrize(
    "some",
    [
        [record("a", 1), record("a", 2, source="other")],
        [record("a", 1), record("b", 1)],
        [record("a", 1), record("b", 1, dataset="other")],
    ],
    ids=["one content", "one time", "one time in two datasets"],
)
def test_additions_that_depend_on_each_other_are_not_planned_ahead(some: list[ManifestRecord]) -> None:
    assert ready(((encoded(one, QUIET), False, None) for one in some), RULES) is None


def test_a_second_content_of_a_source_is_not_its_first() -> None:
    found = ready(((encoded(one, QUIET), False, None) for one in [record("a", 1), record("b", 2)]), RULES)
    assert found is not None
    assert found.again == [False, True]
