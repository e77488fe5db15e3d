"""`undo`: take changes back, with new events."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer

from manifestlog.cli import durations, target, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.comparison import ContentDiff
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.differences import Change
from manifestlog.model.rows import utc_text
from manifestlog.undo import Undone

_SCHEMA_VERSION = 1
_LINES_MAX = 20
_WORDS = {Change.ADDED: "put back", Change.CHANGED: "changed back", Change.GONE: "removed"}


def undo(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TIME",
            help="Undo every change after an ISO date or time (UTC), or a duration ago (2h, 7d).",
        ),
    ] = None,
    change: Annotated[
        str | None,
        typer.Option(
            "--change", metavar="CURSOR", help="Undo the one change with this cursor, which log --verbose prints."
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="ID", callback=validators.recordable, help="Undo everything that this run changed."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also reverse later changes of the same contents, instead of refusing.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")] = False,
) -> int:
    """Undo changes.

    Restores each content as it was before the changes, in one atomic batch, and then the metadata. Rewrites nothing: an
    undo is a run of new events, which you can undo with undo --run. Refuses, with exit code 1, if a content was changed
    again after --change or --run changed it. Does not touch data files.
    """
    if sum(one is not None for one in (to, change, run)) != 1:
        raise typer.BadParameter("give exactly one of them", param_hint="--to / --change / --run")
    moment = None if to is None else durations.past(to, datetime.now(UTC), "--to")
    path = target.locate(settings, manifest)
    with DownloadManifestManager(path, options=settings.options(), read_only=dry_run) as found:
        done = found.undo(to=moment, change=change, run=run, force=force, dry_run=dry_run)
        name = found.location.display
    chosen = {"to": None if moment is None else utc_text(moment), "change": change, "run": run}
    text = "\n".join(map(output.clean, _sentences(name, done, dry_run=dry_run)))
    output.report(
        settings,
        text,
        {"schema_version": _SCHEMA_VERSION, "manifest": name, "dry_run": dry_run} | chosen | _as_json(done),
    )
    return 0


def _as_json(done: Undone) -> dict[str, object]:
    contents = [
        {
            "change": one.change,
            "checksum": one.checksum,
            "before": None if one.before is None else one.before.model_dump(mode="json"),
            "after": None if one.after is None else one.after.model_dump(mode="json"),
        }
        for one in done.contents
    ]
    metadata = {name: {"before": before, "after": after} for name, (before, after) in done.metadata.items()}
    return {"contents": contents, "metadata": metadata, "undo_run": done.run}


def _sentences(path: str, done: Undone, *, dry_run: bool) -> list[str]:
    if not (done.contents or done.metadata):
        return [f"{path}: nothing to undo"]
    lines = [_line(one) for one in done.contents[:_LINES_MAX]]
    if len(done.contents) > _LINES_MAX:
        lines.append(f"… and {len(done.contents) - _LINES_MAX:,} more; --json lists all")
    lines += [f"{name}: {before} -> {after}" for name, (before, after) in done.metadata.items()]
    counts = Counter(one.change for one in done.contents)
    said = ", ".join(f"{counts[change]:,} {word}" for change, word in _WORDS.items())
    again = "" if done.run is None else f"; undo this with --run {done.run}"
    return [*lines, f"{path}: contents that {'would be' if dry_run else 'were'} changed: {said}{again}"]


def _line(one: ContentDiff) -> str:
    record = one.after or one.before
    assert record is not None
    what = f"{record.dataset}/{record.source_id}: {output.short(one.checksum)} {record.file_path}"
    return f"{_WORDS[one.change]:<12}  {what}"
