"""Builds and parses every file name of a manifest, and the suffixes of working files.

::

    systems_download.manifest.json               canonical
    systems_download.manifest.wal-000042.jsonl   log segment 42
    systems_download.manifest.idx                index
    systems_download.manifest.lock               append lock
    systems_download.manifest.compact.lock       compaction lock
    systems_download.manifest.verified.jsonl     time of each data file's last verification; not part of the ledger
    systems_download.manifest.verified.jsonl.next    its new version, being written
    systems_processing.manifest.pending.json     what is pending for a stage, as of two cursors; derived, disposable
    systems_download.manifest.replica.json       which manifest this one is a replica of, and up to where
    systems_download.manifest.*.tmp-1234-5eed…   temporary file of process 1234; never read
    history/systems_download.manifest.wal-000041.jsonl                       covered segment 41
    history/systems_download.manifest.history-000001-000040.jsonl.zst        pack of the covered segments 1 to 40
    history/systems_download.manifest.follower-mirror.json                   how far the follower `mirror` has come
    quarantine/systems_download-20260101T120000Z/    originals that a repair has moved, and report.json

    systems.json.gz.5eed1234.part                partial download; also .part.json, .decoded, .rejected beside it
    .manifestlog.claims                          in a data directory: the sources being worked on
    .manifestlog.seen                            in a data directory: the time of each source's last answer
    .parts/                                      in an object store: the working files of a data directory, and notes
    .manifestlog.probe                           in .parts/: shows that the store refuses to replace an object
    .manifestlog.work/systems_processing/        in an output directory: what a stage has in work, and the logs of its commands;
                                                 of a manifest in a database also its `pending.json`

Invariants:

- Parsing a built name returns its parts. Files whose names do not parse are ignored.
- This module resolves symbolic links, once; after that, a manifest is a directory and a stem.
- A working file is never data: no source's file has such a name, and no command registers or verifies one.

It neither reads files nor lists directories.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

PathOrUrl = str | os.PathLike[str]
"""Where a manifest is, or a directory of manifests."""

SUFFIX = ".manifest.json"
NAME_PATTERN = "<domain>_<process>.manifest.json"
REPORT = "report.json"
NAME_RULE = "lower-case letters, digits and '-', two or more parts joined by '_'"

PART = ".part"
PART_STATE = ".part.json"
REJECTED = ".rejected"
DECODED = ".decoded"
WORKING_SUFFIXES = (PART_STATE, REJECTED, DECODED, PART)  # longest first
CLAIMS_NAME = ".manifestlog.claims"
SEEN_NAME = ".manifestlog.seen"
OBJECT_PARTS = ".parts"
PROBE_NAME = ".manifestlog.probe"
WORK_NAME = ".manifestlog.work"

MEMORY = "memory:"
"""How the location of a manifest in this process's memory begins; its name follows."""

_DIGITS_MIN, _DIGITS_MAX = 6, 12
"""A segment number as a name has it: one spelling each, and none that no log ever reaches."""
_STEM = re.compile(r"[a-z0-9-]+(?:_[a-z0-9-]+)+")


