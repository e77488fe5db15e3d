"""Chooses the place of a run's data files once, by its path or URL."""

from __future__ import annotations

from pathlib import Path

from manifestlog.extract.places.local import LocalPlace
from manifestlog.extract.places.protocol import Place
from manifestlog.model.url_paths import UrlPath


def place_of(data_dir: Path, *, connections: int = 1, is_shared: bool = False) -> Place:
    """Return the place of data files; `connections` threads will share it. `is_shared`: whether other hosts write there."""
    if isinstance(data_dir, UrlPath):
        from manifestlog.extract.places.objects import ObjectPlace  # noqa: PLC0415 -- most places are directories
        from manifestlog.objects.opening import open_store  # noqa: PLC0415

        return ObjectPlace(data_dir, open_store(str(data_dir), connections=connections + 2))
    return LocalPlace(data_dir, is_shared=is_shared)
