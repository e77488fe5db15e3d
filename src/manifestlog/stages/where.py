"""Selects the upstream records that a stage processes.

Invariants:

- The same record and judgement give the same answer: it reads no clock and no file.
- A record that was judged invalid passes only a condition that asks for invalid ones.

It works on rows, so that a million of them are filtered without models.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from manifestlog.model.rows import normal_time, observations
from manifestlog.stages.errors import StageError

if TYPE_CHECKING:
    from manifestlog.model.rows import Row

JUDGEMENTS = ("valid", "invalid", "any")
_COLUMNS = {"dataset": "dataset", "source": "source_id", "path": "file_path"}
"""The conditions that are patterns, and the members of a row that they are for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The conditions of a stage. A record passes if it meets all of them. Raises `StageError` for an invalid one."""

    dataset: str | tuple[str, ...] | None = None
    """A dataset, or several. The shell's wildcards `*`, `?` and `[…]` are allowed, here and in `source`."""
    source: str | tuple[str, ...] | None = None
    """A source_id, or several."""
    since: str | None = None
    """The earliest `ts_downloaded`: an ISO-8601 date or time; without a zone it is UTC."""
    until: str | None = None
    """`ts_downloaded` must be before this."""
    path: str | None = None
    """A pattern for the file's path as recorded, with the shell's wildcards; `*` also matches `/`."""
    judgement: str | None = None
    """`valid`: only records that the upstream stage judged valid. `invalid`: only those it judged invalid. `any`: all.
    [default: all except those judged invalid]"""

    _patterns: tuple[tuple[str, re.Pattern[str]], ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if self.judgement not in (None, *JUDGEMENTS):
            raise StageError("", "where.judgement", f"expected valid, invalid or any, got {self.judgement!r:.40}")
        for name in ("since", "until"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, _moment(name, text))
        given = ((key, column, getattr(self, key)) for key, column in _COLUMNS.items())
        found = tuple((column, _pattern(key, texts)) for key, column, texts in given if texts is not None)
        object.__setattr__(self, "_patterns", found)

    @property
    def admits_all(self) -> bool:
        """Whether there is no condition but the judgement's."""
        return not (self._patterns or self.since or self.until)

    def admits(self, row: Row) -> bool:
        """Return whether an observation of this row meets every condition but the judgement's."""
        return self.admits_all or any(map(self._admits_one, observations(row)))

    def _admits_one(self, seen: Row) -> bool:
        when = seen["ts_downloaded"][:-1]
        if self.since is not None and when < self.since[:-1]:
            return False
        if self.until is not None and when >= self.until[:-1]:
            return False
        return all(pattern.fullmatch(seen[name]) for name, pattern in self._patterns)

    def accepts(self, judgement: str | None) -> bool:
        """Return whether a record with this latest judgement passes: `valid`, `invalid` or None."""
        if self.judgement is None:
            return judgement != "invalid"
        return self.judgement in ("any", judgement)

    def members(self) -> dict[str, object]:
        """Return the given conditions by name, for messages and as a key."""
        names = ("dataset", "source", "since", "until", "path", "judgement")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def _moment(name: str, text: str) -> str:
    try:
        return normal_time(text)[0]
    except ValueError:
        raise StageError("", f"where.{name}", f"expected an ISO-8601 date or time, got {text!r:.60}") from None


def _pattern(key: str, texts: str | Iterable[str]) -> re.Pattern[str]:
    some = tuple(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else (texts,)
    if not all(isinstance(text, str) for text in some):
        raise StageError("", f"where.{key}", f"expected a pattern, or several, got {texts!r:.60}")
    return re.compile("|".join(f"(?:{fnmatch.translate(text)})" for text in some))
