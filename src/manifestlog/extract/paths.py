"""Where the files of a source lie: data, parts, rejected files; paths only, no disk is touched.

::

    raw/star_systems/systems.json.gz                       the data
    raw/star_systems/systems-0a4d12345678.json.gz          other content, when that name is taken
    raw/star_systems/systems.json.gz.5eed1234.part         being fetched
    raw/star_systems/systems.json.gz.5eed1234.part.json    what is known of that part
    raw/star_systems/systems.json.gz.5eed1234.rejected     not what the pin or an expectation says

Invariants:

- Every path is inside the data folder, whatever source and address say.
- Two sources may share a target, but never a part: the digits before `.part` are their own.
- Every name fits NAME_MAX.

It does not know which of these files are there.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from manifestlog import names
from manifestlog.extract import safe_names
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError

CHECKSUM_DIGITS = 12
KEY_DIGITS = 8


def file_name_of(source: ETLSource) -> str:
    """The configured file name, else the last part of the address' path, made harmless."""
    return source.file_name or safe_names.sanitize(unquote(urlsplit(source.url).path.rpartition("/")[2]))


def path_for(data_dir: Path, source: ETLSource) -> Path:
    """Where this source's file goes."""
    parts = [*source.dataset.split("/"), file_name_of(source)]
    if wrong := next(filter(None, map(safe_names.problem, parts)), None):  # a model made without validation
        raise ExtractError(f"source {source.source_id}: a name in its path {wrong}; choose another name")
    return data_dir.joinpath(*parts)


def alternate_path(target: Path, checksum: str) -> Path:
    """Where content goes whose `target` holds other content already."""
    stem, suffixes = safe_names.split_suffixes(target.name)
    return target.with_name(f"{stem}-{checksum[:CHECKSUM_DIGITS]}{suffixes}")


def own_paths_pattern(data_dir: Path, source: ETLSource) -> re.Pattern[str]:
    """Matches, in one group, a path of this source's files and folders as a sentence shows it; none within an address."""
    folder, name = data_dir.joinpath(*source.dataset.split("/")), file_name_of(source)
    stem, suffixes = safe_names.split_suffixes(name)
    other = rf"{re.escape(stem)}-[0-9a-f]{{{CHECKSUM_DIGITS}}}{re.escape(suffixes)}"
    working = rf"\.[0-9a-f]{{{KEY_DIGITS}}}(?:{'|'.join(map(re.escape, names.WORKING_SUFFIXES))})"
    file = rf"{re.escape(str(folder))}/(?:{other}|{re.escape(name)}(?:{working})?)"
    folders = "|".join(re.escape(str(path)) for path in (folder, *folder.parents[:-1]))
    return re.compile(rf"(?<!\S)({file}|{folders})(?![^\s:;,])(?!\S*\?)")


def candidate_paths(target: Path, checksum: str) -> tuple[Path, Path]:
    """Where this content of a source may lie, the name it would rather have first."""
    return target, alternate_path(target, checksum)


def part_path(target: Path, source: ETLSource) -> Path:
    """The file that this source, and no other, is fetched into."""
    return _beside(target, source, names.PART)


def part_state_path(part: Path) -> Path:
    """What is known of a part, beside it."""
    return part.with_name(part.name.removesuffix(names.PART) + names.PART_STATE)


def decoded_path(part: Path) -> Path:
    """Where a part is decoded to, before that takes its place."""
    return part.with_name(part.name.removesuffix(names.PART) + names.DECODED)


def rejected_path(target: Path, source: ETLSource) -> Path:
    """Where a file goes that is not what its source is pinned to, or expected to have."""
    return _beside(target, source, names.REJECTED)


def _beside(target: Path, source: ETLSource, suffix: str) -> Path:
    # No dataset holds a NUL, so no two sources give the same bytes.
    key = hashlib.sha256(f"{source.source_id}\0{source.dataset}".encode()).hexdigest()[:KEY_DIGITS]
    return target.with_name(f"{target.name}.{key}{suffix}")
