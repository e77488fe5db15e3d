"""Which engine keeps a manifest: found by its path or URL, loaded when it is first asked for.

Invariants:

- A path without a scheme belongs to the engine of plain files.
- A scheme that nobody knows is an error that names those that are known, never the name of a directory.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import TYPE_CHECKING, cast

from manifestlog.errors import ManifestError

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Driver

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?://|(?=[a-z0-9-]+(?:_[a-z0-9-]+)+$))")
_DRIVERS = {"": "manifestlog.engines.filelog.driver", "memory": "manifestlog.engines.memory"}


def driver_for(location: str | os.PathLike[str]) -> Driver:
    """The driver for a manifest's path or URL; raises `ManifestError` for an unknown scheme."""
    found = _SCHEME.match(os.fspath(location))
    scheme = found[1].lower() if found else ""
    if scheme not in _DRIVERS:
        known = ", ".join(f"{name}:" for name in _DRIVERS if name)
        raise ManifestError(f"{scheme}: no engine keeps manifests there; give the path of a file, or one of {known}")
    return cast("Driver", importlib.import_module(_DRIVERS[scheme]))
