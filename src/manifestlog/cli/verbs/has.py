"""`has`: ask whether a content is in the manifest.

Pipelines call it once per file. `fast_path` answers plain calls before this module is loaded.
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
    """Ask whether a content is registered.

    Exits with 0 for yes and 1 for no. Prints nothing unless --json is given.
    """
    path = target.locate(settings, manifest)
    checksum = target.checksum(sha256)
    return fast_path.has(settings, path, checksum)
