"""Reads a configuration with stages: the sources of `extract`, and the stages after them.

Invariants:

- Either the whole configuration is valid, or one error names the place of the first problem and counts the others.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.cli import startup
from manifestlog.errors import ManifestError, ManifestNotFoundError
from manifestlog.managers import DownloadManifestManager
from manifestlog.names import location_in

if TYPE_CHECKING:
    from collections.abc import Collection

    from manifestlog.extract.config.configuration import ExtractConfig
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.report import ItemRef


class Configured(NamedTuple):
    """What a configuration says."""

    path: str
    sources: "ExtractConfig"
    stages: "list[Stage]"
    """In the order in which they run."""

    @property
    def directory(self) -> Path | str:
        """The directory of the manifests, or the URL of their database."""
        return self.sources.manifests_dir


def load(path: str, *, day: str | None = None) -> Configured:
    """Return what the file says. Raises `ConfigError`."""
    with startup.loading():
        from manifestlog.extract.config.configuration import config_error, load_config  # noqa: PLC0415 -- slow to import
        from manifestlog.stages.config import Directories, read_stages  # noqa: PLC0415 -- slow to import

    config = load_config(path, os.environ, day=day)
    directories = Directories(Path(os.path.abspath(path)).parent, config.data_dir)
    stages, problems = read_stages(config.stages, directories, config.manifest or None)
    if problems:
        raise config_error(path, problems)
    return Configured(path, config, stages)


def pending(
    found: Configured, stage: "Stage", *, only: str | None = None, retry_failed: bool = False
) -> "Collection[ItemRef]":
    """Return what a stage has still to do: nothing as long as the step before it has made nothing."""
    from manifestlog.stages.runner import pending_items  # noqa: PLC0415 -- slow to import

    try:
        return pending_items(stage, found.directory, only=only, retry_failed=retry_failed)
    except ManifestNotFoundError:
        if stage.upstream in written(found):
            return ()
        raise


def written(found: Configured) -> set[str]:
    """Return the names of the manifests that the steps of a configuration write."""
    made = {stage.manifest for stage in found.stages}
    return made | {found.sources.manifest} if found.sources.sources else made


class Left(NamedTuple):
    """How many items a stage has still to do."""

    pending: int
    failed: int
    """How many of these have failed."""
    items: "Collection[ItemRef]"


def left(found: Configured, stage: "Stage") -> Left | None:
    """Return how many items a stage has still to do; None if a manifest cannot be read."""
    try:
        items = pending(found, stage, retry_failed=True)
        failed = _failing(found, stage) if items else set()
    except (ManifestError, OSError):
        return None
    return Left(len(items), sum(item.inputs in failed for item in items), items)


def _failing(found: Configured, stage: "Stage") -> set[tuple[str, ...]]:
    """Return the inputs that the stage has failed at and not processed since."""
    try:
        with DownloadManifestManager(location_in(found.directory, stage.manifest), read_only=True) as manifest:
            return {one.inputs for one in manifest.failures()}
    except ManifestNotFoundError:
        return set()
