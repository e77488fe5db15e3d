"""`forget`: remove records from the manifest."""

from typing import Annotated

import typer

from manifestlog.cli import target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.managers import DownloadManifestManager


def forget(
    settings: Settings,
    manifest: target.ManifestArgument,
    sha256: Annotated[
        list[str],
        typer.Argument(metavar="SHA256", help="Checksums, 64 hexadecimal digits each.", show_default=False),
    ],
) -> int:
    """Remove records from the manifest.

    Removes each record with all its observations, and keeps the data files. Exits with 1 if a record was not there.
    """
    path = target.locate(settings, manifest)
    checksums = dict.fromkeys(target.checksum(text) for text in sha256)
    with DownloadManifestManager(path, options=settings.options()) as found:
        was_there = {checksum: found.forget(checksum) for checksum in checksums}
    if settings.as_json:
        output.document(
            {
                "forgotten": [checksum for checksum, there in was_there.items() if there],
                "not_there": [checksum for checksum, there in was_there.items() if not there],
            }
        )
    elif not settings.quiet:
        for checksum, there in was_there.items():
            output.line(f"{checksum}\t{'forgotten' if there else 'was not there'}")
    return 0 if all(was_there.values()) else 1
