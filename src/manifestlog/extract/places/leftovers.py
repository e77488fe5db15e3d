"""Finds the parts that earlier runs have left: it lists a directory once, instead of checking for the part of each
source.

Invariants:

- A part that existed when the worker began is found. A part that another run leaves later may be found only by the next
  run.
- A listing reads at most `_ENTRIES_A_LOOK` times as many names as there were single checks before it. So a run of few
  sources does not read all names of a large directory.

Threads share it: at worst, two of them list the same directory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from manifestlog import names

_LOOKS_MIN = 16
_ENTRIES_A_LOOK = 64
"""About as many names are listed in the time of one look."""


class _Directory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._looks, self._looks_before_listing = 0, float(_LOOKS_MIN)
        self.working: frozenset[str] | None = None
        """The names of all parts and states in it; None if it was not listed."""

    def look(self) -> None:
        """Count one more look, and list the directory if that was worth it by now."""
        self._looks += 1
        if self._looks < self._looks_before_listing:
            return
        self._looks_before_listing = 2 * self._looks
        try:
            self.working = self._listed(_ENTRIES_A_LOOK * self._looks)
        except FileNotFoundError:
            self.working = frozenset()
        except OSError:
            self._looks_before_listing = math.inf

    def _listed(self, entries_max: int) -> frozenset[str] | None:
        """Return the names of all parts and states; None if the directory has more entries than this."""
        found: list[str] = []
        with os.scandir(self._path) as entries:
            for number, entry in enumerate(entries):
                if number >= entries_max:
                    return None
                if entry.name.endswith((names.PART, names.PART_STATE)):
                    found.append(entry.name)
        return frozenset(found)


class Leftovers:
    """The directories of one worker."""

    def __init__(self) -> None:
        self._directories: dict[Path, _Directory] = {}

    def may_have(self, part: Path) -> bool:
        """Return whether this part, or its state, may be there."""
        directory = self._directories.get(part.parent)
        if directory is None:
            directory = self._directories[part.parent] = _Directory(part.parent)
        if directory.working is None:
            directory.look()
            return True
        return any(name in directory.working for name in _names_of(part))


def _names_of(part: Path) -> Iterator[str]:
    yield part.name
    yield part.name.removesuffix(names.PART) + names.PART_STATE