@dataclass(frozen=True, slots=True)
class ManifestPaths:
    """The files of one manifest: all in `directory`, all beginning with `name` + ".manifest."."""

    directory: str
    name: str

    def _file(self, rest: str) -> str:
        return os.path.join(self.directory, f"{self.name}.manifest.{rest}")

    @property
    def canonical(self) -> str:
        return self._file("json")

    @property
    def index(self) -> str:
        return self._file("idx")

    @property
    def append_lock(self) -> str:
        return self._file("lock")

    @property
    def compact_lock(self) -> str:
        return self._file("compact.lock")

    @property
    def verified(self) -> str:
        return self._file("verified.jsonl")

    @property
    def pending(self) -> str:
        """What is pending for the stage that writes this manifest."""
        return self._file("pending.json")

    @property
    def replica(self) -> str:
        """The note that makes the manifest a replica."""
        return self._file("replica.json")

    def segment(self, number: int) -> str:
        return os.path.join(self.directory, self._segment(number))

    def _segment(self, number: int) -> str:
        return f"{self.name}.manifest.wal-{number:06d}.jsonl"

    @property
    def history(self) -> str:
        """The directory of the segments that a canonical covers."""
        return os.path.join(self.directory, "history")

    def kept_segment(self, number: int) -> str:
        """Return the path of a covered segment in the history."""
        return os.path.join(self.history, self._segment(number))

    def pack(self, first: int, last: int) -> str:
        """Return the path of the pack of these segments."""
        return os.path.join(self.history, f"{self.name}.manifest.history-{first:06d}-{last:06d}.jsonl.zst")

    def pack_ranges(self, file_names: list[str]) -> list[tuple[int, int]]:
        """Return the first and last segment of each pack among these names, in order."""
        between = _between(file_names, f"{self.name}.manifest.history-", ".jsonl.zst")
        pairs = [text.partition("-") for text in between]
        ranges = [(int(first), int(last)) for first, _, last in pairs if _is_number(first) and _is_number(last)]
        return sorted((first, last) for first, last in ranges if first <= last)

    def follower(self, follower: str) -> str:
        """Return the path of a follower's registration."""
        return os.path.join(self.history, f"{self.name}.manifest.follower-{follower}.json")

    def follower_names(self, file_names: list[str]) -> list[str]:
        """Return the names of the registered followers among these names, sorted."""
        pattern = re.compile(re.escape(f"{self.name}.manifest.follower-") + r"([A-Za-z0-9_-]+)\.json")
        return sorted(found[1] for n in file_names if (found := pattern.fullmatch(n)))

    def follower_temporaries(self, follower: str, file_names: list[str]) -> list[str]:
        """Return the paths of unfinished registrations of this follower among these names."""
        prefix = os.path.basename(self.follower(follower)) + ".tmp-"
        return [os.path.join(self.history, n) for n in file_names if n.startswith(prefix)]

    def history_temporaries(self, file_names: list[str]) -> list[str]:
        """Return the paths of unfinished packs among these names."""
        if not any(".tmp-" in name for name in file_names):
            return []  # compiling the pattern takes longer than the rest
        pattern = re.compile(re.escape(f"{self.name}.manifest.history-") + r"[\d-]+\.jsonl\.zst\.tmp-\d+-[0-9a-f]+")
        return [os.path.join(self.history, n) for n in file_names if pattern.fullmatch(n)]

    @property
    def quarantine(self) -> str:
        """The directory that repairs move the original files to."""
        return os.path.join(self.directory, "quarantine")

    def quarantine_folder(self, moment: datetime, number: int = 1) -> str:
        """Return the directory of a repair at this UTC time, the `number`-th in this second."""
        time = moment.strftime("%Y%m%dT%H%M%SZ") + (f"-{number}" if number > 1 else "")
        return os.path.join(self.quarantine, f"{self.name}-{time}")

    def quarantine_folders(self, names: list[str]) -> list[str]:
        """Return the directories of this manifest's repairs among these names, oldest first."""
        pattern = re.compile(re.escape(self.name) + r"-\d{8}T\d{6}Z(?:-(\d+))?")
        found = [match for name in names if (match := pattern.fullmatch(name))]
        ordered = sorted(found, key=lambda match: (match[0].partition("Z")[0], int(match[1] or 1)))
        return [os.path.join(self.quarantine, match[0]) for match in ordered]

    def temporary(self, path: str) -> str:
        """Return a path beside `path` that no other process or thread uses."""
        # The process number alone is not unique: a dead process with the same number may have left its file.
        return f"{path}.tmp-{os.getpid()}-{secrets.token_hex(4)}"

    def segment_numbers(self, file_names: list[str]) -> list[int]:
        """Return the segment numbers among these names, in log order."""
        between = _between(file_names, f"{self.name}.manifest.wal-", ".jsonl")
        return sorted(int(text) for text in between if _is_number(text))

    def temporaries(self, file_names: list[str]) -> list[str]:
        """Return the paths of temporary files among these names, which a dead writer may have left."""
        pattern = re.compile(
            re.escape(f"{self.name}.manifest.")
            + r"(?:json|idx|pending\.json|replica\.json|wal-\d+\.jsonl)\.tmp-\d+-[0-9a-f]+"
        )
        return [os.path.join(self.directory, n) for n in file_names if pattern.fullmatch(n)]


def _between(file_names: list[str], prefix: str, suffix: str) -> list[str]:
    """Return what is between this prefix and this suffix, of each name that has both."""
    # Slicing, because compiling a pattern with the manifest's name would take half the time of opening.
    return [n[len(prefix) : -len(suffix)] for n in file_names if n.startswith(prefix) and n.endswith(suffix)]


def _is_number(text: str) -> bool:
    """Return whether this is a segment number in its only spelling."""
    if not (text.isascii() and text.isdigit()):
        return False
    return len(text) == _DIGITS_MIN or (_DIGITS_MIN < len(text) <= _DIGITS_MAX and text[0] != "0")


