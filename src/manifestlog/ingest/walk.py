"""Finds the files of a run: walks directories, and classifies links and special files.

Invariants:

- Links to files are followed, links to directories are not. Only a given path itself may be a link to a directory.
- Manifest files in the directory of the written manifest are never found, nor are files in its history and quarantine.
- The working files of `extract` (parts, rejected files, claims, times) and the working directories of stages are never
  registered, because they are temporary.
- No file is opened, and memory holds the names of one directory at a time, so a tree can have any size.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from manifestlog.error_texts import reason
from manifestlog.ingest.index_file import KnownFacts, ListedFile
from manifestlog.names import SUFFIX, WORK_NAME, ManifestPaths, is_working, parse_manifest_name


class SkipReason(StrEnum):
    """The reason for skipping a file."""

    SPECIAL = "pipe, socket or device"
    WORKING = "working file of extract"
    EMPTY = "empty file"

    def counted(self, number: int) -> str:
        """Return a count with its noun: `1 empty file`, `2 empty files`."""
        words = self.value if number == 1 else _MANY[self]
        return f"{number:,} {words}"


_MANY = {
    SkipReason.SPECIAL: "pipes, sockets or devices",
    SkipReason.WORKING: "working files of extract",
    SkipReason.EMPTY: "empty files",
}


class FileTask(NamedTuple):
    """A file to hash and register. `size` is its size when found, in bytes."""

    path: str
    source_id: str
    dataset: str
    size: int
    facts: KnownFacts = KnownFacts()


class Failure(NamedTuple):
    """A file that could not be registered, with the reason."""

    path: str
    reason: str


class Skipped(NamedTuple):
    """A skipped file, with the reason."""

    path: str
    why: SkipReason


Found = FileTask | Failure | Skipped


class Naming(NamedTuple):
    """The caller's names for source and dataset; None means the default."""

    source_id: str | None
    dataset: str | None


def find(paths: Sequence[str], names: Naming, own: ManifestPaths) -> Iterator[Found]:
    """Yield every file at these paths, walking directories."""
    for given in paths:
        path = os.path.abspath(given)  # keeps links: the record stores the path as the user gave it
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as error:
            yield Failure(path, reason(error))
            continue
        if is_folder:
            yield from _walk(path, names, own)
        else:
            folder, name = os.path.split(path)
            yield from _classify(path, name, names.dataset or _name_of(folder), names, own)


def find_listed(listed: Sequence[ListedFile], names: Naming, own: ManifestPaths) -> Iterator[Found]:
    """Yield every listed file. The caller's names apply to files that are listed without names."""
    for entry in listed:
        path = os.path.abspath(entry.path)
        if os.path.isdir(path):
            yield Failure(path, "it is a directory; an index may list only files")
            continue
        folder, name = os.path.split(path)
        wanted = Naming(entry.source_id or names.source_id, entry.dataset or names.dataset)
        for found in _classify(path, name, wanted.dataset or _name_of(folder), wanted, own):
            yield found._replace(facts=entry.facts) if isinstance(found, FileTask) else found


def _name_of(folder: str) -> str:
    return os.path.basename(folder) or folder  # `/` has no name, and a dataset needs one


def _walk(root: str, names: Naming, own: ManifestPaths) -> Iterator[Found]:
    dataset = names.dataset or _name_of(root)
    cut = len(root.rstrip(os.sep)) + 1
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Failure(folder, reason(error))
            continue
        deeper = [one for one in reversed(inside) if one.name != WORK_NAME and one.is_dir(follow_symlinks=False)]
        folders.extend(entry.path for entry in deeper)
        for entry in inside:
            if not entry.is_dir(follow_symlinks=False):
                yield from _classify(entry.path, entry.path[cut:].replace(os.sep, "/"), dataset, names, own)


def _classify(path: str, source_id: str, dataset: str, names: Naming, own: ManifestPaths) -> Iterator[Found]:
    try:
        found = os.stat(path)
        path.encode()
    except UnicodeEncodeError:
        yield Failure(path, "its name must be UTF-8 to be recorded; rename it")
        return
    except OSError as error:
        yield Failure(path, reason(error))
        return
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        yield Skipped(path, SkipReason.SPECIAL)
    elif not _is_ledger(path, own):
        if _is_working(path):
            yield Skipped(path, SkipReason.WORKING)
        elif found.st_size == 0:
            yield Skipped(path, SkipReason.EMPTY)
        else:
            yield FileTask(path, names.source_id or source_id, dataset, found.st_size)


def _is_working(path: str) -> bool:
    name = os.path.basename(os.path.realpath(path) if os.path.islink(path) else path)
    return is_working(name)


def _is_ledger(path: str, own: ManifestPaths) -> bool:
    is_ours = ".manifest." in path or os.path.basename(own.quarantine) in path
    if not is_ours and not os.path.islink(path):
        return False
    folder, name = os.path.split(os.path.realpath(path))
    if folder.startswith(os.path.realpath(own.quarantine) + os.sep):
        return True
    stem = name.partition(".")[0]
    # Also the files of other manifests here: their lock files are empty, and a changing ledger is not a download.
    return (
        folder in (own.directory, own.history)
        and name.startswith(f"{stem}.manifest.")
        and parse_manifest_name(stem + SUFFIX) == stem
    )
