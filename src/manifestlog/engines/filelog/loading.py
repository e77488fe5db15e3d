"""Creates a manifest in files from an image of another one.

::

    (1) take the compaction lock          a second copy to the same place waits, and then finds the first
    (2) write the canonical file and the history under temporary names, sync them, read them back; compare the history
        with what it finds at its place
    (3) take the append lock: from here on no other process writes
    (4) remove the canonical file of an empty manifest at this place; move aside what is at the place of the history;
        give the packs of the history their names; write the log, which says that the canonical file covers the history,
        under a temporary name
    (5) give the canonical file its name: now the manifest exists, with all records
    (6) give the log its name

::

    crash before (4)          unfinished files, which the next copy or compaction removes
    crash between (4) and (5) packs without a manifest: the next copy of this source replaces them by its own packs, which
                              have all their events. A copy of another source, or the process that creates a manifest,
                              moves them aside
    crash between (5) and (6) all records and events, but no earlier times; the next copy, of any moment of the source,
                              does (6) first. A process that writes before that begins another log

Invariants:

- A canonical file with records, and a log, are never replaced.
- A history is never beside the canonical file of another manifest.
- A log under a temporary name fits the history beside it: it is written after the history, and a process that changes a
  history, or begins another log, removes it first.
"""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog import progress
from manifestlog.copy_errors import ManifestExistsError
from manifestlog.engines.filelog import checksums, history_folder
from manifestlog.engines.filelog.canonical import files as base, write
from manifestlog.engines.filelog.history import keep, leftovers, writing
from manifestlog.engines.filelog.history.entries import entry_of
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.log import fold, lines, wal
from manifestlog.engines.filelog.log.lines import CanonicalId, LogEntry, SegmentHeader, Summary
from manifestlog.engines.filelog.log.segment import Segment
from manifestlog.engines.filelog.session import now_text, reraise_with_advice
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk, publish
from manifestlog.model import document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.protocol import Image
    from manifestlog.model.events import Event
    from manifestlog.names import ManifestPaths
    from manifestlog.options import ManifestOptions

log = logging.getLogger(__name__)

_EVENTS_A_STEP = 1000


class _Written(NamedTuple):
    """What step (2) has written."""

    temporary: str
    identity: tuple[int, str]
    packs: writing.Packs
    in_the_way: list[str]
    """The files at the place of the history, except packs of an earlier try."""


def load(paths: ManifestPaths, image: Image, options: ManifestOptions) -> None:
    """Make the manifest. On return it survives a power cut. Raises `ManifestExistsError`, `LockTimeoutError`."""
    try:
        disk.make_directory(paths.directory)
        compact_lock = FileLock(paths.compact_lock, options.lock_timeout_s)
        append_lock = FileLock(paths.append_lock, options.lock_timeout_s)
        with closing(compact_lock), closing(append_lock), compact_lock:  # (1)
            with append_lock:
                _finish_earlier(paths)
                _refuse_other(paths, image)
                base.sweep(paths)
                keep.sweep(paths, history_folder.names(paths))
            with _written(paths, image, options.segment_bytes_max) as written, append_lock:  # (2), (3)
                _publish(paths, image, written)
    except OSError as error:
        reraise_with_advice(paths.canonical, error)
        raise
    log.info("%s: made of a copy: %d records, %d events", paths.canonical, len(image.snapshot), image.events_total)


def _finish_earlier(paths: ManifestPaths) -> None:
    """Do step (6) of a copy that died before it. Only under both locks."""
    names, last = disk.list_names(paths.directory), wal.last_kept(paths)
    if not last or paths.segment_numbers(names) or not disk.exists(paths.canonical):
        return
    path = paths.segment(last + 1)
    for temporary in paths.temporaries(names):
        if temporary.startswith(f"{path}.tmp-") and _is_log_of_this(paths, temporary, last):
            disk.sync_directory(paths.directory)  # that copy may have died before syncing the canonical's name
            _name_log(paths, temporary, path)
            log.info("%s: the log of an earlier copy, which died before that, has got its name", paths.canonical)
            return


def _is_log_of_this(paths: ManifestPaths, temporary: str, last: int) -> bool:
    """Return whether a file is the whole log of a copy that has this canonical, and a history up to this segment."""
    there = base.open_base(paths)
    with suppress(DamagedManifestError), _open_log(temporary) as segment:  # damaged: it is unfinished
        opening, bases = segment.opening, segment.opening.bases
        for entry in segment.advance():
            bases = fold.after(bases, entry)
        whose = opening.manifest, opening.ts_created, opening.segment
        is_whole = whose == (paths.name, there.metadata["ts_created"], last + 1) and not fold.begins_anew(opening)
        return is_whole and fold.covered_by(bases, there.identity) == last
    return False


@contextmanager
def _open_log(path: str) -> Iterator[Segment]:
    segment = Segment.open(path, writable=False)
    try:
        yield segment
    finally:
        segment.unpin()


def _refuse_other(paths: ManifestPaths, image: Image) -> None:
    """Raise `ManifestExistsError` for a manifest that is neither empty nor what a crash has left of this very copy."""
    if paths.segment_numbers(disk.list_names(paths.directory)):
        raise ManifestExistsError(paths.canonical, "a manifest with a log is there")
    if disk.exists(paths.canonical):
        found = base.open_base(paths)
        if found.index.count and found.metadata != image.metadata:
            raise ManifestExistsError(paths.canonical, f"a manifest is there, with records: {found.index.count:,}")


