"""`record`: record the outputs that another program has made from inputs, as a stage of `run` does itself."""

from typing import TYPE_CHECKING, Annotated

import typer

from manifestlog.cli import by_hand, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output

if TYPE_CHECKING:
    from manifestlog.stages.outcome import Outcome
    from manifestlog.stages.report import ItemOutcome


def record(
    settings: Settings,
    manifest: by_hand.StageManifestArgument,
    outputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="OUTPUT", callback=validators.all_filled, help="Files that were made.", show_default=False),
    ] = None,
    *,
    inputs: Annotated[
        list[str],
        typer.Option("--from", metavar="INPUT", callback=validators.all_filled, help="Input of these outputs: a file, or its checksum. Repeatable.", show_default=False),
    ],
    of: by_hand.OfOption = None,
    version: by_hand.VersionOption = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="ID", callback=validators.recordable, help="Source of the outputs [default: the input's; of several inputs, the output's path]."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", callback=validators.recordable, help="Dataset of the outputs [default: the inputs']."),
    ] = None,
    nothing: Annotated[bool, typer.Option("--nothing", help="There was nothing to do with the inputs.")] = False,
    valid: Annotated[bool, typer.Option("--valid", help="The inputs are valid.")] = False,
    invalid: Annotated[bool, typer.Option("--invalid", help="The inputs are invalid; requires --why.")] = False,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", min=0, help="The inputs were loaded, as N rows.", show_default=False)
    ] = None,
    why: Annotated[
        str | None, typer.Option("--why", metavar="TEXT", callback=validators.recordable, help="Why there was nothing to do, or why the inputs are valid or invalid.", show_default=False)
    ] = None,
) -> int:  # fmt: skip
    """Record outputs, and the inputs that they were made from.

    Hashes and syncs each output first, but does not move it: write it under a temporary name, and rename it before you
    record it. The inputs are then no longer pending, and `trace` leads from the output to their downloads. Creates
    STAGE_MANIFEST if needed. Recording the same again writes nothing.
    """
    stage = by_hand.stage_of(settings, manifest, of, version)
    outcome = _outcome(outputs or [], nothing=nothing, valid=valid, invalid=invalid, rows=rows, why=why)
    try:
        found = stage.record(inputs, outputs or [], outcome=outcome, source_id=source, dataset=dataset)
    except OSError as error:
        if error.filename is None:
            raise
        raise by_hand.unreadable(error) from None
    output.report(settings, _sentence(found), by_hand.outcome_as_json(found))
    return 0


def _outcome(
    outputs: list[str], *, nothing: bool, valid: bool, invalid: bool, rows: int | None, why: str | None
) -> "Outcome | None":
    from manifestlog.stages import outcome  # noqa: PLC0415 -- slow to import

    said = [name for name, is_given in _words(nothing=nothing, valid=valid, invalid=invalid, rows=rows) if is_given]
    if len(said) + bool(outputs) != 1:
        raise typer.BadParameter(
            "give outputs, or one of --nothing, --valid, --invalid and --rows", param_hint="OUTPUT"
        )
    if why is not None and (outputs or rows is not None):
        raise typer.BadParameter("belongs to --nothing, --valid or --invalid", param_hint="--why")
    if nothing:
        return outcome.nothing(why)
    if valid:
        return outcome.valid(why)
    if invalid:
        if why is None:
            raise typer.BadParameter("requires --why", param_hint="--invalid")
        return outcome.invalid(why)
    return None if rows is None else outcome.loaded(rows)


def _words(*, nothing: bool, valid: bool, invalid: bool, rows: int | None) -> list[tuple[str, bool]]:
    return [("--nothing", nothing), ("--valid", valid), ("--invalid", invalid), ("--rows", rows is not None)]


def _sentence(found: "ItemOutcome") -> str:
    inputs = f"{len(found.item.inputs):,} inputs" if len(found.item.inputs) > 1 else found.item.inputs[0]
    if found.outputs:
        return "\n".join(f"{one.checksum}\t{one.verdict}\t{output.clean(one.file_path)}" for one in found.outputs)
    return f"{inputs}\t{found.result.value}"
