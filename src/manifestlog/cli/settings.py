"""Evaluates the global options.

Invariants:

- A global option means the same before and after the verb. If given in both places, the one after the verb wins.
- The directory is `--dir`, else MANIFESTLOG_DIR, else ./manifests.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifestlog import locating, names
from manifestlog.engines.protocol import Capability
from manifestlog.engines.registry import driver_for, is_known
from manifestlog.options import FOREVER, ManifestOptions

DIRECTORY_VARIABLE = "MANIFESTLOG_DIR"
DEFAULT_DIRECTORY = "manifests"
LOCK_TIMEOUT_S = 30.0
_EXPECTED = (
    "expected a name, the path of a .manifest.json file, or a URL such as postgresql://host/etl/systems_download"
)


class WrongDirectoryError(ValueError):
    """No manifest can be in the directory, whatever its name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options of one run."""

    directory: str
    """A path, or a URL such as that of a database."""
    directory_named: bool
    """Whether the user named the directory. A missing default directory is not an error."""
    as_json: bool
    quiet: bool
    verbose: bool
    lock_timeout_s: float
    progress: bool

    def options(self, history: str | None = None) -> ManifestOptions:
        """Return the options to open manifests with; `history` is how much of it a compaction keeps [default: all]."""
        return ManifestOptions(lock_timeout_s=self.lock_timeout_s, history=history or FOREVER)

    def path_of(self, manifest: str) -> str:
        """Return the path or URL that a MANIFEST argument names, which need not exist. Raises `ValueError`."""
        location = manifest
        if names.is_path(manifest) and not manifest.endswith(names.SUFFIX):
            names.check_name(manifest)
            self.check_directory()
            location = names.location_in(self.directory, manifest)
        if not names.is_path(location):
            return _checked(location)
        path = str(Path(location))
        names.resolve(path)
        return path

    def check_directory(self) -> None:
        """Raise `WrongDirectoryError` if no manifest can be in the directory, which need not exist."""
        if not is_known(self.directory):
            raise WrongDirectoryError(locating.EXPECTED)
        if names.is_path(self.directory) and not os.path.isdir(self.directory) and os.path.exists(self.directory):
            raise WrongDirectoryError(f"{self.directory!r} is not a directory")


def _checked(url: str) -> str:
    """Return the URL of a manifest. Raises `ValueError` if nothing would be kept there, and for one with a password."""
    if not is_known(url):
        raise ValueError(_EXPECTED)  # without the URL, which may hold a password
    driver = driver_for(url)
    if Capability.DURABLE not in driver.capabilities:
        raise ValueError(f"{url!r} would end with this command; name a manifest in a directory or a database")
    driver.locate(url)
    return url


def settle(before: Mapping[str, Any], after: Mapping[str, Any]) -> Settings:
    """Combine the options before and after the verb."""
    given = {name: before.get(name) if value is None or value is False else value for name, value in after.items()}
    named = given["directory"] or os.environ.get(DIRECTORY_VARIABLE)
    timeout = given["lock_timeout"]
    return Settings(
        directory=str(named or DEFAULT_DIRECTORY),
        directory_named=bool(named),
        as_json=bool(given["as_json"]),
        quiet=bool(given["quiet"]),
        verbose=bool(given["verbose"]),
        lock_timeout_s=LOCK_TIMEOUT_S if timeout is None else timeout,
        progress=not given["no_progress"],
    )