@contextmanager
def _written(paths: ManifestPaths, image: Image, segment_bytes_max: int) -> Iterator[_Written]:
    """Write everything under temporary names, and remove what the block does not name."""
    try:
        yield _write(paths, image, segment_bytes_max)
    except BaseException:
        own = f".tmp-{os.getpid()}-"
        left = [path for path in paths.temporaries(disk.list_names(paths.directory)) if own in path]
        if any(path.startswith(f"{paths.canonical}.tmp-") for path in left):  # else it has its name, and needs its log
            for path in left:
                disk.remove(path)
        for path in paths.history_temporaries(history_folder.names_if_any(paths)):
            if own in path:
                disk.remove(path)
        raise


def _write(paths: ManifestPaths, image: Image, segment_bytes_max: int) -> _Written:
    """Write everything under temporary names: step (2)."""
    metadata, total = image.metadata, len(image.snapshot) + image.events_total
    temporary = paths.temporary(paths.canonical)
    with publish.unfinished(temporary, mode_from=paths.canonical) as fd:
        out = write.write(fd, metadata, _told(paths, image, total))
        disk.sync_data(fd)
        if write.read_back(fd, out.size)[:2] != (out.crc, out.size):
            raise DamagedManifestError(temporary, 0, "the file does not read back as it was written")
    if image.events_total:
        history_folder.make(paths)
    entries = map(entry_of, _counted(paths, image, total))
    packs = writing.write(
        paths, metadata["ts_created"], _skeleton(image), 1 if image.reach is None else 2, entries, segment_bytes_max
    )
    in_the_way = leftovers.in_the_way(paths, metadata["ts_created"], packs.files)
    return _Written(temporary, (out.size, checksums.hex_crc(out.crc)), packs, in_the_way)


def _skeleton(image: Image) -> CanonicalId:
    """Return the canonical of the empty manifest that the log has begun with."""
    data = document.skeleton(image.metadata | {"total_records": 0})
    return CanonicalId(len(data), checksums.hex_crc(crc32(data)), 0)


def _told(paths: ManifestPaths, image: Image, total: int) -> Iterator[tuple[str, bytes]]:
    done = 0
    for some in image.snapshot.batches():
        done += len(some)
        progress.tell("copying to", paths.canonical, done, total)
        yield from some


def _counted(paths: ManifestPaths, image: Image, total: int) -> Iterator[Event]:
    for done, event in enumerate(image.events, len(image.snapshot) + 1):
        if done % _EVENTS_A_STEP == 0 or done == total:
            progress.tell("copying to", paths.canonical, done, total)
        yield event


def _publish(paths: ManifestPaths, image: Image, written: _Written) -> None:
    """Give everything its name: steps (4) to (6). Only under the append lock."""
    _refuse_other(paths, image)
    packs = written.packs
    there = base.open_base(paths) if disk.exists(paths.canonical) else None
    is_same = there is not None and there.identity == written.identity
    if there is not None and not (packs.files if is_same else not there.index.count):
        raise ManifestExistsError(paths.canonical, f"a manifest is there, with records: {there.index.count:,}")
    if there is not None and not is_same:  # (4)
        disk.remove(paths.canonical)
        disk.sync_directory(paths.directory)  # else a power cut may leave it beside the history of another one
    leftovers.move(paths, written.in_the_way)
    for temporary, path in packs.files:
        disk.replace(temporary, path)
    if packs.files:
        disk.sync_directory(paths.history)
    log_names = None if packs.last is None else _write_log(paths, image, packs.last, written)
    _name(paths, written, is_new=not is_same)  # (5)
    if log_names is not None:
        _name_log(paths, *log_names)  # (6)


def _name(paths: ManifestPaths, written: _Written, *, is_new: bool) -> None:
    """Name the canonical, or replace the same one: step (5)."""
    try:
        (disk.publish_new if is_new else disk.replace)(written.temporary, paths.canonical)
    except FileExistsError:
        _remove_packs(paths, written.packs)
        raise ManifestExistsError(paths.canonical, "another program has made a manifest there meanwhile") from None
    disk.sync_directory(paths.directory)


def _remove_packs(paths: ManifestPaths, packs: writing.Packs) -> None:
    """Remove the packs that have their names: they must not stay beside the canonical file of another manifest."""
    for _, path in packs.files:
        disk.remove(path)
    if packs.files:
        disk.sync_directory(paths.history)


def _write_log(paths: ManifestPaths, image: Image, last: Summary, written: _Written) -> tuple[str, str]:
    """Write the segment after the history as a compaction leaves it; return its temporary name, and its name."""
    salt = secrets.randbits(32)
    created = image.metadata["ts_created"]
    header = SegmentHeader(paths.name, created, last.segment + 1, salt, last, (_skeleton(image),))
    told = {"base": CanonicalId(*written.identity, last.segment)._asdict(), "seconds": 0.0}
    data = lines.header_line(header)
    for kind in ("compacting", "compacted"):
        body = lines.encode(LogEntry(kind, now_text(), [], told), 0)
        data += checksums.seal_line(body, salt, len(data))
    path = paths.segment(header.segment)
    temporary = paths.temporary(path)
    with publish.unfinished(temporary, mode_from=written.temporary) as fd:
        disk.append(fd, data)
        disk.sync_data(fd)
        disk.sync_directory(paths.directory)  # else a power cut may leave the canonical without it
    return temporary, path


def _name_log(paths: ManifestPaths, temporary: str, path: str) -> None:
    """Give the log its name: step (6). Only where no segment is, under the append lock."""
    disk.replace(temporary, path)  # no new link and the end of the old one: a power cut may keep only the latter
    disk.sync_directory(paths.directory)
