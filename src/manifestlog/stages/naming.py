"""Names: the paths of outputs, the values of placeholders, and the keys of groups.

Invariants:

- The path of an output is inside the output directory, whatever the records contain: values become safe names, and any
  other path is refused.
- A pattern is refused as a whole only if it gives a usable path for no item.
- The same item gives the same names.

It never accesses the disk.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from manifestlog import safe_names
from manifestlog.stages import placeholders
from manifestlog.stages.errors import OutputError, StageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifestlog.model.rows import Row
    from manifestlog.stages.items import Item

DEFAULT_OUTPUT = "{dataset}/{name}"
CHECKSUM_DIGITS = 12
_DIRECTORIES = frozenset({"dataset", "source_id", "key"})
"""Placeholders whose values may be several directories deep."""
_LEADS_OUT = re.compile(r"/|(?:.*/)?\.\.(?:/|\Z)|[^/]*://", re.DOTALL)
_SHELLS = re.compile(r"~[^/]*/|\$[A-Za-z_]\w*/|.*\$\{", re.DOTALL)
"""A pattern that a shell would expand. Here, it would give names such as `$HOME` and `$prices.csv`."""
_NAMES_NO_FILE = re.compile(r"(?:.*/)?\.?", re.DOTALL)
_ANY_NAME = "q"
"""In the place of a value: the shortest one, and no part of a name that is reserved or has a meaning."""


class OutputNameError(OutputError, ValueError):
    """A path that no output may have."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the output {path!r:.200} is not used: {reason}")


def values_of(item: Item, stage: str, version: str) -> dict[str, str]:
    """Return the values of an item's placeholders, as they are."""
    return {
        **row_values(item.inputs[0].row, item.ts),
        "dataset": item.dataset,
        "source_id": item.source_id,
        "checksum": item.checksum,
        "checksum8": item.checksum[:8],
        "key": item.key,
        "stage": stage,
        "version": version,
    }


def row_values(row: Row, ts: str) -> dict[str, str]:
    """Return the values that a record alone gives."""
    directory, name = os.path.split(row["file_path"])
    stem, suffix = safe_names.split_suffixes(name)
    return {
        "dataset": row["dataset"],
        "source_id": row["source_id"],
        "checksum": row["checksum"],
        "checksum8": row["checksum"][:8],
        "name": name,
        "stem": stem,
        "suffix": suffix,
        "parent": os.path.basename(directory),
        **{word: ts[:length] for word, length in placeholders.TIMES.items()},
    }


def output_problem(pattern: str) -> str | None:
    """Return why this pattern gives no item a usable path, and what to write instead; None if it does."""
    if _SHELLS.match(pattern):
        return "~ and $ are not expanded in a path; write a path below output_dir, and placeholders as {stem}"
    if (reason := placeholders.pattern_problem(pattern, placeholders.VALUES, "an output's name")) is not None:
        return reason
    if _LEADS_OUT.match(pattern):
        return "leads out of output_dir; write a path below it, or set output_dir to another directory"
    if _NAMES_NO_FILE.fullmatch(pattern):
        return "names a directory; end it with the name of a file, such as {stem}.csv"
    # A suffix may be empty, so a name is safe if it is with one or without.
    values = dict.fromkeys(placeholders.VALUES, _ANY_NAME)
    reasons = [path_problem(placeholders.expand(pattern, {**values, "suffix": suffix})) for suffix in (".q", "")]
    return reasons[0] if all(reasons) else None


def output_name(pattern: str, values: Mapping[str, str]) -> str:
    """Return the path of an output, relative to the output directory. Raises `OutputNameError`."""
    return checked(placeholders.replaced(pattern, lambda name: _safe(name, values[name]) if name in values else None))


@lru_cache(maxsize=1024)
def _safe(name: str, value: str) -> str:
    if name == "suffix":
        return value
    if name in _DIRECTORIES:
        return "/".join(safe_names.sanitize(part) for part in value.split("/") if part) or safe_names.NAMELESS
    return safe_names.sanitize(value)


_problem = lru_cache(maxsize=1024)(safe_names.problem)
"""Names of directories come again with each output."""


def checked(name: str) -> str:
    """Return a relative path in its only spelling. Raises `OutputNameError` if no output may have it."""
    if (reason := path_problem(name)) is not None:
        raise OutputNameError(name, reason)
    return "/".join(_parts(name))


def path_problem(name: str) -> str | None:
    """Return why no output may have this path, relative to the output directory, and what to do; None if one may."""
    if os.path.isabs(name):
        return "expected a path below the output directory, without a leading slash"
    parts = _parts(name)
    if ".." in parts:
        return "it leads out of the output directory; write a path below that"
    if wrong := next(filter(None, map(_problem, parts)), None):
        return f"a part of it {wrong}; choose another name"
    return None if parts else "it is empty; give it a name"


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def alternate(path: str, checksum: str) -> str:
    """Return the path for content whose first choice holds other content."""
    directory, name = os.path.split(path)
    stem, suffixes = safe_names.split_suffixes(name)
    return os.path.join(directory, f"{stem}-{checksum[:CHECKSUM_DIGITS]}{suffixes}")


class GroupKey:
    """The key of a record's group, by the stage's `group_by`. Raises `StageError` for one that groups nothing."""

    def __init__(self, stage: str, group_by: str) -> None:
        self._field = group_by if group_by in ("dataset", "source_id") else None
        # The braces of a regular expression hold no placeholder.
        self._template = group_by if placeholders.names_in(group_by) & placeholders.VALUES else None
        self._pattern: re.Pattern[str] | None = None
        if self._template is not None:
            reason = placeholders.pattern_problem(self._template, placeholders.OF_RECORD, "group_by")
            if reason is not None:
                raise StageError(stage, "group_by", reason)
        elif self._field is None:
            self._pattern = _compiled(stage, group_by)

    def of(self, row: Row) -> str | None:
        """Return the key of the record's group; None if it is in none."""
        if self._field is not None:
            return str(row[self._field])
        if self._template is not None:
            return placeholders.expand(self._template, row_values(row, row["ts_downloaded"]))
        assert self._pattern is not None
        found = self._pattern.search(row["file_path"])
        return None if found is None else "/".join(text for text in found.groups() if text is not None)


def _compiled(stage: str, group_by: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise StageError(
            stage, "group_by", f"is no regular expression; correct it, got {group_by!r:.80}: {error}"
        ) from None
    if not pattern.groups:
        reason = (
            "is neither dataset nor source_id, and has no placeholder and no group; write such as {dataset}/{month}"
        )
        raise StageError(stage, "group_by", f"{reason}, got {group_by!r:.80}")
    return pattern
