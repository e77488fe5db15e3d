"""Stores a stage's look for the next run, which then reads only the events since.

`systems_processing.manifest.pending.json` is one JSON object: what the look is about, its cursors and its sets. It is
beside the stage's manifest. If that is in a database, each host has its own look, in the stage's working directory.

Invariants:

- The file is derived and disposable: if it is missing or does not fit, the next run makes a new look.
- A look fits only if it has the same manifests, condition, version and code, and both cursors are still valid.
- A torn or edited file is not used: a CRC covers all of it.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from zlib import crc32

from manifestlog import names
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk
from manifestlog.files.publish import Target, publish
from manifestlog.model import codec
from manifestlog.stages.first_look import first_look
from manifestlog.stages.look import Look, UncertainError
from manifestlog.stages.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Collection

    from manifestlog.manager import AbstractManifest
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.look import Between

log = logging.getLogger(__name__)

FORMAT = 2
_SETS = ("pending", "doubtful", "away", "invalid", "unjudged", "failed")
_KEPT_MAX = 200_000
"""The most checksums that are kept: with more of them pending, a first look costs little beside the work itself."""
_CRC_DIGITS = 8


def look_at(between: Between) -> Look:
    """Return what is pending now: from the kept look if it fits, or else anew. Raises as `first_look`."""
    found = renewed(between)
    return first_look(between) if found is None else found


def renewed(between: Between) -> Look | None:
    """Return what is pending now, from the kept look; None if it cannot be told from that."""
    found = _read(between)
    if found is None:
        return None
    try:
        found.renew(between)
    except UncertainError:
        manifest = between.outputs.location.display
        log.debug("%s: what is pending does not follow from the events since; looking anew", manifest)
        return None
    except DamagedManifestError:
        return None  # a compaction may also have cut what was being read; if not, the first look raises it
    return found


def keep_renewed(between: Between, look: Look, *, without_run: str | None = None) -> bool:
    """Take in what has happened since, but for what a run has done, and keep the look for the next run.

    Return whether that was possible. If not, the look is useless, and the next run looks anew.
    """
    try:
        look.renew(between, without_run=without_run)
    except UncertainError:
        return False
    keep(between, look)
    return True


def keep(between: Between, look: Look) -> None:
    """Keep a look for the next run. A disk that does not allow it costs the next run a first look."""
    path = between.kept
    if path is None:
        return
    sets: list[Collection[str]] = [getattr(look, name) for name in _SETS]
    with suppress(OSError):
        if sum(map(len, sets)) > _KEPT_MAX:
            disk.remove(path)
            return
        members = {"format": FORMAT, "about": _about(between), "group_by": between.group_by}
        members |= {"upstream_cursor": look.upstream_cursor, "outputs_cursor": look.outputs_cursor}
        members |= {name: sorted(some) for name, some in zip(_SETS, sets, strict=True)}
        data = codec.dumps(members)
        files = names.files_of(between.outputs.location.display)
        parts = [b"%08x" % crc32(data), data, b"\n"]
        if _is_there(path, b"".join(parts)):
            return
        disk.make_passing_directories(os.path.dirname(path))
        publish(Target(files.temporary(path), path), parts, mode_from=files.canonical if files.directory else None)


def _is_there(path: str, data: bytes) -> bool:
    """Return whether a file has these bytes: a run with nothing to do then waits for no disk."""
    try:
        return _bytes_of(path) == data
    except FileNotFoundError:
        return False


def _read(between: Between) -> Look | None:
    members = None if between.kept is None else members_of(between.kept)
    try:
        if members is None or members["format"] != FORMAT or members["about"] != _about(between):
            return None
        sets = {name: set(members[name]) for name in _SETS}
        return Look(members["upstream_cursor"], members["outputs_cursor"], **sets)
    except (KeyError, TypeError):
        return None


def members_of(path: str) -> dict[str, Any] | None:
    """Return what this file keeps, as it was written; None if it is missing, torn or edited."""
    try:
        data = _bytes_of(path)
        if int(data[:_CRC_DIGITS] or b"0", 16) != crc32(data[_CRC_DIGITS:-1]):
            return None
        members: dict[str, Any] = codec.loads(data[_CRC_DIGITS:-1])
    except (OSError, ValueError):
        return None
    return members if isinstance(members, dict) else None


def _bytes_of(path: str) -> bytes:
    fd = disk.open_read(path)
    try:
        return disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)


def _about(between: Between) -> dict[str, Any]:
    rule = between.rule
    return {
        "stage": rule.stage,
        "version": rule.version,
        "rerun": rule.rerun.value,
        "code": rule.code,
        "where": codec.loads(codec.dumps(between.where.members())),
        "upstream": between.upstream.location.name,
        "created": [str(one.metadata.ts_created) for one in (between.upstream, between.outputs)],
    }


def path_of(stage: Stage, outputs: AbstractManifest) -> str | None:
    """Return the path of a stage's kept look; None if its manifest lives in this process only."""
    if not outputs.is_shared:
        return None
    files = names.files_of(outputs.location.display)
    directory = files.directory or Workspace(stage, files.name).path
    return names.ManifestPaths(directory, files.name).pending
