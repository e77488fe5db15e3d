"""Opens the manifests of a stage, and everything else that a worker needs.

Invariants:

- A manifest that this process already has open is shared, in whatever way it was opened.
- The upstream manifest is opened first, so that a missing one creates nothing.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from manifestlog.errors import ManifestNotFoundError, ReadOnlyError
from manifestlog.factory import fresh_metadata
from manifestlog.manager import open_already
from manifestlog.managers import ProcessedManifestManager, reader_of
from manifestlog.names import MEMORY, SUFFIX, check_name, is_in_memory, location_in, name_of
from manifestlog.stages import command_work, function, kept_look
from manifestlog.stages.definition import CommandWork, FunctionWork, Rerun
from manifestlog.stages.errors import StageError
from manifestlog.stages.items import Naming
from manifestlog.stages.look import Between
from manifestlog.stages.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.manager import AbstractManifest
    from manifestlog.options import ManifestOptions
    from manifestlog.stages.definition import Stage


def path_of(manifest: str, directory: str | os.PathLike[str]) -> str:
    """Return the path or URL of a manifest that a stage names: a name in the directory of the run, or a path as it is."""
    if manifest.endswith(SUFFIX) or ":" in manifest:
        return manifest
    return location_in(directory, check_name(manifest))


@contextmanager
def upstream_of(stage: Stage, directory: str | os.PathLike[str]) -> Iterator[AbstractManifest]:
    """Open the upstream manifest for reading."""
    path = path_of(stage.upstream, directory)
    with reader_of(path) as manifest:
        yield manifest


@contextmanager
def outputs_of(
    stage: Stage, upstream: AbstractManifest, directory: str | os.PathLike[str], options: ManifestOptions | None
) -> Iterator[ProcessedManifestManager]:
    """Open the stage's manifest for writing; create it with the root of the upstream manifest if it is missing."""
    path = path_of(stage.manifest, directory)
    found = open_already(path)
    if found is None:
        if is_in_memory(path):
            reason = f"{path} would end with this call, and what it records with it; open it first, and keep it open"
            raise StageError(stage.name, "manifest", reason)
        root = upstream.root
        with suppress(ManifestNotFoundError), ProcessedManifestManager(path, read_only=True) as old:
            root = old.metadata.root_dir
        metadata = fresh_metadata(path, stage.process, stage.version, str(root))
        found = ProcessedManifestManager(path, metadata, options=options)
    with found:
        if not isinstance(found, ProcessedManifestManager):
            raise StageError(stage.name, "manifest", f"{path} is open as a manifest of downloads; close it first")
        if found.is_read_only:
            raise ReadOnlyError(path)
        yield found


@contextmanager
def outputs_to_read(stage: Stage, directory: str | os.PathLike[str]) -> Iterator[AbstractManifest]:
    """Open the stage's manifest for reading; one in memory, if it is missing."""
    path = path_of(stage.manifest, directory)
    try:
        found = reader_of(path)
    except ManifestNotFoundError:
        found = ProcessedManifestManager(f"{MEMORY}{name_of(path)}", fresh_metadata(path, stage.process, stage.version))
    with found:
        yield found


def between_of(stage: Stage, upstream: AbstractManifest, outputs: AbstractManifest) -> Between:
    """Return what a look of this stage is about. Raises as `rule_of`."""
    kept = kept_look.path_of(stage, outputs)
    return Between(upstream, outputs, stage.where, rule_of(stage), kept, stage.group_by)


def naming_of(stage: Stage, upstream: AbstractManifest) -> Naming:
    return Naming(str(upstream.root), stage.name, is_grouped=stage.group_by is not None)


def rule_of(stage: Stage) -> Rule:
    """Return what counts as done for this stage. Raises `StageError` if its work cannot be loaded."""
    code = None
    if stage.rerun is Rerun.CODE and isinstance(stage.work, CommandWork):
        code = command_work.digest(stage.work)
    elif stage.rerun is Rerun.CODE and isinstance(stage.work, FunctionWork):
        code = function.digest(function.load(stage.work, stage.name))
    return Rule(stage.name, stage.version, stage.rerun, code)


def check(stage: Stage) -> None:
    """Raise `StageError` if a valid stage cannot run: it has no work, its function cannot be loaded, a file is in its way."""
    if isinstance(stage.work, FunctionWork):
        function.load(stage.work, stage.name)
    if stage.work is None:
        raise StageError(stage.name, "work", "a stage that runs needs a command or a function")
    if os.path.exists(stage.output_dir) and not os.path.isdir(stage.output_dir):
        raise StageError(stage.name, "output_dir", f"{stage.output_dir} is no directory; move it away, or name another")


def described(stage: Stage) -> str:
    """Return what the stage runs, as text for the history."""
    work = stage.work
    if isinstance(work, CommandWork):
        return " ".join(work.argv)
    if isinstance(work, FunctionWork):
        if isinstance(work.function, str):
            return work.function
        inner = getattr(work.function, "func", work.function)
        return f"{getattr(inner, '__module__', '')}:{getattr(inner, '__qualname__', type(inner).__name__)}"
    return ""
