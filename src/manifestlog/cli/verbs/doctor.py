"""`doctor`: try out on a real folder everything that a manifest relies on."""

import os
import signal
from contextlib import closing, suppress
from types import FrameType
from typing import Annotated, NoReturn

import typer

from manifestlog import names as naming
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.corrections import from_the_future
from manifestlog.engines.filelog.recovery.doctor import examine
from manifestlog.engines.filelog.recovery.probes import Finding, Verdict
from manifestlog.engines.registry import driver_for
from manifestlog.errors import ManifestError

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
        with closing(examine(place)) as findings:
            found = [*findings, _record_times(settings, place)]
    finally:
        signal.signal(signal.SIGTERM, before)
    failed = any(one.verdict is Verdict.FAILED for one in found)
    if settings.as_json:
        output.document({"directory": os.path.realpath(place), "failed": failed, "tests": [f._asdict() for f in found]})
    else:
        _show(settings, found)
    return 1 if failed else 0


def _record_times(settings: Settings, place: str) -> Finding:
    """Whether a record is stamped in the future. A manifest that cannot be opened is left to `status` and `check`."""
    ahead = []
    for name in sorted(name for file in os.listdir(place) if (name := naming.parse_manifest_name(file))):
        with suppress(ManifestError, OSError, ValueError):
            driver = driver_for(place)
            location = driver.locate(os.path.join(place, f"{name}{naming.SUFFIX}"))
            with closing(driver.open(location, None, settings.options(), read_only=True)) as engine:
                found = from_the_future(engine)
            if found:
                ahead.append(f"{name}: {len(found):,} stamped in the future, up to {found[-1][3]}Z")
    if not ahead:
        return Finding("record times", Verdict.OK, "no record here is stamped in the future")
    advice = "set the clock by NTP, then run `manifestlog retime` on each"
    return Finding("record times", Verdict.WARNING, "; ".join(ahead), advice)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)  # so that the tests' folder is removed on the way out


def _show(settings: Settings, found: list[Finding]) -> None:
    shown = [one for one in found if one.verdict is not Verdict.OK or not settings.quiet]
    rows = [(one.test, one.verdict, _sentence(one)) for one in shown]
    if rows:
        output.table(["test", "verdict", "what was found, and what to do"], rows)


def _sentence(one: Finding) -> str:
    return f"{one.found}. {one.advice[0].upper()}{one.advice[1:]}" if one.advice else one.found
