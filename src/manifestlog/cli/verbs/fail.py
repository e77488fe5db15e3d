"""`fail`: record that another program failed to process inputs, as a stage of `run` does itself."""

from typing import Annotated

import typer

from manifestlog.cli import by_hand, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output


def fail(
    settings: Settings,
    manifest: by_hand.StageManifestArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", callback=validators.all_filled, help="Inputs that failed: files, or their checksums; several if one attempt processed them together.", show_default=False),
    ],
    *,
    error: Annotated[
        str, typer.Option("--error", metavar="TEXT", callback=validators.recordable, help="Why it failed.", show_default=False)
    ],
    of: by_hand.OfOption = None,
    version: by_hand.VersionOption = None,
    exit_code: Annotated[
        int | None, typer.Option("--exit", metavar="CODE", help="Exit code of the program.", show_default=False)
    ] = None,
) -> int:  # fmt: skip
    """Record that processing an input failed.

    The input stays pending. `failures` shows it until `record` or `run` records a result for it. Creates STAGE_MANIFEST if
    needed.
    """
    stage = by_hand.stage_of(settings, manifest, of, version)
    try:
        found = stage.fail(inputs, error, exit_code=exit_code)
    except OSError as problem:
        if problem.filename is None:
            raise
        raise by_hand.unreadable(problem) from None
    what = f"{len(found.item.inputs):,} inputs" if len(found.item.inputs) > 1 else found.item.inputs[0]
    output.report(settings, f"{what}\tfailed", by_hand.outcome_as_json(found))
    return 0
