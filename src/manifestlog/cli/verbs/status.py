"""`status`: one row a manifest: how much is in it, how much waits in its log, is it sound."""

import os
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from manifestlog import names as naming
from manifestlog.cli import target
from manifestlog.cli.invoke import worst
from manifestlog.cli.outcomes import Outcome, attempt
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.corrections import from_the_future
from manifestlog.engines.protocol import Engine
from manifestlog.engines.registry import driver_for
from manifestlog.errors import DamagedManifestError, ManifestError, ManifestNotFoundError, NotAManifestError

_COLUMNS = ("manifest", "records", "canonical", "log", "segments", "updated", "state")
_WORDS = ("manifest", "state")
_LEAST = ("segments", "canonical", "updated", "log")
"""What a narrow terminal leaves out, the first one first."""
_NUMBERS = ("records", "canonical", "log", "segments")


class _Status(NamedTuple):
    """A row; sizes in bytes, `total_records` and `ts_updated` unknown for what cannot be opened."""

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
    """Observations that a clock has stamped in the future; unknown for what cannot be opened."""


def status(settings: Settings, manifests: target.ManifestsArgument = None) -> int:
    """Show every manifest of the directory, or the named ones.

    State: ok, to merge (records wait in the log for a compaction), damaged, not a manifest. Exit code 12 when one is damaged or is none.
    """
    paths = target.locate_all(settings, manifests)
    rows = [_look(settings, path) for path in paths]
    if settings.as_json:
        output.document([_as_json(row) for row in rows])
    elif rows:
        output.table(_COLUMNS, [_cells(row) for row in rows], numbers=_NUMBERS, words=_WORDS, least=_LEAST)
    for row in rows:
        if row.from_the_future:
            output.complain(ahead_of_time(row.path, row.from_the_future))
    if not rows:
        output.remark(settings, f"{settings.directory}: no manifests here; create one with `manifestlog init`")
    return worst(row.exit_code for row in rows)


def ahead_of_time(path: str, count: int) -> str:
    """The warning that a manifest has records of the future."""
    many = f"{count:,} observations are" if count > 1 else "1 observation is"
    return f"{path}: {many} stamped in the future by a clock that was ahead; `manifestlog retime` puts that right"


def _look(settings: Settings, path: Path) -> _Status:
    opened = attempt(path, lambda path: _open(settings, path))
    if opened.result is None:
        return _unusable(opened)
    with closing(opened.result) as engine:
        log, metadata, ahead = engine.log_status(), engine.metadata(), from_the_future(engine)
    return _Status(
        target.name_of(path),
        naming.resolve(path).canonical,
        metadata["total_records"],
        log.canonical_bytes,
        log.log_bytes,
        log.segments,
        metadata["ts_updated"],
        "ok" if log.changed_since is None else "to merge",
        from_the_future=len(ahead),
    )


def _open(settings: Settings, path: Path) -> Engine:
    driver = driver_for(path)
    return driver.open(driver.locate(str(path)), None, settings.options(), read_only=True)


def _state_of(opened: Outcome[Engine]) -> tuple[str, str | None]:
    """(state, reason) of a manifest that cannot be opened."""
    match opened.error:
        case ManifestNotFoundError():
            return "missing", None
        case NotAManifestError() as error:
            return "not a manifest", error.shape
        case DamagedManifestError() as error:
            return "damaged", f"{os.path.basename(error.path)} at byte {error.offset}: {error.reason}"
        case OSError() as error if not isinstance(error, ManifestError):
            return "failed", f"{error.filename or opened.path}: {error.strerror or error}"
    return "failed", str(opened.error)


def _unusable(opened: Outcome[Engine]) -> _Status:
    state, reason = _state_of(opened)
    if state != "failed" and isinstance(opened.error, ManifestError):
        output.complain(opened.error)
    paths = naming.resolve(opened.path)
    segments = []
    with suppress(OSError):
        segments = paths.segment_numbers(os.listdir(paths.directory))
    return _Status(
        target.name_of(opened.path),
        paths.canonical,
        None,
        _size(paths.canonical),
        sum(_size(paths.segment(number)) for number in segments),
        len(segments),
        None,
        state,
        reason,
        opened.exit_code,
    )


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


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
