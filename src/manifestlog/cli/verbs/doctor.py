"""`doctor`: try out on a real folder everything that a manifest relies on."""

import os
import signal
from contextlib import closing
from types import FrameType
from typing import Annotated, NoReturn

import typer

from manifestlog import maintenance
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.reports import ProbeResult, ProbeStatus

_TERMINATED = 128 + signal.SIGTERM


def doctor(
    settings: Settings,
    folder: Annotated[
        str | None,
        typer.Argument(metavar="DIR", help="The folder to test; without it the one of --dir.", show_default=False),
    ] = None,
) -> int:
    """Test whether a folder is good enough for manifests.

    Locks between two processes, atomic renames, syncs and their cost, kind of file system, clock, room, permissions. Tries it all in a folder of its own there, which is removed
    again; manifests are not touched. Exit code 1 when a test failed, 0 with warnings only.
    """
    place = str(settings.directory) if folder is None else folder
    if not os.path.isdir(place):
        what = "no directory" if os.path.lexists(place) else "no such directory"
        raise CommandError(f"{place}: {what}; make it (`mkdir -p`), or name another one", error="FileNotFoundError")
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with closing(maintenance.diagnose(place, settings.options())) as results:
            found = [*results]
    finally:
        signal.signal(signal.SIGTERM, before)
    failed = any(one.status is ProbeStatus.FAILED for one in found)
    if settings.as_json:
        output.document(
            {"directory": os.path.realpath(place), "failed": failed, "tests": [_as_json(one) for one in found]}
        )
    else:
        _show(settings, found)
    return 1 if failed else 0


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)  # so that the tests' folder is removed on the way out


def _show(settings: Settings, found: list[ProbeResult]) -> None:
    shown = [one for one in found if one.status is not ProbeStatus.OK or not settings.quiet]
    rows = [(one.test, one.status, _sentence(one)) for one in shown]
    if rows:
        output.table(["test", "verdict", "what was found, and what to do"], rows)


def _as_json(one: ProbeResult) -> dict[str, str]:
    return {"test": one.test, "verdict": one.status, "found": one.found, "advice": one.advice}


def _sentence(one: ProbeResult) -> str:
    return f"{one.found}. {one.advice[0].upper()}{one.advice[1:]}" if one.advice else one.found
