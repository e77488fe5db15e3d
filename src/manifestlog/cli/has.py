"""`has`: is this content in the manifest?"""

from typing import Annotated

import typer

from manifestlog.cli import output, target
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
    with target.open_to_read(settings, path) as found:
        known = found.has_checksum(checksum)
    if settings.as_json:
        output.document({"checksum": checksum, "has": known})
    return 0 if known else 1
