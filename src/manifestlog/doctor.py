"""Looks at a folder and tries out there what a manifest relies on, and says what each result means.

Invariants:

- Manifests are looked at and never opened; what is tried (`trials`) is tried in a folder of its own inside this one.
- That folder is gone at the end, after Ctrl-C and failures too; one that a killed run has left goes with the next run.

It mends nothing, and knows neither tables nor exit codes.
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

from manifestlog import mounts, naming, trials
from manifestlog.mounts import Kind
from manifestlog.naming import ManifestPaths
from manifestlog.storage import disk
from manifestlog.storage.lock import FileLock
from manifestlog.trials import CLOCK_SLACK_S, Finding, Verdict

_LEFT = re.compile(r"\.manifestlog-doctor-[0-9a-f]{12}")
_ROOM_BYTES = 64 << 20
_ROOM_INODES = 100
_NAMES_SHOWN = 3


def examine(directory: str, *, table: str | None = None) -> Generator[Finding]:
    """Test a folder, one finding after the other; close the iterator, or let it end, and nothing is left behind.

    `table` stands for the kernel's table of mounts. Raises `OSError` when the folder cannot be looked at at all.
    """
    directory = os.path.realpath(directory)
    names = disk.list_names(directory)
    began = time.time(), time.monotonic()
    yield _file_system(directory, disk.mount_table() if table is None else table)
    yield from _permissions(directory, names)
    yield from _elsewhere(directory, names)
    yield from _room(directory, names)
    try:
        with _workplace(directory, names) as place:
            yield Finding("writing", Verdict.OK, "files can be made here")
            yield from trials.run(place)
    except _CannotWriteError as error:
        yield Finding(
            "writing",
            Verdict.FAILED,
            f"no file can be made here ({error}); manifests can be read, and nothing further was tested",
            "run it as the user who writes, or give that user the right to write here",
        )
        return
    yield _clock_went(directory, names, began)


class _CannotWriteError(Exception):
    """The folder of the tests could not be made."""


@contextmanager
def _workplace(directory: str, names: list[str]) -> Iterator[str]:
    for name in names:
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
        # The second Ctrl-C of an impatient user must not keep us from tidying up.
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


# -- looked at ---------------------------------------------------------------------------------------------------------

_MEANING = {
    Kind.LOCAL: (Verdict.OK, "a file system of this machine", ""),
    Kind.NETWORK: (
        Verdict.WARNING,
        "a network file system: a lock may hold on one machine only, and a sync may not reach a disk",
        "keep manifests on a local disk of the machine that writes them, and copy them from there",
    ),
    Kind.MEMORY: (
        Verdict.WARNING,
        "in memory: nothing here survives a power cut or a restart, whatever the durability",
        "keep manifests on a disk",
    ),
    Kind.OVERLAY: (
        Verdict.WARNING,
        "a container's own layer: what is written here goes with the container",
        "mount a volume of the host for the manifests",
    ),
}


def _file_system(directory: str, table: str) -> Finding:
    found = mounts.file_system(table, disk.device(directory), directory)
    verdict, means, advice = _MEANING[mounts.kind(found)]
    return Finding("file system", verdict, f"{found or 'of unknown type'}; {means}", advice)


def _permissions(directory: str, names: list[str]) -> Iterator[Finding]:
    own = [os.path.join(directory, name) for name in names if naming.belongs_to_manifest(name)]
    seen = [(path, access) for path in [directory, *own] if (access := _access(path)) is not None]
    shared = [(path, _means(access, is_directory=path == directory)) for path, access in seen if access.mode & 0o002]
    advice = f"chmod o-w {directory} and the files in it"
    yield _listed("permissions", shared, "not everybody may write here", advice, Verdict.WARNING)
    locked = [
        (path, f"(mode {access.mode:04o}) is not writable for us") for path, access in seen if not access.writable
    ]
    others = [(path, f"is user {a.owner}'s") for path, a in seen if a.owner not in (disk.our_user(), 0)]
    if locked:
        advice = "run it as the user who writes, or share the files through a group and its umask (002)"
        yield _listed("owners", locked, "", advice, Verdict.FAILED)
    else:
        advice = "fine where those users share the manifest; otherwise find out who wrote here"
        yield _listed("owners", others, "all files are ours to write", advice, Verdict.WARNING)


def _means(access: disk.Access, *, is_directory: bool) -> str:
    if not is_directory:
        means = "anybody may change what is recorded"
    elif access.mode & stat.S_ISVTX:
        means = "anybody may put files beside ours"
    else:
        means = "anybody may put files in place of ours"
    return f"(mode {access.mode:04o}): {means}"


def _elsewhere(directory: str, names: list[str]) -> Iterator[Finding]:
    for name in _manifests(names):
        try:
            found = naming.resolve(ManifestPaths(directory, name).canonical).directory
        except ValueError as error:
            yield Finding("links", Verdict.WARNING, str(error), "let it lead to a manifest, or give it another name")
            continue
        if found != directory:
            advice = f"test that folder as well: manifestlog doctor {found}"
            yield Finding("links", Verdict.WARNING, f"{name} is a link; its files are in {found}", advice)


def _access(path: str) -> disk.Access | None:
    try:
        return disk.access(path)
    except OSError:
        return None  # gone since we looked, or a link to nowhere


def _listed(test: str, found: list[tuple[str, str]], fine: str, advice: str, verdict: Verdict) -> Finding:
    if not found:
        return Finding(test, Verdict.OK, fine)
    shown = [f"{os.path.basename(path)} {what}" for path, what in found[:_NAMES_SHOWN]]
    more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
    return Finding(test, verdict, "; ".join(shown) + more, advice)


def _room(directory: str, names: list[str]) -> Iterator[Finding]:
    left = disk.space(directory)
    name, need = max(
        ((name, _compaction_bytes(directory, name, names)) for name in _manifests(names)),
        key=lambda one: one[1],
        default=("", 0),
    )
    told = f"{left.free_bytes / 1e6:,.0f} MB free"
    if name:
        told += f"; a compaction of {name}, the largest here, takes {need / 1e6:,.1f} MB for a while"
    advice = "free some space: without it the log only grows, and additions fail when the disk is full"
    verdict = Verdict.OK
    if left.free_bytes < need:
        verdict = Verdict.FAILED
    elif left.free_bytes < 2 * need + _ROOM_BYTES:
        verdict = Verdict.WARNING
    yield Finding("free space", verdict, told, "" if verdict is Verdict.OK else advice)
    if left.free_inodes is not None:
        few = left.free_inodes < _ROOM_INODES
        verdict = Verdict.WARNING if few else Verdict.OK
        yield Finding("free inodes", verdict, f"{left.free_inodes:,} more files can be made", advice if few else "")


def _manifests(names: list[str]) -> list[str]:
    return sorted(found for name in names if (found := naming.parse_manifest_name(name)))


def _compaction_bytes(directory: str, name: str, names: list[str]) -> int:
    """The next canonical and index, beside what is there."""
    paths = ManifestPaths(directory, name)
    files = [paths.canonical, paths.index, *map(paths.segment, paths.segment_numbers(names))]
    return sum(stamp.size for path in files if (stamp := disk.path_stamp(path)) is not None)


def _clock_went(directory: str, names: list[str], began: tuple[float, float]) -> Finding:
    jumped = (time.time() - began[0]) - (time.monotonic() - began[1])
    advice = "set the clock by NTP; the order in a manifest is not affected, times in records are"
    if abs(jumped) > CLOCK_SLACK_S:
        return Finding("clock", Verdict.WARNING, f"the system's clock moved by {jumped:+.1f} s meanwhile", advice)
    stamps = [disk.path_stamp(ManifestPaths(directory, name).canonical) for name in _manifests(names)]
    ahead = max((stamp.mtime_ns / 1e9 - time.time() for stamp in stamps if stamp is not None), default=0.0)
    if ahead > CLOCK_SLACK_S:
        found = f"a manifest here is {ahead:,.0f} s younger than now: the clock was set back since, or is wrong"
        return Finding("clock", Verdict.WARNING, found, advice)
    return Finding("clock", Verdict.OK, "the system's clock runs evenly, and no file here is from the future")
