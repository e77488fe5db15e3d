"""The paths of a source's files: data, part, rejected download. It never accesses the disk.

::

    raw/star_systems/systems.json.gz                       data
    raw/star_systems/systems-0a4d12345678.json.gz          other content, when that name is taken
    raw/star_systems/systems.json.gz.5eed1234.part         a download in progress
    raw/star_systems/systems.json.gz.5eed1234.part.json    the state of that part
    raw/star_systems/systems.json.gz.5eed1234.rejected     a download that fails its pin or an expectation

In an object store, the working objects lie apart, so that one listing finds all of them::

    s3://bucket/raw/.parts/star_systems/systems.json.gz.5eed1234.part

Invariants:

- Every path is inside the data directory, whatever the source and its URL contain.
- Two sources may share a data path, but never a part: the digits before `.part` identify the source.
- Every name fits NAME_MAX.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from manifestlog import names, safe_names
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError
from manifestlog.model.url_paths import UrlPath, path_of

CHECKSUM_DIGITS = 12
KEY_DIGITS = 8
_DIGITS = re.compile(f"[0-9a-f]{{{CHECKSUM_DIGITS}}}")


class SourcePaths(NamedTuple):
    """The paths of one source, built once for all steps."""

    target: Path
    """The data file's first choice."""
    part: Path
    """The file that only this source is downloaded to."""
    rejected: Path
    """A download that fails its pin or an expectation."""

    @classmethod
    def of(cls, data_dir: Path, source: ETLSource) -> SourcePaths:
        """Build the paths of a source; raises `ExtractError` for an unsafe dataset or file name."""
        target = path_for(data_dir, source)
        beside = path_for(data_dir / names.OBJECT_PARTS, source) if isinstance(data_dir, UrlPath) else target
        return cls(target, part_path(beside, source), rejected_path(beside, source))

    def candidates(self, checksum: str) -> tuple[Path, Path]:
        """Return the possible paths of this content, the preferred one first."""
        return self.target, alternate_path(self.target, checksum)


def file_name_of(source: ETLSource) -> str:
    """Return the configured file name, or a safe name made from the last segment of the URL's path."""
    return source.file_name or safe_names.sanitize(unquote(urlsplit(source.url).path.rpartition("/")[2]))


def _joined(data_dir: Path, source: ETLSource) -> Path:
    return data_dir.joinpath(*source.dataset.split("/"), file_name_of(source))


def path_for(data_dir: Path, source: ETLSource) -> Path:
    """Return the path of the source's data file; raises `ExtractError` for an unsafe dataset or file name."""
    name = file_name_of(source)
    directory, wrong = _directory_of(data_dir, source.dataset)
    if wrong := wrong or safe_names.problem(name):  # an unvalidated model
        raise ExtractError(f"source {source.source_id}: a name in its path {wrong}; choose another name")
    return directory / name


@lru_cache(maxsize=1024)  # many sources share a dataset, and to join and check names takes as long as to read a record
def _directory_of(data_dir: Path, dataset: str) -> tuple[Path, str | None]:
    """Return the directory of a dataset, and what is wrong with its name."""
    parts = dataset.split("/")
    return data_dir.joinpath(*parts), next(filter(None, map(safe_names.problem, parts)), None)


def alternate_path(target: Path, checksum: str) -> Path:
    """Return the path for content whose first choice, `target`, holds other content."""
    stem, suffixes = safe_names.split_suffixes(target.name)
    return target.with_name(f"{stem}-{checksum[:CHECKSUM_DIGITS]}{suffixes}")


def is_own(data_dir: Path, source: ETLSource, path: str) -> bool:
    """Return whether a path is one of the source's files, its directory, or a directory above that."""
    target = _joined(data_dir, source)
    beside = _joined(data_dir / names.OBJECT_PARTS, source) if isinstance(data_dir, UrlPath) else target
    part = part_path(beside, source)
    files = (target, part, part_state_path(part), decoded_path(part), rejected_path(beside, source))
    return path_of(path) in (*files, *target.parents) or _is_alternate(target, path_of(path))


def _is_alternate(target: Path, path: Path) -> bool:
    digits = path.name.removeprefix(f"{safe_names.split_suffixes(target.name)[0]}-")[:CHECKSUM_DIGITS]
    return _DIGITS.fullmatch(digits) is not None and path == alternate_path(target, digits)


def part_path(target: Path, source: ETLSource) -> Path:
    """Return the path that only this source is downloaded to."""
    return _beside(target, source, names.PART)


def part_state_path(part: Path) -> Path:
    """Return the path of a part's state, beside the part."""
    return part.with_name(part.name.removesuffix(names.PART) + names.PART_STATE)


def decoded_path(part: Path) -> Path:
    """Return the path a part is decoded to before the result replaces it."""
    return part.with_name(part.name.removesuffix(names.PART) + names.DECODED)


def part_of(path: Path) -> Path:
    """Return the part that a working object belongs to."""
    return path.with_name(path.name.removesuffix(names.REJECTED).removesuffix(names.PART) + names.PART)


def rejected_path(target: Path, source: ETLSource) -> Path:
    """Return the path for a download that fails its pin or an expectation."""
    return _beside(target, source, names.REJECTED)


def _beside(target: Path, source: ETLSource, suffix: str) -> Path:
    # A dataset contains no NUL, so no two sources hash the same bytes.
    key = hashlib.sha256(f"{source.source_id}\0{source.dataset}".encode()).hexdigest()[:KEY_DIGITS]
    return target.with_name(f"{target.name}.{key}{suffix}")
