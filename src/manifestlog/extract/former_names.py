"""Former public names of `manifestlog.extract`: they still work, with a `DeprecationWarning`."""

from __future__ import annotations

import warnings
from typing import Any

from manifestlog.extract.fetchers.protocol import FetchRequest, ResponseHead

_RENAMED = {"Ask": FetchRequest, "Head": ResponseHead}


def __getattr__(name: str) -> Any:
    """Return a class by its former name."""
    if name not in _RENAMED:
        raise AttributeError(f"module 'manifestlog.extract' has no attribute {name!r}")
    renamed = _RENAMED[name]
    warnings.warn(f"{name} is deprecated: use {renamed.__name__}", DeprecationWarning, stacklevel=2)
    return renamed
