"""`retime`: correct times in the future that a fast clock recorded."""

from typing import Annotated

import typer

from manifestlog.cli import target
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import RecordNotFoundError
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.retiming import Retimed

_SCHEMA_VERSION = 1


def retime(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    source: Annotated[
        str | None, typer.Option("--source", metavar="ID", help="Only this source [default: all].", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Only this dataset [default: all].", show_default=False),
    ] = None,
    keep_current: Annotated[
        bool,
        typer.Option("--keep-current", help="Keep the content from the future as the source's current content."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")] = False,
) -> int:
    """Correct times in the future.

    A clock that was ahead may have given a record a future time. The record then stays its source's current one until that
    time. This command moves it to just before the source's latest record with a plausible time, or to now if there is
    none or if live downloads followed. Removes no record. The next extract run asks the server as usual.
    """
    path = target.locate(settings, manifest)
    with DownloadManifestManager(path, options=settings.options(), read_only=dry_run) as found:
        changed, name = (
            found.retime(source, dataset, keep_current=keep_current, dry_run=dry_run),
            found.location.display,
        )
        if not changed and source is not None and found.get_record_by_source(source, dataset) is None:
            raise CommandError(f"{path}: no record of source {source}", error=RecordNotFoundError.__name__)
    text = "\n".join(output.clean(line) for line in _sentences(name, changed, dry_run=dry_run))
    head = {"schema_version": _SCHEMA_VERSION, "manifest": name, "dry_run": dry_run}
    output.report(settings, text, head | {"changed": [one._asdict() for one in changed]})
    return 0


def _sentences(path: str, changed: list[Retimed], *, dry_run: bool) -> list[str]:
    if not changed:
        return [f"{path}: no times in the future; nothing to change"]
    verb = "would become" if dry_run else "became"
    lines = [
        f"{one.dataset}/{one.source_id}: {output.short(one.checksum)}: {one.before} {verb} {one.after}"
        for one in changed
    ]
    many = f"{len(changed):,} times" if len(changed) > 1 else "1 time"
    return [
        *lines,
        f"{path}: {many} in the future {'would be' if dry_run else 'were' if len(changed) > 1 else 'was'} corrected",
    ]
