"""Registers the outcomes of items: the records of their outputs, and the events of their derivations.

Invariants:

- The records of one item are in one write, which says that its inputs are done.
- An output has the time of its input, or of the latest member of its group. So the same content is current here and
  upstream, in whatever order workers finish.
- An outcome that leaves no record, or changes none, is an event that names the inputs.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from manifestlog.errors import RecordRejectedError
from manifestlog.model.models import ManifestRecord, invalid_fields
from manifestlog.model.verdict import Verdict
from manifestlog.server_errors import ClaimLostError
from manifestlog.stages.outcome import Judgement, Loaded, Made, Nothing
from manifestlog.stages.report import MadeOutput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manifestlog.model.models import AddResult
    from manifestlog.stages.arrival import Arrival, Landing


class _Entry(NamedTuple):
    """A record to add, and the item that it is of."""

    arrival: Arrival
    record: ManifestRecord
    details: dict[str, Any]
    path: str
    """The absolute path of its file."""


def record(landing: Landing, arrivals: Sequence[Arrival]) -> None:
    """Record these items, durable on return as the manifest's options promise. A rejected item has its error afterwards."""
    groups = [(one, _entries(landing, one)) for one in arrivals]
    try:
        with landing.claims.fence():
            _record(landing, groups)
            _add_derivations(landing, [one for one in arrivals if isinstance(one.outcome, Nothing)])
    except ClaimLostError as error:  # this host was cut off for so long that others may have the items
        for one in arrivals:
            one.error = one.error or error


def _record(landing: Landing, groups: list[tuple[Arrival, list[_Entry]]]) -> None:
    try:
        _add(landing, [entry for _, entries in groups for entry in entries])
    except ValueError:  # one of them is rejected, or all of them are too large for one write
        for one, entries in groups:
            try:
                _add(landing, entries)
            except ValueError as error:
                one.error = _with_remedy(landing, one, error)


def _with_remedy(landing: Landing, one: Arrival, error: ValueError) -> ValueError:
    most = landing.manifest.options.batch_records_max
    if isinstance(error, RecordRejectedError) or len(one.outputs) <= most:
        return error
    said = f"all records of an item are one write: {len(one.outputs)} outputs, at most {most}"
    return ValueError(f"{error}; {said}; let an item make fewer, or raise `batch_records_max` in Python")


def _entries(landing: Landing, one: Arrival) -> list[_Entry]:
    """Return the records of an item; none if it has none. One that is not valid is the item's error."""
    try:
        if isinstance(one.outcome, Made):
            return list(_of_outputs(landing, one))
        if isinstance(one.outcome, Judgement | Loaded):
            return list(_of_inputs(landing, one, one.outcome))
    except ValidationError as error:
        one.error = RecordRejectedError(invalid_fields(error))
    except ValueError as error:
        one.error = error
    return []


def _of_outputs(landing: Landing, one: Arrival) -> Iterator[_Entry]:
    inputs = tuple(found.checksum for found in one.item.inputs)
    for output in one.outputs:
        made = ManifestRecord(
            source_id=output.source_id,
            dataset=output.dataset,
            checksum=output.content.checksum,
            file_path=landing.manifest.stated(output.path),
            file_size=output.content.size,
            ts_downloaded=datetime.fromisoformat(one.item.ts),
            version=one.version,
            derived_from=inputs,
        )
        yield _Entry(one, made, _details(one), output.path)


def _of_inputs(landing: Landing, one: Arrival, outcome: Judgement | Loaded) -> Iterator[_Entry]:
    """Yield the records of the inputs themselves, derived from themselves."""
    if isinstance(outcome, Judgement):
        said: dict[str, Any] = {"judgement": outcome.word, "reason": outcome.why}
    else:
        said = {"rows": outcome.rows, "target": outcome.target}
    for found in one.item.inputs:
        row = found.row
        same = ManifestRecord(
            source_id=row["source_id"],
            dataset=landing.stage.dataset or row["dataset"],
            checksum=row["checksum"],
            file_path=landing.manifest.stated(found.location_text),
            file_size=row["file_size"],
            ts_downloaded=datetime.fromisoformat(row["ts_downloaded"]),
            version=one.version,
            derived_from=(row["checksum"],),
        )
        yield _Entry(one, same, {**_details(one), **said}, found.location_text)


def _details(one: Arrival) -> dict[str, Any]:
    return {"code": one.code, "started": one.started, "seconds": one.seconds}


def _add(landing: Landing, entries: Sequence[_Entry]) -> None:
    results = landing.manifest.add_each([one.record for one in entries], attempts=[one.details for one in entries])
    untold = []
    for entry, result in zip(entries, results, strict=True):
        if isinstance(entry.arrival.outcome, Made):
            entry.arrival.made += (_made(entry, result),)
        if _is_untold(entry, result):
            untold.append(_derivation(entry))
    landing.manifest.add_derivations(untold)


def _is_untold(entry: _Entry, result: AddResult) -> bool:
    """Return whether the history does not say it yet: the manifest had exactly this derivation, but of another code, or
    with another judgement.
    """
    if result.verdict is not Verdict.DUPLICATE:
        return False
    shown, given = (one.record for one in (result, entry))
    is_shown = shown.version == given.version and sorted(shown.derived_from) == sorted(given.derived_from)
    return is_shown and (entry.arrival.code is not None or not isinstance(entry.arrival.outcome, Made))


def _derivation(entry: _Entry) -> dict[str, Any]:
    given = entry.record
    own = {"source_id": given.source_id, "dataset": given.dataset, "checksum": given.checksum, "version": given.version}
    return {**own, "inputs": list(given.derived_from), **entry.details}


def _made(entry: _Entry, result: AddResult) -> MadeOutput:
    given = entry.record
    return MadeOutput(given.checksum, entry.path, given.file_size, given.dataset, result.verdict.value)


def _add_derivations(landing: Landing, arrivals: Sequence[Arrival]) -> None:
    """Record that nothing came of these items."""
    found = []
    for one in arrivals:
        assert isinstance(one.outcome, Nothing)
        own = {"source_id": one.item.source_id, "dataset": one.item.dataset, "version": one.version}
        inputs = [some.checksum for some in one.item.inputs]
        found.append({**own, "inputs": inputs, "reason": one.outcome.why, **_details(one)})
    landing.manifest.add_derivations(found)
