"""`relocate`: rewrite the paths of files that have moved to another directory."""

import os
from typing import Annotated

import typer

from manifestlog.cli import target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.relocation import Relocation
from manifestlog.names import is_url

_SCHEMA_VERSION = 1


def relocate(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    old: Annotated[
        str,
        typer.Option("--from", metavar="OLD", help="Directory that the files were in, or its URL.", show_default=False),
    ],
    new: Annotated[
        str,
        typer.Option(
            "--to", metavar="NEW", help="Directory that the files are in now, or its URL.", show_default=False
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")] = False,
) -> int:
    """Rewrite the paths of files that have moved.

    Changes every path below OLD, and the manifest's root_dir, to the same path below NEW, in one atomic batch (or several,
    if they do not fit into one log segment). Neither reads nor moves data files: run verify afterwards. Run it while
    nothing writes to the manifest. Running it again changes nothing.
    """
    path = target.locate(settings, manifest)
    before, after = _folder(old, "--from"), _folder(new, "--to")
    if before == after:
        raise typer.BadParameter("names the same directory as --from", param_hint="--to")
    with DownloadManifestManager(path, options=settings.options(), read_only=dry_run) as found:
        done, name = found.relocate(before, after, dry_run=dry_run), found.location.display
    document = {"schema_version": _SCHEMA_VERSION, "manifest": name, "from": before, "to": after}
    text = _sentence(name, before, done, dry_run=dry_run)
    output.report(settings, output.clean(text), document | {"dry_run": dry_run} | done._asdict())
    return 0


def _folder(text: str, hint: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("its name must be UTF-8 to be recorded", param_hint=hint) from None
    if not text or "\0" in text:
        raise typer.BadParameter("expected the path of a directory", param_hint=hint)
    return text.rstrip("/") if is_url(text) else os.path.abspath(text)


def _sentence(path: str, old: str, done: Relocation, *, dry_run: bool) -> str:
    if not done.paths and done.root_dir is None:
        return f"{path}: no path lies below {old}; nothing to change"
    verb = "would change" if dry_run else "changed"
    root = "" if done.root_dir is None else f", and root_dir to {done.root_dir}"
    return f"{path}: {verb} {done.paths:,} paths of {done.records:,} records{root}"
