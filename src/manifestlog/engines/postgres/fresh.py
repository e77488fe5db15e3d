"""Plans additions of unknown contents, for each of the two states that their source may be in.

Nearly all additions are of this kind. Before and after taking the locks, the manifest has the same information about
such a content: none. So the client plans ahead, and the server writes the plan that fits its state (`single`,
`together`).

Invariants:

- `model.writes` decides, as everywhere: the server only compares its state with the assumptions of the plans.

Pure functions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.postgres.staged import logged
from manifestlog.engines.postgres.values import seen
from manifestlog.model import codec
from manifestlog.model.events import EventKind
from manifestlog.model.rows import Sighting
from manifestlog.model.writes import plan_add, plan_unknown

if TYPE_CHECKING:
    from manifestlog.model.codec import Encoded
    from manifestlog.model.events import Details
    from manifestlog.model.rows import Row
    from manifestlog.model.writes import Added, Rules


_NAME = re.compile(r"\{(\w+)\}")


class _Nothing:
    """A manifest that knows nothing of a content and its source."""

    def might_know(self, checksum: str, source_id: str) -> bool:
        del checksum, source_id
        return False

    def row(self, checksum: str) -> None:
        del checksum

    def recent(self, source_id: str, dataset: str, moment: str) -> list[Sighting]:
        del source_id, dataset, moment
        return []


_NOTHING = _Nothing()


class Fresh(NamedTuple):
    """An addition with its two plans: for a source without a record in its dataset, and for one that has some."""

    checksum: bytes
    body: bytes
    pair: bytes
    ts: int
    tie: int
    source: bytes
    dataset: bytes
    run: bytes | None
    details: bytes | None
    """Those of the event by the first plan."""
    other_details: bytes | None
    """Those by the second one."""
    mentions: tuple[bytes, ...]
    answers: tuple[Added, Added]


def fresh(record: Encoded, rules: Rules, *, live: bool, details: Details | None) -> Fresh | None:
    """Return the addition with its plans; None if it needs to be planned under the locks."""
    raw, checksum, source_ids = record
    row: Row = codec.loads(raw)
    if len(source_ids) != 1 or "also_seen" in row:
        return None
    new = plan_add(_NOTHING, record, rules, live=live, details=details)
    changed = plan_unknown(record, row, [Sighting(("", 0), row["dataset"], "")], rules, details)
    if not (new.record is changed.record is record and new.answer.row is changed.answer.row is None):
        return None
    event = logged(EventKind.PUT, checksum, row, raw, new.details or {})
    other = codec.dumps(changed.details) if changed.details else None
    answers = new.answer, changed.answer
    return Fresh(bytes.fromhex(checksum), raw, *seen(row), event.run, event.details, other, event.mentions, answers)


def numbered(statement: str, parameters: type[NamedTuple]) -> str:
    """Return a statement of ours with each `{name}` as the number of that parameter."""
    numbers = {name: f"${number}" for number, name in enumerate(parameters._fields, 1)}
    return _NAME.sub(lambda found: numbers[found[1]], statement)
