"""Names: the placeholders of a stage, the paths of its outputs, and the keys of its groups.

::

    {dataset} {source_id} {checksum} {checksum8} {key}      the item; a group's dataset and source_id are its own
    {name} {stem} {suffix} {parent}                         the (first) input's file: prices.csv.gz prices .csv.gz, its directory
    {year} {month} {date} {hour}                            of the (latest) input's time in UTC: 2026 2026-01 2026-01-31 2026-01-31T23
    {stage} {version}                                       the stage
    {input} {inputs} {output} {output_dir}                  paths, in a command only; {inputs} is an argument for each member

Invariants:

- The path of an output is inside the output directory, whatever the records contain: values become safe names, and any
  other path is refused.
- The same item gives the same names.

It never accesses the disk.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from manifestlog import safe_names
from manifestlog.stages.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifestlog.model.rows import Row
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.items import Item

DEFAULT_OUTPUT = "{dataset}/{name}"
CHECKSUM_DIGITS = 12
_PLACEHOLDER = re.compile(r"\{([a-z0-9_]*)\}")
_DIRECTORIES = frozenset({"dataset", "source_id", "key"})
"""Placeholders whose values may be several directories deep."""
_TIMES = {"year": 4, "month": 7, "date": 10, "hour": 13}
PATHS = frozenset({"input", "inputs", "output", "output_dir"})
VALUES = frozenset(
    {"dataset", "source_id", "checksum", "checksum8", "key", "name", "stem", "suffix", "parent", "stage", "version"}
    | _TIMES.keys()
)


class OutsideError(ValueError):
    """A path of an output that is not below the output directory."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the output {path!r:.200} is not used: {reason}")


def placeholders(text: str) -> set[str]:
    """Return the names of the placeholders in a text."""
    return set(_PLACEHOLDER.findall(text))


def unknown_placeholder(text: str, *, paths: bool) -> str | None:
    """Return a placeholder in this text that means nothing, or None. `paths`: whether those of a command are allowed."""
    known = VALUES | PATHS if paths else VALUES
    return next((name for name in sorted(placeholders(text)) if name not in known), None)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its placeholders replaced; one without a value stays."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def values_of(stage: Stage, item: Item) -> dict[str, str]:
    """Return the values of an item's placeholders, as they are."""
    return {
        **row_values(item.inputs[0].row, item.ts),
        "dataset": item.dataset,
        "source_id": item.source_id,
        "checksum": item.checksum,
        "checksum8": item.checksum[:8],
        "key": item.key,
        "stage": stage.name,
        "version": stage.version,
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
        **{word: ts[:length] for word, length in _TIMES.items()},
    }


def output_name(pattern: str, values: Mapping[str, str]) -> str:
    """Return the path of an output, relative to the output directory. Raises `OutsideError`."""
    found = _PLACEHOLDER.sub(lambda one: _safe(one[1], values[one[1]]) if one[1] in values else one[0], pattern)
    return checked(found)


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
    """Return a relative path in its only spelling. Raises `OutsideError` if it would leave the output directory."""
    if os.path.isabs(name):
        raise OutsideError(name, "expected a path below the output directory, without a leading slash")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if wrong := next(filter(None, map(_problem, parts)), None):
        raise OutsideError(name, f"a part of it {wrong}")
    if not parts:
        raise OutsideError(name, "it is empty")
    return "/".join(parts)


def alternate(path: str, checksum: str) -> str:
    """Return the path for content whose first choice holds other content."""
    directory, name = os.path.split(path)
    stem, suffixes = safe_names.split_suffixes(name)
    return os.path.join(directory, f"{stem}-{checksum[:CHECKSUM_DIGITS]}{suffixes}")


class GroupKey:
    """The key of a record's group, by the stage's `group_by`."""

    def __init__(self, stage: str, group_by: str) -> None:
        self._field = group_by if group_by in ("dataset", "source_id") else None
        self._template = group_by if "{" in placeholder_marks(group_by) else None
        self._pattern: re.Pattern[str] | None = None
        if self._field is None and self._template is None:
            try:
                self._pattern = re.compile(group_by)
            except re.error as error:
                raise StageError(stage, "group_by", f"{group_by!r:.80} is no regular expression: {error}") from None
            if not self._pattern.groups:
                reason = f"{group_by!r:.80} is neither dataset nor source_id, and has no placeholder and no group"
                raise StageError(stage, "group_by", reason)

    def of(self, row: Row) -> str | None:
        """Return the key of the record's group; None if it is in none."""
        if self._field is not None:
            return str(row[self._field])
        if self._template is not None:
            return expand(self._template, row_values(row, row["ts_downloaded"]))
        assert self._pattern is not None
        found = self._pattern.search(row["file_path"])
        return None if found is None else "/".join(text for text in found.groups() if text is not None)


def placeholder_marks(group_by: str) -> str:
    """Return `{` if the text has a placeholder of a record, and not only braces, as a regular expression has."""
    return "{" if placeholders(group_by) & VALUES else ""
