"""What a move of folders does to the paths of a manifest: pure functions of rows.

Invariants:

- A path below the old folder leads to the same place below the new one; every other path leads where it led.
- An absolute path stays absolute. A relative one stays as it is when the root moves along with it.
- A row that has moved means the same before and after the manifest's root has moved: the two are separate lines of the log.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from manifestlog.model.roots import below, inside, root_of, rooted, stated
from manifestlog.model.rows import Row


class Relocation(NamedTuple):
    """What `relocate` has changed, or would change."""

    records: int
    paths: int
    """Paths written anew, those of `also_seen` included. Relative ones that move along with the root are not among them."""
    root_dir: str | None
    """The new `root_dir`; None when it stays."""
    batches: int
    """Lines of the log that hold the records; each is there whole or not at all."""


class Move:
    """A move from one absolute folder to another, as seen by one manifest."""

    def __init__(self, folder: str, root_dir: str, old: str, new: str) -> None:
        self._old, self._new = os.path.normpath(old), os.path.normpath(new)
        self._root = root_of(root_dir, folder)
        moved = self._moved(self._root)
        self.root_dir: str | None = None
        """What the manifest's root_dir becomes; None when it stays."""
        if moved is not None and moved != self._root:
            self.root_dir = moved if os.path.isabs(root_dir) else rooted(moved, folder)
        self._root_after = moved or self._root

    def _moved(self, path: str) -> str | None:
        rest = inside(self._old, os.path.normpath(path))
        return None if rest is None else os.path.normpath(os.path.join(self._new, rest))

    def path(self, path: str) -> str:
        """A recorded path after the move."""
        before = below(self._root, path)
        after = self._moved(before)
        if os.path.isabs(path):
            return path if after is None else after
        target = os.path.normpath(before) if after is None else after
        if os.path.normpath(below(self._root_after, path)) == target:
            return path
        # Absolute where the root moves: the record has to lead there before the root has moved as well.
        return target if self.root_dir is not None else stated(self._root, target)

    def row(self, row: Row) -> tuple[Row, int]:
        """(the row after the move, how many of its paths are others)."""
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
