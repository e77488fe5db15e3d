"""`has`: is this content in the manifest?

Pipelines call it once a file; as they usually call it, it is answered before any of this is loaded (`quick`).
"""

from typing import Annotated

import typer

from manifestlog.cli import fast_path, target
from manifestlog.cli.settings import Settings


def has(
    settings: Settings,
    manifest: target.ManifestArgument,
    sha256: Annotated[
        str,
        typer.Argument(metavar="SHA256", help="Checksum of the content, 64 hexadecimal digits.", show_default=False),
    ],
) -> int:
    """Ask whether a content was ever registered.

    Exit code 0 for yes, 1 for no; nothing is printed without --json.
    """
    path = target.locate(settings, manifest)
    checksum = target.checksum(sha256)
    return fast_path.has(settings, path, checksum)
