"""`status`: print one row per manifest: its records, its log, its state."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from manifestlog import maintenance
from manifestlog.cli import durations, target
from manifestlog.cli.invoke import worst
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import DamagedManifestError, ManifestError, ManifestNotFoundError, NotAManifestError
from manifestlog.maintenance import ManifestStatus
from manifestlog.model.rows import utc_text

_COLUMNS = ("manifest", "records", "canonical", "log", "segments", "history", "updated", "failed", "state")
_COLUMNS_THEN = ("manifest", "records", "updated", "failed", "state")
"""The columns with `--as-of`: nobody knows how large the files were then."""
_SIZES = ("canonical_bytes", "log_bytes", "segments", "history_bytes")
_WORDS = ("manifest", "state")
_LEAST = ("history", "failed", "segments", "canonical", "updated", "log")
"""Columns that a narrow terminal drops, in this order."""
_NUMBERS = ("records", "canonical", "log", "segments", "history", "failed")


class _Status(NamedTuple):
    """A row. Sizes are in bytes; `total_records` and `ts_updated` are None if the manifest cannot be opened."""

    name: str
    path: str
    total_records: int | None
    canonical_bytes: int
    log_bytes: int
    segments: int
    history_bytes: int
    ts_updated: str | None
    state: str
    reason: str | None = None
    exit_code: int = 0
    from_the_future: int | None = None
    """Number of observations with a time in the future; None if the manifest cannot be opened."""
    failed_sources: int | None = None
    """Number of sources that are failing; None if that cannot be read."""


def status(
    settings: Settings, manifests: target.ManifestsArgument = None, *, as_of: durations.AsOfOption = None
) -> int:
    """Show the state of the manifests.

    Shows the named manifests [default: all of the directory]. With --as-of, without sizes. Failed: how many sources failed in the last 30 days and have not succeeded since (at most 100); `failures` names them. States: ok, to merge (the log holds records that compact would merge), damaged, not a manifest. Exits with 12 if a file is damaged or is not a manifest.
    """
    moment = durations.as_of(as_of, datetime.now(UTC))
    paths = target.locate_all(settings, manifests)
    rows = [_read_status(settings, path, moment) for path in paths]
    if settings.as_json:
        output.document([_as_json(row, moment) for row in rows])
    elif rows:
        _print_table(rows, _COLUMNS if moment is None else _COLUMNS_THEN)
    for row in rows:
        if row.from_the_future:
            output.error(ahead_of_time(row.path, row.from_the_future))
    if not rows:
        output.notice(settings, f"{settings.directory}: no manifests found; create one with `manifestlog init`")
    return worst(row.exit_code for row in rows)


def ahead_of_time(path: str, count: int) -> str:
    """Return the warning that a manifest has observations in the future."""
    many = f"{count:,} observations have" if count > 1 else "1 observation has"
    return f"{path}: {many} a time in the future (a clock was ahead); correct with `manifestlog retime`"


def _read_status(settings: Settings, path: Path, moment: datetime | None) -> _Status:
    found = maintenance.status(path, settings.options(), as_of=moment)
    state, reason = _state_of(found, path)
    if state != "failed" and isinstance(found.error, ManifestError):
        output.error(found.error)
    return _Status(
        target.name_of(path),
        found.path,
        found.total_records,
        found.canonical_bytes,
        found.log_bytes,
        found.segments,
        found.history_bytes,
        found.ts_updated,
        state,
        reason,
        0 if found.error is None else getattr(found.error, "exit_code", 1),
        found.from_the_future,
        found.failing,
    )


def _state_of(found: ManifestStatus, path: Path) -> tuple[str, str | None]:
    """Return the state, and the reason why the manifest cannot be opened."""
    match found.error:
        case None:
            return "to merge" if found.to_merge else "ok", None
        case ManifestNotFoundError():
            return "missing", None
        case NotAManifestError() as error:
            return "not a manifest", error.shape
        case DamagedManifestError() as error:
            return "damaged", f"{os.path.basename(error.path)} at byte {error.offset}: {error.reason}"
        case ManifestError() as error:
            return "failed", str(error)
    return "failed", f"{found.error.filename or path}: {found.error.strerror or found.error}"


def _as_json(row: _Status, moment: datetime | None) -> dict[str, object]:
    shown = row._asdict()
    del shown["exit_code"]
    if moment is not None:
        shown = shown | dict.fromkeys(_SIZES) | {"as_of": utc_text(moment)}
    return shown


def _print_table(rows: list[_Status], columns: tuple[str, ...]) -> None:
    cells = [[_cells(row)[name] for name in columns] for row in rows]
    numbers, least = ([name for name in names if name in columns] for names in (_NUMBERS, _LEAST))
    output.table(columns, cells, numbers=numbers, words=_WORDS, least=least)


def _cells(row: _Status) -> dict[str, str]:
    return {
        "manifest": row.name,
        "records": "-" if row.total_records is None else f"{row.total_records:,}",
        "canonical": output.human_bytes(row.canonical_bytes),
        "log": output.human_bytes(row.log_bytes),
        "segments": str(row.segments),
        "history": output.human_bytes(row.history_bytes),
        "updated": "-" if row.ts_updated is None else row.ts_updated[:19] + "Z",
        "failed": "-" if row.failed_sources is None else f"{row.failed_sources:,}",
        "state": row.state if row.reason is None else f"{row.state}: {row.reason}",
    }
