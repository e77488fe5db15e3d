"""The records of a manifest in memory: what is kept in order answers as a look at every row would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, strategies as st

from manifestlog.engines.memory_records import Records
from manifestlog.model import codec
from manifestlog.model.rows import Sighting, in_field_order, observations, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.model.rows import Row

SOURCES, DATASETS, MOMENTS = ("s", "t"), ("d", "e"), tuple(f"2024-01-01T00:00:0{second}" for second in range(4))
PAIRS = st.tuples(st.sampled_from(SOURCES), st.sampled_from(DATASETS))
SEEN = st.dictionaries(PAIRS, st.tuples(st.sampled_from(MOMENTS), st.integers(0, 2)), min_size=1, max_size=3)
STEPS = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), SEEN), st.booleans()), max_size=30)
"""The number of a content, what it becomes or None to remove it, and whether somebody asks for the sources before."""


def row_of(number: int, seen: dict[tuple[str, str], tuple[str, int]]) -> Row:
    first, *others = (
        {
            "source_id": source,
            "dataset": dataset,
            "file_path": "f",
            "ts_downloaded": f"{moment}Z",
            "version": "1",
            "tie": tie,
        }
        for (source, dataset), (moment, tie) in seen.items()
    )
    content = {"checksum": f"{number:064x}", "file_size": 1, "etag": None}
    return in_field_order({**first, **content, **({"also_seen": others} if others else {})})


def sightings(records: Records, source: str, dataset: str | None) -> Iterator[Sighting]:
    for row in records.rows():
        for one in observations(row):
            if one["source_id"] == source and dataset in (None, one["dataset"]):
                yield Sighting(sort_key(one), one["dataset"], row["checksum"])


def answers(records: Records) -> list[object]:
    """What the records say of every source, dataset and time."""
    found: list[object] = []
    for source in SOURCES:
        found.append(sorted(records.sightings(source)))
        for dataset in DATASETS:
            latest = records.latest(source, dataset)
            found.append(latest and latest["checksum"])
            found += [sorted(records.recent(source, dataset, one)) for one in MOMENTS]
            found += [records.latest_until(source, dataset, one) for one in MOMENTS]
    return found


def expected(records: Records) -> list[object]:
    """The same, from every row."""
    found: list[object] = []
    for source in SOURCES:
        everything = sorted(sightings(records, source, None))
        found.append(everything)
        for dataset in DATASETS:
            here = sorted(sightings(records, source, dataset))
            found.append(here[-1].checksum if here else None)
            found += [
                sorted({one for one in everything if one.order[0] == moment} | set(here[-1:])) for moment in MOMENTS
            ]
            found += [max((one for one in here if one.order[0] <= moment), default=None) for moment in MOMENTS]
    return found


@given(steps=STEPS)
def test_what_is_kept_in_order_answers_as_a_look_at_every_row(steps: list[tuple[int, dict | None, bool]]) -> None:  # type: ignore[type-arg] # as SEEN has it
    records = Records({}, {})
    for number, seen, asks in steps:
        if asks:
            answers(records)
        if seen is None:
            records.discard(f"{number:064x}")
        else:
            row = row_of(number, seen)
            records.put(codec.encoded_row(codec.dumps(row), row))
    assert answers(records) == expected(records)
    assert answers(records.copy()) == expected(records)
