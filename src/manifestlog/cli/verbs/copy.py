"""`copy`: copy a manifest to another directory or database, or bring such a copy up to date."""

import os
from dataclasses import asdict
from typing import Annotated

import typer

from manifestlog import names
from manifestlog.cli import target, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.copying import CopyOutcome, CopyReport, copy_manifest
from manifestlog.names import name_of

_SCHEMA_VERSION = 1

_ToArgument = Annotated[
    str,
    typer.Argument(
        metavar="TO",
        help="Target: a name, a path or a URL. A directory, or the URL of a database with / at its end, keeps the name.",
        show_default=False,
    ),
]


_RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        callback=validators.filled,
        help="root_dir of the copy [default: that of FROM; required if it would lead elsewhere from TO].",
    ),
]


def copy(settings: Settings, source: target.FromArgument, to: _ToArgument, *, root: _RootOption = None) -> int:
    """Copy a manifest, or bring its copy up to date.

    Copies records, metadata and history between files and databases, while programs continue to write. Run it again after
    an interruption, or to bring the copy up to date. Overwrites nothing: exits with 1 if TO holds anything other than an
    earlier state of FROM.
    """
    begin = target.locate(settings, source, "FROM")
    place = _place(settings, name_of(begin), to)
    report = copy_manifest(begin, place, root=root, options=settings.options())
    output.report(settings, output.clean(_sentence(report)), {"schema_version": _SCHEMA_VERSION} | asdict(report))
    if report.source_has_changed:
        output.notice(settings, output.clean(f"{report.source}: it has changed since; run the same again to catch up"))
    return 0


def _place(settings: Settings, name: str, to: str) -> str:
    """Return the path or URL of the target."""
    if not names.is_path(to):
        is_manifest = names.parse_manifest_name(names.name_of(to) + names.SUFFIX) is not None
        found = to if is_manifest and not to.partition("?")[0].endswith("/") else names.location_in(to, name)
        return target.locate(settings, found, "TO")
    if not to.endswith(names.SUFFIX) and ("/" in to or os.path.isdir(to)):
        return os.path.join(to, name + names.SUFFIX)
    try:
        return settings.path_of(to)
    except ValueError as error:
        message = f"{error}; for a directory, write {to}/"
        raise typer.BadParameter(message, param_hint="TO") from None


def _sentence(report: CopyReport) -> str:
    match report.outcome:
        case CopyOutcome.ALREADY_THERE:
            return f"{report.target}: it is there already; nothing to copy"
        case CopyOutcome.CAUGHT_UP:
            return f"{report.target}: caught up; events: {report.events:,}, records: {report.records:,}"
    took = output.human_seconds(report.seconds)
    return f"{report.target}: copied; records: {report.records:,}, events: {report.events:,}; in {took}"
