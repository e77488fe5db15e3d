"""The options of the verbs for other programs' stages, and the library object behind these verbs."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from manifestlog.cli import target, validators
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import missing, output
from manifestlog.errors import ManifestNotFoundError

if TYPE_CHECKING:
    from manifestlog.stages.by_hand import ByHand
    from manifestlog.stages.report import ItemOutcome, ItemRef

StageManifestArgument = Annotated[
    str,
    typer.Argument(
        metavar="STAGE_MANIFEST",
        help="Manifest of the stage: a name in the directory (systems_processing), or the path of a .manifest.json file.",
        show_default=False,
    ),
]
OfOption = Annotated[
    str | None,
    typer.Option(
        "--of",
        metavar="UPSTREAM",
        callback=validators.filled,
        help="Manifest of the inputs [default: the one in the directory that knows them].",
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="VERSION",
        callback=validators.recordable,
        help="Version of the stage [default: that of its manifest].",
    ),
]


def stage_of(settings: Settings, manifest: str, upstream: str | None, version: str | None) -> "ByHand":
    """Return the stage that the arguments name."""
    from manifestlog.stages.by_hand import ByHand  # noqa: PLC0415 -- slow to import

    path = target.locate(settings, manifest)
    if upstream is None:
        target.require_directory(settings)  # the inputs are looked for there
    return ByHand(
        manifest=path,
        upstream=None if upstream is None else target.locate(settings, upstream),
        directory=settings.directory,
        version=version,
        options=settings.options(),
    )


def note_if_missing(settings: Settings, path: str) -> None:
    """Say that a stage has no manifest yet, which is how a misspelt name looks, too."""
    if os.path.exists(path):
        return  # the usual case, and cheaper than opening it
    from manifestlog.cli import reading  # noqa: PLC0415 -- slow to import

    try:
        reading.open_to_read(settings, path).close()
    except ManifestNotFoundError as error:
        output.notice(settings, missing.not_yet(error.path))


def unreadable(error: OSError) -> CommandError:
    """Return the error of a file that was given and cannot be read."""
    return CommandError(f"{output.reason(error)}; nothing was recorded")


def ref_as_json(ref: "ItemRef") -> dict[str, object]:
    return {
        "checksum": ref.inputs[0] if len(ref.inputs) == 1 else None,
        "source_id": ref.source_id,
        "dataset": ref.dataset,
        "file_path": ref.file_path,
        "inputs": list(ref.inputs),
    }


def outcome_as_json(outcome: "ItemOutcome") -> dict[str, object]:
    return {
        "result": outcome.result.value,
        "inputs": list(outcome.item.inputs),
        "outputs": [one._asdict() for one in outcome.outputs],
        "error": outcome.error,
    }
