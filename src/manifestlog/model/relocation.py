"""Rewrites the paths of a manifest after a move of directories: pure functions of rows.

Invariants:

- A path below the old directory resolves to the same place below the new one. Every other path resolves as before.
- An absolute path stays absolute. A relative path stays unchanged if the root moves with it.
- The new directory may be a URL: then the root stays, because a manifest's root is local.
- A rewritten row means the same before and after the change of the root, because the two are separate log lines.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from manifestlog.model.roots import below, inside, is_absolute, normal, root_of, rooted, stated
from manifestlog.model.rows import Row
from manifestlog.names import is_url


class Relocation(NamedTuple):
    """The changes of `relocate`, made or planned."""

    records: int
    paths: int
    """Number of rewritten paths, including those of `also_seen`, without relative ones that move with the root."""
    root_dir: str | None
    """The new `root_dir`, or None if it stays."""
    batches: int
    """Number of log lines with the records. Each line is atomic."""


class Move:
    """A move from one absolute directory to another, for one manifest."""

    def __init__(self, folder: str, root_dir: str, old: str, new: str) -> None:
        self._old, self._new = normal(old), normal(new)
        self._root = root_of(root_dir, folder)
        moved = None if is_url(new) else self._moved(self._root)
        self.root_dir: str | None = None
        """The manifest's new root_dir, or None if it stays."""
        if moved is not None and moved != self._root:
            self.root_dir = moved if os.path.isabs(root_dir) else rooted(moved, folder)
        self._root_after = moved or self._root

    def _moved(self, path: str) -> str | None:
        rest = inside(self._old, normal(path))
        return None if rest is None else normal(os.path.join(self._new, rest))

    def path(self, path: str) -> str:
        """Return a recorded path after the move."""
        before = below(self._root, path)
        after = self._moved(before)
        if is_absolute(path):
            return path if after is None else after
        target = normal(before) if after is None else after
        if normal(below(self._root_after, path)) == target:
            return path
        # Absolute if the root moves, because the record must resolve correctly before the root changes too.
        return target if self.root_dir is not None else stated(self._root, target)

    def row(self, row: Row) -> tuple[Row, int]:
        """Return the row after the move, and its number of changed paths."""
        own = self.path(row["file_path"])
        changed = int(own != row["file_path"])
        moved = row | {"file_path": own}
        if "also_seen" in row:
            seen = [one | {"file_path": self.path(one["file_path"])} for one in row["also_seen"]]
            changed += sum(
                one["file_path"] != before["file_path"] for one, before in zip(seen, row["also_seen"], strict=True)
            )
            moved["also_seen"] = seen
        return moved, changed
