"""`has`: test whether a content is in the manifest, or was processed.

Pipelines call it once per file. `fast_path` answers plain calls before this module is loaded.
"""

from typing import Annotated

import typer

from manifestlog.cli import fast_path, target, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output


def has(
    settings: Settings,
    manifest: target.ManifestArgument,
    sha256: Annotated[
        str,
        typer.Argument(metavar="SHA256", help="Checksum of the content, 64 hexadecimal digits.", show_default=False),
    ],
    *,
    as_input: Annotated[
        bool, typer.Option("--as-input", help="Ask instead whether an output here was made from the content.")
    ] = False,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="NAME", callback=validators.recordable, help="Only by this stage; requires --as-input."
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            callback=validators.recordable,
            help="Only by this version; requires --as-input.",
        ),
    ] = None,
) -> int:
    """Ask whether a content is registered.

    Exits with 0 for yes and 1 for no. Prints nothing unless --json is given.
    """
    path = target.locate(settings, manifest)
    checksum = target.checksum(sha256)
    if as_input:
        return _was_input(settings, path, checksum, stage, version)
    if stage is not None or version is not None:
        raise typer.BadParameter("requires --as-input", param_hint="--stage / --version")
    return fast_path.has(settings, path, checksum)


def _was_input(settings: Settings, path: str, checksum: str, stage: str | None, version: str | None) -> int:
    from manifestlog.cli import reading  # noqa: PLC0415 -- slow to import, and a plain `has` needs none of it

    with reading.open_to_read(settings, path) as found:
        derivation = found.derived(checksum, stage=stage, version=version)
    if settings.as_json:
        shown = None if derivation is None else derivation._asdict()
        output.document({"checksum": checksum, "has": derivation is not None, "derivation": shown})
    return 1 if derivation is None else 0
