"""The driver of the file engine: finds, opens, creates, checks and repairs manifests.

Invariants:

- A manifest is created only where no file of it exists. A damaged or incomplete manifest is an error.
- If several processes create one manifest at once, one of them creates it and the others open it.
- Opening without an index reads the whole canonical file and then writes an index. It does not write one if the session
  is read-only or lacks permission, or another process holds the compaction lock. If several processes open it at once,
  one of them reads, and the others wait for its index.
- Where locks or renames may be unreliable, a warning is logged once per process and directory; nothing is refused.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from manifestlog import names
from manifestlog.engines.filelog import kept_index, loading, mounts, replicas
from manifestlog.engines.filelog.canonical import files as base
from manifestlog.engines.filelog.canonical.turn import Turn
from manifestlog.engines.filelog.engine import CAPABILITIES, FileEngine, location_of
from manifestlog.engines.filelog.history import keep, leftovers
from manifestlog.engines.filelog.session import reraise_with_advice
from manifestlog.engines.reports import Footprint
from manifestlog.errors import ManifestNotFoundError
from manifestlog.files import disk, system

if TYPE_CHECKING:
    from collections.abc import Generator

    from manifestlog.engines.protocol import Image, Location, Replica
    from manifestlog.engines.reports import CheckReport, ProbeResult, RepairReport
    from manifestlog.model.rows import Row
    from manifestlog.names import ManifestPaths
    from manifestlog.options import ManifestOptions

log = logging.getLogger(__name__)

capabilities = CAPABILITIES


def locate(text: str) -> Location:
    """Return the location of this path, following links; raises `ValueError` for an invalid manifest name."""
    return location_of(names.resolve(text))


def open(  # noqa: A001 -- called as `driver.open`, as the protocol has it
    location: Location, metadata: Row | None, options: ManifestOptions, *, read_only: bool
) -> FileEngine:
    """Open the manifest, or create it with `metadata`. On return a new manifest survives a power cut.

    Raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`, `ReplicaError`.
    """
    paths = paths_of(location)
    if not read_only:
        replicas.refuse_writer(paths)
    return _opened(paths, metadata, options, read_only=read_only)


def _opened(paths: ManifestPaths, metadata: Row | None, options: ManifestOptions, *, read_only: bool) -> FileEngine:
    with Turn(paths, read_only=read_only) as turn:  # until the index is there that others may be waiting for
        try:
            engine = _open_or_create(paths, metadata, options, turn, read_only=read_only)
        except OSError as error:
            if not read_only:
                reraise_with_advice(paths.canonical, error)
            raise
        try:
            look_around(paths)
            kept_index.keep_index(engine.session)
        except BaseException:
            engine.session.close()
            raise
    return engine


def load(location: Location, image: Image, options: ManifestOptions) -> FileEngine:
    """Make a manifest of an image, or nothing; and open it. Raises `ManifestExistsError`."""
    loading.load(paths_of(location), image, options)
    return open_replica(location, options)


def replica(location: Location) -> Replica | None:
    """Return the note of a replica; None if there is none."""
    return replicas.read(paths_of(location))


def set_replica(location: Location, replica: Replica) -> None:
    """Replace the note of a replica, or make it. On return it survives a power cut."""
    replicas.write(paths_of(location), replica)


def open_replica(location: Location, options: ManifestOptions) -> FileEngine:
    """Open a manifest, also if it is a replica. Raises as `open`."""
    return _opened(paths_of(location), None, options, read_only=False)


def prepare(location: Location) -> None:
    """Do nothing: every format that was ever written can be read."""
    del location


def paths_of(location: Location) -> ManifestPaths:
    """Return the file paths of the manifest at this location."""
    return names.ManifestPaths(location.directory, location.name)


def check(location: Location) -> CheckReport:
    """Read every byte of the manifest's files and report damage; change and lock nothing."""
    found: CheckReport = _recovery("check").check(paths_of(location))
    return found


def repair(location: Location, *, dry_run: bool, lock_timeout_s: float) -> RepairReport:
    """Rebuild a damaged manifest from everything that is intact, and move the originals to quarantine."""
    found: RepairReport = _recovery("repair").repair(paths_of(location), dry_run=dry_run, lock_timeout_s=lock_timeout_s)
    return found


def footprint(location: Location) -> Footprint:
    """Return the size of its files in bytes; unreadable files count as zero."""
    paths = paths_of(location)
    segments: list[int] = []
    with suppress(OSError):
        segments = paths.segment_numbers(disk.list_names(paths.directory))
    log_bytes = sum(_size(paths.segment(number)) for number in segments)
    return Footprint(_size(paths.canonical), log_bytes, len(segments), _history_bytes(paths))


def _history_bytes(paths: ManifestPaths) -> int:
    with suppress(OSError):
        return keep.bytes_held(paths)
    return 0


def _size(path: str) -> int:
    with suppress(OSError):
        stamp = disk.path_stamp(path)
        return 0 if stamp is None else stamp.size
    return 0


def diagnose(directory: str) -> Generator[ProbeResult]:
    """Test whether this directory provides what manifests rely on."""
    found: Generator[ProbeResult] = _recovery("doctor").diagnose(directory)
    return found


def manifests(directory: str) -> list[str]:
    """Return the paths of the manifests in this directory, sorted by name."""
    found = {name for file in disk.list_names(directory) if (name := names.parse_manifest_name(file))}
    return [names.ManifestPaths(directory, name).canonical for name in sorted(found)]


def _open_or_create(
    paths: ManifestPaths, metadata: Row | None, options: ManifestOptions, turn: Turn, *, read_only: bool
) -> FileEngine:
    try:
        return FileEngine(paths, options, read_only=read_only, turn=turn)
    except ManifestNotFoundError:
        if metadata is None or read_only:
            raise
    _create(paths, metadata, options)
    return FileEngine(paths, options, read_only=read_only)


def look_around(paths: ManifestPaths) -> None:
    """Warn about a network file system and about hard links to the canonical file; never raises `OSError`."""
    with suppress(OSError):
        _warn_of_network(paths.directory, system.device(paths.directory))
        if system.links(paths.canonical) > 1:
            _warn_of_links(paths)


@lru_cache(maxsize=1024)
def _warn_of_network(directory: str, device: int) -> None:
    if not mounts.may_be_remote(device):
        return
    found = mounts.file_system(system.mount_table(), device, directory)
    if mounts.kind(found) is mounts.Kind.NETWORK:
        log.warning(
            "%s: network file system (%s): locks may not hold between machines, and a sync may not reach a disk;"
            " keep the manifest on a local disk of the machine that writes it and copy it from there"
            " (`manifestlog doctor` tests the directory)",
            directory,
            found,
        )


def _warn_of_links(paths: ManifestPaths) -> None:
    # Creating a manifest links it to its name, so for a moment the file has two names; a crash may leave both.
    inode = disk.path_stamp(paths.canonical)
    for left in paths.temporaries(disk.list_names(paths.directory)):
        found = disk.path_stamp(left)
        if found is not None and inode is not None and found.inode == inode.inode:
            return
    links = system.links(paths.canonical)
    if links > 1:
        log.warning(
            "%s: the file has %d names (hard links): the next compaction replaces only this one, and the others keep the"
            " present content; open it only by this name, and back it up with a copy",
            paths.canonical,
            links,
        )


def _create(paths: ManifestPaths, metadata: Row, options: ManifestOptions) -> None:
    disk.make_directory(paths.directory)
    leftovers.set_aside(paths, options.lock_timeout_s)
    # Another process has created it meanwhile, and may even have compacted it, which removes unfinished files.
    with suppress(FileExistsError, FileNotFoundError):
        base.create_canonical(paths, metadata | {"total_records": 0})
        log.info("%s: created", paths.canonical)


def _recovery(name: str) -> Any:
    """Return a module that most processes never need: together they take longer to load than the engine."""
    return import_module(f"manifestlog.engines.filelog.recovery.{name}")
