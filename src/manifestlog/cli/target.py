"""What the arguments name: manifests and checksums, and the manifests of a directory.

Invariants:

- An argument that cannot name anything is a usage error that shows the pattern.

It opens nothing, and loads neither models nor the engine: `has` answers before those would be there.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from manifestlog import names
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import ManifestNotFoundError
from manifestlog.model.rows import normal_checksum

ManifestArgument = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST",
        help="Name of a manifest in the directory (systems_download), or path of a .manifest.json file.",
        show_default=False,
    ),
]
ManifestsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MANIFEST", help="Names or paths of manifests; without any, all of the directory.", show_default=False
    ),
]


def locate(settings: Settings, manifest: str) -> Path:
    """The path that a MANIFEST argument names; whether it exists is not asked."""
    try:
        return settings.path_of(manifest)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="MANIFEST") from None


def locate_all(settings: Settings, manifests: Sequence[str] | None) -> list[Path]:
    """The paths that several MANIFEST arguments name; without any, those of the directory."""
    if manifests:
        return [locate(settings, manifest) for manifest in manifests]
    return in_directory(settings)


def in_directory(settings: Settings) -> list[Path]:
    """Every manifest of the directory, by name; also one of which only the log is left."""
    try:
        files = os.listdir(settings.directory)
    except FileNotFoundError:
        if settings.directory_named:
            what = f"{settings.directory}: no such directory; name another one with --dir"
            code = ManifestNotFoundError.exit_code
            raise CommandError(what, error=ManifestNotFoundError.__name__, exit_code=code) from None
        return []
    found = {name for file in files if (name := names.parse_manifest_name(file) or _name_of_segment(file))}
    paths = [settings.directory / f"{name}{names.SUFFIX}" for name in sorted(found)]
    return [path for path in paths if _is_manifests(path)]


def _is_manifests(path: Path) -> bool:
    """Whether the name leads to a manifest; one that does not is said, and keeps nobody from the others."""
    try:
        names.resolve(path)
    except ValueError as error:
        output.complain(f"{error}; left out")
        return False
    return True


def _name_of_segment(file: str) -> str | None:
    name = file.partition(".")[0]
    if not names.ManifestPaths("", name).segment_numbers([file]):
        return None
    return names.parse_manifest_name(f"{name}{names.SUFFIX}")


def name_of(path: Path) -> str:
    """The bare name of the manifest at `path`."""
    return path.name.removesuffix(names.SUFFIX)


def checksum(text: str, hint: str = "SHA256") -> str:
    """A checksum argument in lower case."""
    found = normal_checksum(text)
    if found is None:
        raise typer.BadParameter(f"{text[:80]!r} is no checksum: expected 64 hexadecimal digits", param_hint=hint)
    return found