def manifest_path(directory: str | os.PathLike[str], domain: str, process: str) -> Path:
    """Return the path of the manifest `<domain>_<process>.manifest.json` in `directory`.

    Raises `ValueError` if a part does not match the pattern.
    """
    name = f"{domain}_{process}"
    if not _STEM.fullmatch(name) or "_" in process:
        raise ValueError(f"{name!r} is not a manifest name: expected {NAME_PATTERN} ({NAME_RULE})")
    return Path(directory) / f"{name}{SUFFIX}"


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(location: PathOrUrl) -> bool:
    """Return whether this is the URL of a manifest or directory, not a path."""
    return _URL.match(os.fspath(location)) is not None


def is_in_memory(location: PathOrUrl) -> bool:
    """Return whether this is the location of a manifest in memory, such as `memory:systems_download`."""
    return os.fspath(location).lower().startswith(MEMORY)


def is_path(location: PathOrUrl) -> bool:
    """Return whether a manifest or directory with this location is in files."""
    return not (is_url(location) or is_in_memory(location))


def name_of(location: str) -> str:
    """Return the bare name of the manifest at this location."""
    text = location[len(MEMORY) :] if is_in_memory(location) else location
    text = text.partition("?")[0] if is_url(text) else text
    return os.path.basename(text).removesuffix(SUFFIX)


def location_in(directory: PathOrUrl, name: str) -> str:
    """Return the path or URL of the manifest with this name in a directory, or in the database at a URL."""
    place = os.fspath(directory)
    return joined(place, name) if is_url(place) else os.path.join(place, f"{name}{SUFFIX}")


def joined(directory: str, name: str) -> str:
    """Return the URL of the manifest with this name in the directory or database at a URL; parameters stay at the end."""
    rest, mark, parameters = directory.partition("?")
    scheme, slashes, place = rest.partition("://")  # the place may be empty: `postgresql:///?service=etl`
    return f"{scheme}{slashes}{place.rstrip('/')}/{name}{mark}{parameters}"


def next_version(verified: str) -> str:
    """Return the path of the new version of a verification journal, which may be anywhere."""
    return f"{verified}.next"


def check_name(name: str) -> str:
    """Return a bare manifest name such as `systems_download`, or raise `ValueError` with the pattern."""
    if not _STEM.fullmatch(name):
        raise ValueError(f"{name!r} is not a manifest name: expected {NAME_PATTERN} ({NAME_RULE})")
    return name


def parse_manifest_name(file_name: str) -> str | None:
    """Return `systems_download` for `systems_download.manifest.json`, and None for any other file."""
    if not file_name.endswith(SUFFIX):
        return None
    stem = file_name[: -len(SUFFIX)]
    return stem if _STEM.fullmatch(stem) else None


def belongs_to_manifest(file_name: str) -> bool:
    """Return whether a file of this name belongs to a manifest, including temporary files."""
    name, _, rest = file_name.partition(".manifest.")
    return bool(rest) and _STEM.fullmatch(name) is not None


def working_suffix(file_name: str) -> str:
    """Return the suffix that makes this name a working file's, or an empty string."""
    lower = file_name.lower()
    return next((suffix for suffix in WORKING_SUFFIXES if lower.endswith(suffix)), "")


def is_working(file_name: str) -> bool:
    """Return whether a file or directory of this name is a working one in a data directory, which a run may delete."""
    return file_name in (CLAIMS_NAME, SEEN_NAME, WORK_NAME) or bool(working_suffix(file_name))


def claim_of_sources(manifest: str) -> str:
    """Return the kind of the claims on the sources of a manifest, which many hosts share."""
    return f"source of {manifest}"


def claim_of_items(manifest: str) -> str:
    """Return the kind of the claims on the items of the stage that writes a manifest."""
    return f"stage {manifest} item"


def files_of(location: PathOrUrl) -> ManifestPaths:
    """Return the files of the manifest at this location; of one that is not in files, none exists. Raises as `resolve`."""
    text = os.fspath(location)
    return resolve(text) if is_path(text) else ManifestPaths("", name_of(text))


def resolve(path: str | os.PathLike[str]) -> ManifestPaths:
    """Return the files of the manifest at `path`, with links resolved.

    Raises `ValueError` if the name does not match the pattern.
    """
    directory, file_name = os.path.split(os.path.realpath(path))
    name = parse_manifest_name(file_name)
    if name is None:
        is_link = os.path.basename(os.path.abspath(path)) != file_name
        link = f"a link to {os.path.join(directory, file_name)!r}, which is " if is_link else ""
        raise ValueError(f"{os.fspath(path)!r} is {link}not a manifest file: expected {NAME_PATTERN} ({NAME_RULE})")
    return ManifestPaths(directory, name)
