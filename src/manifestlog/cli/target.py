"""Resolves arguments to manifests and checksums, and lists the manifests of a directory.

Invariants:

- An argument that does not match the pattern of names is a usage error that shows the pattern.

It opens no file and imports no models, so that `has` starts fast.
"""

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from manifestlog import locating, names
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings, WrongDirectoryError
from manifestlog.cli.ui import output
from manifestlog.engines.registry import driver_for
from manifestlog.errors import ManifestNotFoundError
from manifestlog.model.rows import normal_checksum

ManifestArgument = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST",
        help="Manifest: a name in the directory (systems_download), the path of a .manifest.json file, or a URL.",
        show_default=False,
    ),
]
FromArgument = Annotated[
    str,
    typer.Argument(metavar="FROM", help="Manifest: a name, a path or a URL.", show_default=False),
]
ManifestsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MANIFEST",
        help="Names, paths or URLs of manifests [default: all of the directory].",
        show_default=False,
    ),
]


def locate(settings: Settings, manifest: str, hint: str = "MANIFEST") -> str:
    """Return the path or URL that an argument names, which need not exist."""
    try:
        return settings.path_of(manifest)
    except WrongDirectoryError as error:
        raise typer.BadParameter(str(error), param_hint="--dir") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from None


def locate_all(settings: Settings, manifests: Sequence[str] | None) -> list[str]:
    """Return the paths or URLs that MANIFEST arguments name [default: all of the directory]."""
    if manifests:
        return [locate(settings, manifest) for manifest in manifests]
    return in_directory(settings)


def in_directory(settings: Settings) -> list[str]:
    """Return every manifest of the directory, sorted by name, including one that has only a log."""
    _check_directory(settings)
    if not names.is_path(settings.directory):
        return list(driver_for(settings.directory).manifests(settings.directory))
    try:
        files = os.listdir(settings.directory)
    except FileNotFoundError:
        if settings.directory_named:
            raise no_directory(settings.directory) from None
        return []
    found = {name for file in files if (name := names.parse_manifest_name(file) or _name_of_segment(file))}
    paths = [os.path.join(settings.directory, f"{name}{names.SUFFIX}") for name in sorted(found)]
    return [path for path in paths if _is_manifests(path)]


def require_directory(settings: Settings) -> None:
    """Raise an error if the directory of the manifests is missing, or if none can be there."""
    _check_directory(settings)
    if names.is_path(settings.directory) and not os.path.exists(settings.directory):
        raise no_directory(settings.directory)


def _check_directory(settings: Settings) -> None:
    """Raise a usage error if no manifest can be in the directory, which need not exist."""
    try:
        settings.check_directory()
    except WrongDirectoryError as error:
        raise typer.BadParameter(str(error), param_hint="--dir") from None
    checked_directory(settings.directory)


def no_directory(directory: str, advice: str = "name another one with --dir") -> CommandError:
    """Return the error of a directory that is missing."""
    what = f"{directory}: no such directory; {advice}"
    code = ManifestNotFoundError.exit_code
    return CommandError(what, error=ManifestNotFoundError.__name__, exit_code=code)


def none_found(settings: Settings) -> str:
    """Return the message for a directory or a database without manifests."""
    where = os.path.abspath(settings.directory) if names.is_path(settings.directory) else settings.directory
    return f"{where}: no manifests found; name another place with --dir, or create a manifest with `manifestlog init`"


def checked_directory(url: str, hint: str = "--dir") -> str:
    """Return the URL of a database if manifests can be there; one with a password is a usage error."""
    if not names.is_path(url) and (reason := locating.problem(url)):
        raise typer.BadParameter(reason, param_hint=hint)
    return url


def _is_manifests(path: str) -> bool:
    """Return whether the name resolves to a manifest. Reports one that does not, and continues with the others."""
    try:
        names.resolve(path)
    except ValueError as error:
        output.error(f"{error}; skipped")
        return False
    return True


def _name_of_segment(file: str) -> str | None:
    name = file.partition(".")[0]
    if not names.ManifestPaths("", name).segment_numbers([file]):
        return None
    return names.parse_manifest_name(f"{name}{names.SUFFIX}")


def resolved(path: str) -> str:
    """Return a path with its links resolved, and a URL as it is."""
    return names.resolve(path).canonical if names.is_path(path) else path


def checksum(text: str, hint: str = "SHA256") -> str:
    """Return a checksum argument in lower case."""
    found = normal_checksum(text)
    if found is None:
        raise typer.BadParameter(f"{text[:80]!r} is not a checksum: expected 64 hexadecimal digits", param_hint=hint)
    return found
