"""`unused`: list the contents that no later stage needs, so that they can be deleted safely."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifestlog.cli import by_hand, configured, durations, target, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output

if TYPE_CHECKING:
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.unused import UnusedReport


def unused(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="STAGE_MANIFEST", callback=validators.all_filled, help="Manifest of a stage that needs these files, directly or behind another stage. Repeatable [default: all of the directory that have processed some of them].", show_default=False),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="CONFIG", callback=validators.filled, help="Configuration of `run` with the stages; it also names the directory.", show_default=False),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="TIME", help="Only files older than an ISO date or time (UTC), or than a duration (30d).", show_default=False),
    ] = None,
    current: Annotated[
        bool, typer.Option("--current", help="Also the latest file of each source, which `extract` then fetches again.")
    ] = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Print only paths, each with a null character at its end, as for `xargs -0 rm`.")
    ] = False,
) -> int:  # fmt: skip
    """List files that no later stage needs; change nothing.

    Does not list a file if a stage still has to process it, if it belongs to a group that may be processed again, or if it
    is the latest file of its source. Prints tab-separated columns: checksum, bytes, path. To delete safely, forget the
    records first (`manifestlog forget`) and then remove the files, so that no record is ever without its file.
    """
    from manifestlog.stages.unused import unused as find  # noqa: PLC0415 -- slow to import

    if by and config:
        raise typer.BadParameter("give one of them", param_hint="--by / --config")
    before = durations.since(older_than, datetime.now(UTC), "--older-than")
    path = target.locate(settings, manifest) if config is None else manifest
    directory, stages = _pipeline(settings, path, by, config)
    report = find(path, directory, stages=stages, older_than=before, keep_current=not current)
    with output.ignore_broken_pipe():
        _print(settings, report, null=null)
    return 0


def _pipeline(
    settings: Settings, manifest: str, by: list[str] | None, config: str | None
) -> "tuple[Path | str, list[Stage] | None]":
    """Return the directory of the manifests, or the URL of their database, and the stages that were named."""
    if config is not None:
        found = configured.load(config)
        sys.path.insert(0, os.path.dirname(os.path.abspath(config)))  # where its functions are
        return found.directory, found.stages
    if not by:
        target.require_directory(settings)  # the stages are looked for there
        return settings.directory, None
    stages = [by_hand.stage_of(settings, one, manifest, None).stage for one in by]
    for stage in stages:
        by_hand.note_if_missing(settings, stage.manifest)
    return settings.directory, stages


def _print(settings: Settings, report: "UnusedReport", *, null: bool) -> None:
    if settings.as_json:
        output.document(_as_json(report))
        return
    if null:
        output.raw("".join(f"{path}\0" for one in report.contents for path in one.paths))
    else:
        for one in report.contents:
            for path in one.paths or ("-",):
                output.stream(f"{one.checksum}\t{one.file_size}\t{output.clean(path)}")
    output.notice(settings, _sentence(report))


def _sentence(report: "UnusedReport") -> str:
    kept = ", ".join(f"{count:,} {reason}" for reason, count in report.kept.items()) or "none"
    size = output.human_bytes(report.bytes)
    return f"{len(report.contents):,} unused, {size}; kept: {kept}; stages: {', '.join(report.stages)}"


def _as_json(report: "UnusedReport") -> dict[str, object]:
    return {
        "manifest": report.manifest,
        "stages": report.stages,
        "unused": [one._asdict() for one in report.contents],
        "bytes": report.bytes,
        "kept": {reason.value: count for reason, count in report.kept.items()},
    }
