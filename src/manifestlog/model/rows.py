"""Rows, the plain-dict form of a record on disk: their field order, their observations and the order of these.

A *row* is the parsed JSON of one record. The engine works on rows, and pydantic models appear only in the public
interface (`models`), so a replay only parses.

Invariants:

- A normal row has its members in `FIELDS` order, times in UTC with `Z`, lower-case checksums, empty optionals absent.
- A row's own fields hold its latest observation; every other (source, dataset) pair is in `also_seen`, oldest first.
- Members that this version does not know are kept unchanged.

No I/O, no bytes, no locks.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.model.checks import ABSENT, Check, check_members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = dict[str, Any]
Order = tuple[str, int]
"""The order of an observation: (time, tie-breaker). Compare these, never the times as written."""


class Sighting(NamedTuple):
    """An observation of a source in short: its order, dataset and content. The greatest of several is the latest."""

    order: Order
    dataset: str
    checksum: str


EXTRACTOR = "extractor"
PROCESSES = (EXTRACTOR, "transformer", "loader")
FILE_SIZE_MAX = 2**63 - 1

REQUIRED = (
    "source_id",
    "dataset",
    "checksum",
    "file_path",
    "file_size",
    "etag",
    "ts_downloaded",
    "version",
)
OPTIONAL = ("last_modified", "also_seen", "derived_from", "tie")
FIELDS = REQUIRED + OPTIONAL
OBSERVED = (
    "source_id",
    "dataset",
    "file_path",
    "etag",
    "last_modified",
    "ts_downloaded",
    "version",
    "tie",
)

_CHECKSUM = re.compile(r"[0-9a-f]{64}")
CHECKSUM_DIGITS = 64


def is_checksum(text: object) -> bool:
    """Return whether this is a SHA-256 in lower case."""
    return isinstance(text, str) and _CHECKSUM.fullmatch(text) is not None


def normal_checksum(value: object) -> str | None:
    """Return the checksum in lower case, or None if the value is not a checksum."""
    if not isinstance(value, str) or len(value) != CHECKSUM_DIGITS:
        return None
    try:
        digest = bytes.fromhex(value)
    except ValueError:
        return None
    # Takes a third of the pattern's time. `fromhex` skips blanks between digits, and then the digest is too short.
    return value.lower() if len(digest) == CHECKSUM_DIGITS // 2 else None


def required_checksum(text: str) -> str:
    """Return the checksum in lower case; raises `ValueError` if the text is not one."""
    found = normal_checksum(text)
    if found is None:
        raise ValueError(f"{text!r:.80} is not a checksum: expected 64 hexadecimal digits")
    return found


def utc_text(moment: datetime) -> str:
    """Return an aware time as ISO-8601 text in UTC, with `Z`."""
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).isoformat()[:-6] + "Z"


def moment_text(moment: datetime) -> str:
    """Return an aware time as log lines write it: UTC, always six fractional digits, `Z`. Such texts sort by time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def normal_time(value: object) -> tuple[str, bool]:
    """Return an ISO-8601 time in normal form, and whether it had no zone and is taken as UTC. Raises `ValueError`."""
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]  # anything but a string is a `TypeError`
        naive = moment.tzinfo is None
        return utc_text(moment.replace(tzinfo=UTC) if naive else moment), naive
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def source_key(row: Row) -> tuple[str, str]:
    """Return the source of an observation: (source_id, dataset)."""
    return row["source_id"], row["dataset"]


def sort_key(row: Row) -> Order:
    """Return the order of an observation: its time, and the tie-breaker for one source's observations at the same time."""
    # Without its Z, "…00" sorts before "…00.5" as it should; fractions always have six digits.
    return row["ts_downloaded"][:-1], row.get("tie", 0)


def observation(row: Row) -> Row:
    """Return the observation in a row's own fields."""
    return {name: row[name] for name in OBSERVED if name in row}


def observations(row: Row) -> list[Row]:
    """Return every observation of a row: first the one in its own fields, then `also_seen`."""
    return [observation(row), *row.get("also_seen", ())]


def sightings_in(row: Row) -> Iterator[tuple[str, Sighting]]:
    """Yield the sightings of a content, each with its source_id."""
    for one in observations(row):
        yield one["source_id"], Sighting(sort_key(one), one["dataset"], row["checksum"])


def sightings_of(source_id: str, rows: Iterable[Row | None]) -> Iterator[Sighting]:
    """Yield the sightings of one source in these contents; None is a content that is gone."""
    found = chain.from_iterable(sightings_in(row) for row in rows if row is not None)
    return (one for source, one in found if source == source_id)


def find_observation(row: Row, pair: tuple[str, str]) -> Row | None:
    """Return the observation of this (source_id, dataset), or None."""
    if source_key(row) == pair:
        return row
    return next((seen for seen in row.get("also_seen", ()) if source_key(seen) == pair), None)


def build_row(content: Row, seen: list[Row], first: Row | None = None) -> Row:
    """Build a row from the other fields of `content` and these observations. Its own fields hold `first` [default: latest]."""
    by_age = sorted(seen, key=lambda o: (sort_key(o), source_key(o)))
    first = first or by_age[-1]
    row = {name: value for name, value in content.items() if name not in OBSERVED}
    return in_field_order(row | first | {"also_seen": [_without_empty(o) for o in by_age if o is not first]})


def _without_empty(seen: Row) -> Row:
    return {name: value for name, value in seen.items() if value or name not in OPTIONAL}


