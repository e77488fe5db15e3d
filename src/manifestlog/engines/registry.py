"""The registry of engines: finds a manifest's driver by its path or URL and imports it on first use.

Invariants:

- A path without a scheme belongs to the file engine.
- An unknown scheme is an error that lists the known ones; it is never taken for a directory name.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import TYPE_CHECKING, cast

from manifestlog.errors import ManifestError
from manifestlog.names import is_in_memory

if TYPE_CHECKING:
    from types import ModuleType

    from manifestlog.engines.protocol import Driver, Engine
    from manifestlog.names import PathOrUrl
    from manifestlog.options import ManifestOptions

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?://|(?=[a-z0-9-]+(?:_[a-z0-9-]+)+$))")
_POSTGRES = "manifestlog.engines.postgres.driver"
_DRIVERS = {
    "": "manifestlog.engines.filelog.driver",
    "memory": "manifestlog.engines.memory",
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
}
_EXTRAS = {_POSTGRES: "postgres"}
"""What to install for an engine."""
_CUT = re.compile(r"(?:postgres|postgresql):/(?!/)")
"""What a `Path` makes of a URL."""


def is_known(location: PathOrUrl) -> bool:
    """Return whether an engine keeps manifests at locations with this scheme, installed or not."""
    text = os.fspath(location)
    return not _CUT.match(text) and _scheme_of(text) in _DRIVERS


def driver_for(location: PathOrUrl) -> Driver:
    """Return the driver for a manifest's path or URL; raises `ManifestError` for an unknown scheme."""
    text = os.fspath(location)
    if _CUT.match(text):
        raise ManifestError(f"{text}: a Path cannot hold a URL; give it as text")
    scheme = _scheme_of(text)
    if scheme not in _DRIVERS:
        known = ", ".join(f"{name}:" for name in _DRIVERS if name)
        raise ManifestError(f"{scheme}: unknown scheme; give the path of a file, or one of {known}")
    return cast("Driver", _imported(_DRIVERS[scheme], scheme))


def _scheme_of(text: str) -> str:
    if is_in_memory(text):
        return "memory"
    found = _SCHEME.match(text)
    return found[1].lower() if found else ""


def _imported(module: str, scheme: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if module not in _EXTRAS:
            raise
        why = f"needs {error.name}" if isinstance(error, ModuleNotFoundError) else f"cannot be used: {error}"
        raise ManifestError(f"{scheme}:// {why}; install it: pip install 'manifestlog[{_EXTRAS[module]}]'") from error


def open_to_read(location: PathOrUrl, options: ManifestOptions) -> Engine:
    """Open the manifest at a path or URL read-only. Raises as `Driver.locate` and `Driver.open`."""
    driver = driver_for(location)
    return driver.open(driver.locate(os.fspath(location)), None, options, read_only=True)
