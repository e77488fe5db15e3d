"""Finds manifests: in a local directory or in the database at a URL, and tests whether such a place can hold any.

It opens no manifest.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manifestlog import names
from manifestlog.engines.protocol import Capability
from manifestlog.engines.registry import driver_for, is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.names import PathOrUrl

EXPECTED = "expected the path of a directory, or the URL of a database such as postgresql://host/etl"
_NO_SECRETS = (
    "expected the URL of a database without a password, which messages and process lists would show: put it into"
    " ~/.pgpass, a service file or PGPASSWORD"
)
_ANY = "any_manifest"


def manifests_in(directory: PathOrUrl) -> Sequence[str]:
    """Return the paths or URLs of the manifests there, sorted by name. Raises `FileNotFoundError`, `ServerError`."""
    place = os.fspath(directory)
    return driver_for(place).manifests(place)


def is_same(one: str, other: str) -> bool:
    """Return whether two paths or URLs are of one manifest."""
    return bool(driver_for(one).locate(one).key == driver_for(other).locate(other).key)


def problem(url: str) -> str | None:
    """Return why no manifests can be at this URL; None if they can. It shows nothing of the URL, and connects to nothing.

    Raises `ManifestError` if what reads them is not installed.
    """
    if not is_known(url) or Capability.DURABLE not in driver_for(url).capabilities:
        return EXPECTED
    try:
        driver_for(url).locate(names.joined(url, _ANY))
    except ValueError:
        return _NO_SECRETS
    return None