def as_seen_by(row: Row, pair: tuple[str, str]) -> Row:
    """Return the row with the observation of this (source_id, dataset) in its own fields, and the others in `also_seen`."""
    if source_key(row) == pair:
        return row
    seen = observations(row)
    own = next((o for o in seen if source_key(o) == pair), None)
    return build_row(row, seen, own) if own else row


def merge(known: Row, event: Row) -> Row:
    """Merge an event into `known`. Its observation replaces the previous one of the same source.

    The inputs are those of the latest derivation: the event's, if it names any and is not older than `known`.
    """
    seen = {source_key(o): o for o in [*event.get("also_seen", ()), *observations(known), observation(event)]}
    inputs = event.get("derived_from")
    latest = inputs and sort_key(event)[0] >= sort_key(known)[0]
    content = known | {"derived_from": sorted(set(inputs))} if inputs and latest else known
    return build_row(content, list(seen.values()))


def derivation(row: Row) -> tuple[str, tuple[str, ...]]:
    """Return how an output was made: the version, and the sorted inputs."""
    return row["version"], tuple(sorted(row.get("derived_from", ())))


def adds_nothing(event: Row, known: Row) -> bool:
    """Return whether `known` already has every other source of the event."""
    pairs = {source_key(seen) for seen in observations(known)}
    return all(source_key(seen) in pairs for seen in event.get("also_seen", ()))


def in_field_order(row: Row) -> Row:
    """Return the same members in canonical order, without empty optional ones."""
    known = {name: row[name] for name in FIELDS if name in row}
    for name in OPTIONAL:
        if name in known and not known[name]:
            del known[name]
    return known | {name: value for name, value in row.items() if name not in known and name not in OPTIONAL}


_RECORD = (
    Check(
        "file_size",
        int,
        lambda size: f"file_size {size!r:.40} is not a number of bytes above 0",
        lambda size: type(size) is int and 0 < size <= FILE_SIZE_MAX,
    ),
    Check("also_seen", object, "also_seen is not a list", lambda seen: not seen or isinstance(seen, list), ABSENT),
    Check(
        "derived_from",
        object,
        "derived_from is not a list",
        lambda inputs: not inputs or isinstance(inputs, list),
        ABSENT,
    ),
)
"""Checks of a record's members, except its checksum and its observations."""

_TEXT_OR_NULL = (str, type(None))
_OBSERVATION = (
    Check("source_id", str, "source_id is not a string"),
    Check("dataset", str, "dataset is not a string"),
    Check("file_path", str, "file_path is not a string"),
    Check("version", str, "version is not a string"),
    Check("source_id", str, "source_id is empty", bool),
    Check("dataset", str, "dataset is empty", bool),
    Check("etag", _TEXT_OR_NULL, "etag is neither a string nor null"),
    Check("last_modified", _TEXT_OR_NULL, "last_modified is neither a string nor null"),
    Check("tie", int, "tie is not an integer of 0 or more", lambda tie: type(tie) is int and tie >= 0, ABSENT),
)
"""Checks of an observation's members, except its time."""


def normalise(row: object, key: str) -> tuple[Row, bool]:
    """Return any valid row in normal form, and whether a time had no zone and is taken as UTC.

    Raises `ValueError` with the reason if the row is invalid.
    """
    if not isinstance(row, dict):
        raise ValueError("the record is not a JSON object")
    missing = [name for name in REQUIRED if name not in row and name != "etag"]
    if missing:
        raise ValueError(f"the record lacks {', '.join(missing)}")
    checksum = _checked_checksum(row["checksum"])
    if checksum != key.lower():
        raise ValueError(f"the key is {key[:80]!r}, but the record's checksum is {checksum!r}")
    check_members(row, _RECORD)
    inputs = [_checked_checksum(value) for value in row.get("derived_from") or ()]
    checked = [_checked_observation(o) for o in (row, *(row.get("also_seen") or ()))]
    content = row | {"checksum": checksum, "derived_from": inputs}
    seen = {source_key(o): o for o, _ in reversed(checked)}
    seen[source_key(row)] = observation(checked[0][0])
    return build_row(content, list(seen.values())), any(naive for _, naive in checked)


def check_some(members: Row) -> None:
    """Raise `ValueError` if a record in a log could not have these members, which need not be all of them."""
    check_members(members, [check for check in (*_RECORD, *_OBSERVATION) if check.member in members])
    for value in members.get("derived_from") or ():
        _checked_checksum(value)
    seen = [*(members.get("also_seen") or ()), *([members] if "ts_downloaded" in members else [])]
    for one in members.get("also_seen") or ():
        _checked_observation(one)
    if any(normal_time(one["ts_downloaded"])[0] != one["ts_downloaded"] for one in seen):
        raise ValueError("a time is not in normal form")


def _checked_checksum(value: object) -> str:
    if not isinstance(value, str) or not is_checksum(value.lower()):
        raise ValueError(f"checksum {value!r:.80} is not 64 hexadecimal digits")
    return value.lower()


def _checked_observation(seen: object) -> tuple[Row, bool]:
    if not isinstance(seen, dict):
        raise ValueError("an entry of also_seen is not a JSON object")
    check_members(seen, _OBSERVATION)
    try:
        stamp, naive = normal_time(seen.get("ts_downloaded"))
    except ValueError:
        raise ValueError(f"ts_downloaded {seen.get('ts_downloaded')!r:.40} is not an ISO-8601 time") from None
    # Write a missing ETag as null everywhere, because any observation may move into the record's own fields.
    return seen | {"etag": seen.get("etag"), "ts_downloaded": stamp}, naive
