"""`status`: print one row per manifest: its records, its log, its state."""

import os
from pathlib import Path
from typing import NamedTuple

from manifestlog import maintenance
from manifestlog.cli import target
from manifestlog.cli.invoke import worst
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import DamagedManifestError, ManifestError, ManifestNotFoundError, NotAManifestError
from manifestlog.maintenance import ManifestStatus

_COLUMNS = ("manifest", "records", "canonical", "log", "segments", "updated", "state")
_WORDS = ("manifest", "state")
_LEAST = ("segments", "canonical", "updated", "log")
"""Columns that a narrow terminal drops, in this order."""
_NUMBERS = ("records", "canonical", "log", "segments")


class _Status(NamedTuple):
    """A row. Sizes are in bytes; `total_records` and `ts_updated` are None if the manifest cannot be opened."""

    name: str
    path: str
    total_records: int | None
    canonical_bytes: int
    log_bytes: int
    segments: int
    ts_updated: str | None
    state: str
    reason: str | None = None
    exit_code: int = 0
    from_the_future: int | None = None
    """Number of observations with a time in the future; None if the manifest cannot be opened."""


def status(settings: Settings, manifests: target.ManifestsArgument = None) -> int:
    """Show the state of the manifests.

    Shows the named manifests [default: all of the directory]. States: ok, to merge (the log holds records that compact would merge), damaged, not a manifest. Exits with 12 if a file is damaged or is not a manifest.
    """
    paths = target.locate_all(settings, manifests)
    rows = [_read_status(settings, path) for path in paths]
    if settings.as_json:
        output.document([_as_json(row) for row in rows])
    elif rows:
        output.table(_COLUMNS, [_cells(row) for row in rows], numbers=_NUMBERS, words=_WORDS, least=_LEAST)
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


def _read_status(settings: Settings, path: Path) -> _Status:
    found = maintenance.status(path, settings.options())
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
        found.ts_updated,
        state,
        reason,
        0 if found.error is None else getattr(found.error, "exit_code", 1),
        found.from_the_future,
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


def _as_json(row: _Status) -> dict[str, object]:
    shown = row._asdict()
    del shown["exit_code"]
    return shown


def _cells(row: _Status) -> tuple[str, ...]:
    return (
        row.name,
        "-" if row.total_records is None else f"{row.total_records:,}",
        output.human_bytes(row.canonical_bytes),
        output.human_bytes(row.log_bytes),
        str(row.segments),
        "-" if row.ts_updated is None else row.ts_updated[:19] + "Z",
        row.state if row.reason is None else f"{row.state}: {row.reason}",
    )
