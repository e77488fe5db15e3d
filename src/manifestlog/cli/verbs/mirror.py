"""`mirror`: keep a read replica of a manifest in a local directory."""

import signal
from dataclasses import asdict
from typing import Annotated

import typer

from manifestlog import names
from manifestlog.cli import signals, target
from manifestlog.cli.invoke import INTERRUPTED
from manifestlog.cli.keeping import HistoryOption
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.mirroring import Mirror, MirrorReport

_SCHEMA_VERSION = 1

_ToArgument = Annotated[
    str,
    typer.Argument(
        metavar="TO_DIR", help="Local directory of the replica, which has the name of the manifest.", show_default=False
    ),
]


def mirror(
    settings: Settings,
    source: target.FromArgument,
    to: _ToArgument,
    *,
    once: Annotated[bool, typer.Option("--once", help="Bring the replica up to date, then exit.")] = False,
    keep: HistoryOption = None,
) -> int:
    """Keep a local read replica of a manifest.

    Creates the replica, then applies each event of FROM until SIGTERM (exit code 0) or Ctrl-C (130). Lookups in TO_DIR
    then ask no server. Only this command writes there; `status` shows how old the replica is. Waits for a server that
    goes away; with --once, that is an error.
    """
    if not names.is_path(to):
        raise typer.BadParameter("a replica is a manifest in files; name a directory", param_hint="TO_DIR")
    begin = target.locate(settings, source, "FROM")
    with signals.collected() as caught, Mirror(begin, to, options=settings.options(keep)) as found:
        found.update()
        if not once:
            output.notice(settings, output.clean(f"{_sentence(found.report)}; following until SIGTERM or Ctrl-C"))
            found.run(lambda: bool(caught))
        report = {"schema_version": _SCHEMA_VERSION} | asdict(found.report)
        output.report(settings, output.clean(_sentence(found.report)), report)
    return INTERRUPTED if signal.SIGINT in caught else 0


def _sentence(report: MirrorReport) -> str:
    compared = ", all records compared" if report.comparisons else ""
    return f"{report.replica}: up to date; records: {report.records:,}, events applied: {report.events:,}{compared}"
