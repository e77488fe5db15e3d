"""`doctor`: check that a directory or a database supports everything that a manifest relies on."""

import os
import signal
from contextlib import closing
from types import FrameType
from typing import Annotated, NoReturn

import typer

from manifestlog import maintenance, names
from manifestlog.cli import target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.reports import ProbeResult, ProbeStatus

_TERMINATED = 128 + signal.SIGTERM


def doctor(
    settings: Settings,
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR", help="Directory, or URL of a database, to test [default: --dir].", show_default=False
        ),
    ] = None,
) -> int:
    """Check that a directory or a database can hold manifests safely.

    In a directory, tests locks between two processes, atomic renames, fsync and its cost, the file system's type, the
    clock, free space and permissions. Uses a temporary directory inside it, which it removes at the end; never touches
    manifests. In a database, reads the server's settings, tables, standbys, rights, connections and clock. Exits with 1
    if a test fails, and with 0 if there are only warnings.
    """
    place = _place(settings, folder)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with closing(maintenance.diagnose(place, settings.options())) as results:
            found = [*results]
    finally:
        signal.signal(signal.SIGTERM, before)
    failed = any(one.status is ProbeStatus.FAILED for one in found)
    if settings.as_json:
        output.document(
            {
                "directory": os.path.realpath(place) if names.is_path(place) else place,
                "failed": failed,
                "tests": [_as_json(one) for one in found],
            }
        )
    else:
        _show(settings, found)
    return 1 if failed else 0


def _place(settings: Settings, folder: str | None) -> str:
    """Return what to test: a directory that is there, or the URL of a database."""
    place, hint = (settings.directory, "--dir") if folder is None else (folder, "DIR")
    if not names.is_path(place):
        return target.checked_directory(place, hint)
    if os.path.isdir(place):
        return place
    if os.path.lexists(place):
        raise typer.BadParameter(f"{place!r} is not a directory", param_hint=hint)
    raise target.no_directory(place, "create it (`mkdir -p`), or name another one")


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)  # an exception, so that the temporary directory is removed


def _show(settings: Settings, found: list[ProbeResult]) -> None:
    shown = [one for one in found if one.status is not ProbeStatus.OK or not settings.quiet]
    rows = [(one.test, one.status, _sentence(one)) for one in shown]
    if rows:
        output.table(["test", "verdict", "finding and advice"], rows)


def _as_json(one: ProbeResult) -> dict[str, str]:
    return {"test": one.test, "verdict": one.status, "found": one.found, "advice": one.advice}


def _sentence(one: ProbeResult) -> str:
    return f"{one.found}. {one.advice[0].upper()}{one.advice[1:]}" if one.advice else one.found
