"""Tests whether a directory can hold manifests, and explains each result.

Invariants:

- Manifests are never opened. The probes (`probes`) run in a temporary directory inside the tested one.
- The temporary directory is removed at the end, also after Ctrl-C and failures. The next run removes one that a killed
  run has left.

It changes nothing else, and does not know about output or exit codes.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

from manifestlog import names
from manifestlog.engines.filelog import mounts
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.mounts import Kind
from manifestlog.engines.filelog.recovery import probes
from manifestlog.engines.filelog.recovery.probes import CLOCK_SLACK_S
from manifestlog.engines.reports import ProbeResult, ProbeStatus
from manifestlog.files import disk, system
from manifestlog.names import ManifestPaths

_LEFT = re.compile(r"\.manifestlog-doctor-[0-9a-f]{12}")
_ROOM_BYTES = 64 << 20
_ROOM_INODES = 100
_NAMES_SHOWN = 3


def diagnose(directory: str, *, table: str | None = None) -> Generator[ProbeResult]:
    """Test a directory and yield one result after the other. The iterator cleans up when it ends or is closed.

    `table` replaces the kernel's mount table. Raises `OSError` if the directory cannot be listed.
    """
    directory = os.path.realpath(directory)
    file_names = disk.list_names(directory)
    began = time.time(), time.monotonic()
    yield _file_system(directory, system.mount_table() if table is None else table)
    yield from _permissions(directory, file_names)
    yield from _elsewhere(directory, file_names)
    yield from _room(directory, file_names)
    try:
        with _workplace(directory, file_names) as place:
            yield ProbeResult("writing", ProbeStatus.OK, "files can be created here")
            yield from probes.run_probes(place)
    except _CannotWriteError as error:
        yield ProbeResult(
            "writing",
            ProbeStatus.FAILED,
            f"no file can be created here ({error}); manifests can be read, and nothing else was tested",
            "run it as the user who writes, or give that user write permission here",
        )
        return
    yield _clock_went(directory, file_names, began)


class _CannotWriteError(Exception):
    """The temporary directory could not be created."""


@contextmanager
def _workplace(directory: str, file_names: list[str]) -> Iterator[str]:
    for name in file_names:
        if _LEFT.fullmatch(name):
            _remove_if_left(os.path.join(directory, name))
    place = os.path.join(directory, f".manifestlog-doctor-{secrets.token_hex(6)}")
    lock = FileLock(os.path.join(place, "alive"), 0)
    try:
        try:
            disk.make_passing_directory(place)
            lock.try_acquire()
        except OSError as error:
            raise _CannotWriteError(error.strerror or str(error)) from None
        yield place
    finally:
        lock.close()
        # A second Ctrl-C must not interrupt the cleanup.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            disk.remove_directory(place)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _remove_if_left(place: str) -> None:
    with suppress(OSError):
        lock = FileLock(os.path.join(place, "alive"), 0)
        try:
            if lock.try_acquire():
                disk.remove_directory(place)
        finally:
            lock.close()


# -- checks that only read ---------------------------------------------------------------------------------------------

_MEANING = {
    Kind.LOCAL: (ProbeStatus.OK, "a file system of this machine", ""),
    Kind.NETWORK: (
        ProbeStatus.WARNING,
        "a network file system: a lock may hold on one machine only, and a sync may not reach a disk",
        "keep manifests on a local disk of the machine that writes them, and copy them from there",
    ),
    Kind.MEMORY: (
        ProbeStatus.WARNING,
        "in memory: nothing survives a power cut or a restart, in any durability mode",
        "keep manifests on a disk",
    ),
    Kind.OVERLAY: (
        ProbeStatus.WARNING,
        "a container's own layer: files here are deleted with the container",
        "mount a volume of the host for the manifests",
    ),
}


def _file_system(directory: str, table: str) -> ProbeResult:
    found = mounts.file_system(table, system.device(directory), directory)
    status, means, advice = _MEANING[mounts.kind(found)]
    return ProbeResult("file system", status, f"{found or 'of unknown type'}; {means}", advice)


def _permissions(directory: str, file_names: list[str]) -> Iterator[ProbeResult]:
    own = [os.path.join(directory, name) for name in file_names if names.belongs_to_manifest(name)]
    seen = [(path, access) for path in [directory, *own] if (access := _access(path)) is not None]
    shared = [(path, _means(access, is_directory=path == directory)) for path, access in seen if access.mode & 0o002]
    advice = f"chmod o-w {directory} and the files in it"
    yield _listed("permissions", shared, "not writable for everyone", advice, ProbeStatus.WARNING)
    locked = [
        (path, f"(mode {access.mode:04o}) is not writable for this process")
        for path, access in seen
        if not access.writable
    ]
    others = [(path, f"belongs to user {a.owner}") for path, a in seen if a.owner not in (system.our_user(), 0)]
    if locked:
        advice = "run it as the user who writes, or share the files through a group and its umask (002)"
        yield _listed("owners", locked, "", advice, ProbeStatus.FAILED)
    else:
        advice = "fine if those users share the manifest; otherwise find out who wrote here"
        yield _listed("owners", others, "this process may write to all files", advice, ProbeStatus.WARNING)


def _means(access: system.Access, *, is_directory: bool) -> str:
    if not is_directory:
        means = "any user may change the records"
    elif access.mode & stat.S_ISVTX:
        means = "any user may add files"
    else:
        means = "any user may replace files"
    return f"(mode {access.mode:04o}): {means}"


def _elsewhere(directory: str, file_names: list[str]) -> Iterator[ProbeResult]:
    for name in _manifests(file_names):
        try:
            found = names.resolve(ManifestPaths(directory, name).canonical).directory
        except ValueError as error:
            yield ProbeResult("links", ProbeStatus.WARNING, str(error), "point it at a manifest, or rename it")
            continue
        if found != directory:
            advice = f"test that directory as well: manifestlog doctor {found}"
            yield ProbeResult("links", ProbeStatus.WARNING, f"{name} is a link; its files are in {found}", advice)


def _access(path: str) -> system.Access | None:
    try:
        return system.access(path)
    except OSError:
        return None  # removed meanwhile, or a dangling link


def _listed(test: str, found: list[tuple[str, str]], fine: str, advice: str, status: ProbeStatus) -> ProbeResult:
    if not found:
        return ProbeResult(test, ProbeStatus.OK, fine)
    shown = [f"{os.path.basename(path)} {what}" for path, what in found[:_NAMES_SHOWN]]
    more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
    return ProbeResult(test, status, "; ".join(shown) + more, advice)


def _room(directory: str, file_names: list[str]) -> Iterator[ProbeResult]:
    left = system.space(directory)
    name, need = max(
        ((name, _compaction_bytes(directory, name, file_names)) for name in _manifests(file_names)),
        key=lambda one: one[1],
        default=("", 0),
    )
    room = f"{left.free_bytes / 1e6:,.0f} MB free"
    if name:
        room += f"; a compaction of {name}, the largest here, temporarily needs {need / 1e6:,.1f} MB"
    advice = "free some space: without it the log only grows, and writes fail when the disk is full"
    status = ProbeStatus.OK
    if left.free_bytes < need:
        status = ProbeStatus.FAILED
    elif left.free_bytes < 2 * need + _ROOM_BYTES:
        status = ProbeStatus.WARNING
    yield ProbeResult("free space", status, room, "" if status is ProbeStatus.OK else advice)
    if left.free_inodes is not None:
        few = left.free_inodes < _ROOM_INODES
        status = ProbeStatus.WARNING if few else ProbeStatus.OK
        yield ProbeResult(
            "free inodes", status, f"{left.free_inodes:,} more files can be created", advice if few else ""
        )


def _manifests(file_names: list[str]) -> list[str]:
    return sorted(found for name in file_names if (found := names.parse_manifest_name(name)))


def _compaction_bytes(directory: str, name: str, file_names: list[str]) -> int:
    """Return the space in bytes that the next canonical and index need beside the present files."""
    paths = ManifestPaths(directory, name)
    files = [paths.canonical, paths.index, *map(paths.segment, paths.segment_numbers(file_names))]
    return sum(stamp.size for path in files if (stamp := disk.path_stamp(path)) is not None)


def _clock_went(directory: str, file_names: list[str], began: tuple[float, float]) -> ProbeResult:
    jumped = (time.time() - began[0]) - (time.monotonic() - began[1])
    advice = "synchronise the clock by NTP; the order in a manifest is not affected, but times in records are"
    if abs(jumped) > CLOCK_SLACK_S:
        return ProbeResult(
            "clock", ProbeStatus.WARNING, f"the system's clock jumped by {jumped:+.1f} s during the tests", advice
        )
    stamps = [disk.path_stamp(ManifestPaths(directory, name).canonical) for name in _manifests(file_names)]
    ahead = max((stamp.mtime_ns / 1e9 - time.time() for stamp in stamps if stamp is not None), default=0.0)
    if ahead > CLOCK_SLACK_S:
        found = f"the time of a manifest file here is {ahead:,.0f} s in the future: the clock was set back, or is wrong"
        return ProbeResult("clock", ProbeStatus.WARNING, found, advice)
    return ProbeResult("clock", ProbeStatus.OK, "the system's clock is steady, and no file here is from the future")
