"""Converts a caller's times and filters into a `Query` of the history.

The engine answers the query.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.model.events import KIND_WORDS, EventKind, Query
from manifestlog.model.rows import moment_text, required_checksum

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.model.verdict import Verdict

Moment = datetime | str
"""A time: an aware datetime, or ISO-8601 text; without a zone it is in UTC."""


def log_time(moment: Moment) -> str:
    """Return a time as log lines write it: UTC, six fractional digits, `Z`. Raises `ValueError`."""
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    try:
        return moment_text(found)
    except OverflowError:
        raise ValueError(f"{found} is not a time in UTC") from None


def past_time(moment: Moment) -> str:
    """Return a time that is not in the future, as `log_time` does. Raises `ValueError`."""
    asked = log_time(moment)
    if asked > moment_text(datetime.now(UTC)):
        raise ValueError(f"{asked} is in the future")
    return asked


def kind_of(word: str) -> EventKind | Verdict:
    """Return the kind of event that a word names: a kind, or a verdict, which means puts with it. Raises `ValueError`."""
    found = KIND_WORDS.get(word)
    if found is None:
        raise ValueError(f"{word!r:.80} is no kind of event: expected {', '.join(KIND_WORDS)}")
    return found


def query(
    *,
    source_id: str | None = None,
    dataset: str | None = None,
    checksum: str | None = None,
    checksums: Iterable[str] | None = None,
    run: str | None = None,
    kinds: Iterable[EventKind | Verdict | str] = (),
    since: Moment | None = None,
    until: Moment | None = None,
    reverse: bool = False,
    other_inputs: bool = False,
) -> Query:
    """Return the query with these filters. Raises `ValueError` for a value that cannot be one."""
    some = checksums if checksum is None else [checksum, *(checksums or ())]
    return Query(
        source_id=source_id,
        dataset=dataset,
        checksums=None if some is None else frozenset(map(required_checksum, some)),
        run=run,
        kinds=frozenset(map(kind_of, kinds)),
        since="" if since is None else log_time(since),
        until="~" if until is None else log_time(until),
        reverse=reverse,
        other_inputs=other_inputs,
    )
