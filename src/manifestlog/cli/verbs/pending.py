"""`pending`: print the files that a stage still has to process, for shell pipelines, Make and Snakemake."""

from typing import Annotated

import typer

from manifestlog.cli import by_hand, validators
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output


def pending(
    settings: Settings,
    manifest: by_hand.StageManifestArgument,
    *,
    of: Annotated[
        str,
        typer.Option("--of", metavar="UPSTREAM", callback=validators.filled, help="Manifest of the inputs.", show_default=False),
    ],
    version: by_hand.VersionOption = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="PATTERN", help="Only files whose path, source_id or dataset matches, such as 'bodies*'.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, help="Print at most N.", show_default=False)
    ] = None,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="End each path with a null character, as for `xargs -0`.")
    ] = False,
    fail: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything is pending.")] = False,
) -> int:  # fmt: skip
    """Print the paths of files that a stage has not processed.

    A file is processed when `record` or `run` has recorded a result for it by this version of the stage. If
    STAGE_MANIFEST does not exist yet, everything is pending. Writes nothing.
    """
    stage = by_hand.stage_of(settings, manifest, of, version)
    found = stage.pending(only=only)
    by_hand.note_if_missing(settings, stage.manifest)
    shown = found[:limit]
    with output.ignore_broken_pipe():
        if settings.as_json:
            output.document({"pending": len(found), "items": [by_hand.ref_as_json(ref) for ref in shown]})
        else:
            _print([ref.file_path for ref in shown], null=null)
    return int(fail and bool(found))


def _print(paths: list[str], *, null: bool) -> None:
    split = next((path for path in paths if "\n" in path), None)
    if split is not None and not null:
        raise CommandError(f"{split!r} contains a line break: use -0, or --json")
    output.raw("".join(path + ("\0" if null else "\n") for path in paths))
