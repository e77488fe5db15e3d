"""Applies a caller's metadata to an existing manifest, or compares them with those of a manifest that is already open.

Invariants:

- Only `model.adoption` decides which metadata change, for both.
- A manifest that is open read-only is never changed.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, NamedTuple

from manifestlog import root
from manifestlog.model.adoption import Stored, adopt, is_same_root
from manifestlog.model.models import metadata_row

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Engine
    from manifestlog.model.models import ManifestMetadata
    from manifestlog.options import ManifestOptions

log = logging.getLogger(__name__)


class Given(NamedTuple):
    """The arguments of an opening. None accepts the manifest as it is."""

    metadata: ManifestMetadata | None
    options: ManifestOptions | None
    read_only: bool


def adopt_metadata(engine: Engine, metadata: ManifestMetadata | None) -> str:
    """Store the changes in the caller's metadata, and return the `etl_version` for the caller's records.

    Raises `MetadataConflictError` for another `process`.
    """
    if metadata is None:
        return str(engine.metadata()["etl_version"])
    changes, refused_root = adopt(_stored(engine), metadata_row(metadata))
    display = engine.location.display
    if refused_root is not None:
        log.warning(
            "%s: root_dir stays %s, not %s, because its records have paths relative to it; if the files have moved,"
            " run `manifestlog relocate`; if other hosts have them there, mount them at that path",
            display,
            engine.metadata()["root_dir"],
            refused_root,
        )
    if changes and not engine.read_only:
        engine.set_metadata(changes)
        log.info("%s: %s", display, ", ".join(f"{name} is {value} now" for name, value in changes.items()))
    return metadata.etl_version


def difference(engine: Engine, version: str, given: Given) -> str | None:
    """Return how an open manifest differs from the arguments of another opening, or None if it does not."""
    if given.options is not None and given.options != engine.options:
        return f"options ({engine.options})"
    if given.read_only != engine.read_only:
        return f"read_only ({engine.read_only})"
    if given.metadata is not None and (field := _other_metadata(engine, version, given.metadata)):
        return f"metadata ({field})"
    return None


def _other_metadata(engine: Engine, version: str, given: ManifestMetadata) -> str | None:
    stored = _stored(engine)
    if given.process.value != stored.metadata["process"]:
        return "process"
    if not is_same_root(stored, str(given.root_dir)) and not stored.has_relative_path():
        return "root_dir"
    return "etl_version" if given.etl_version != version else None


def _stored(engine: Engine) -> Stored:
    has_relative_path = functools.partial(root.has_relative_path, engine)
    return Stored(engine.location.display, engine.location.directory, engine.metadata(), has_relative_path)
