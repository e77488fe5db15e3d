"""Beginning from a manifest that was built once for a run (`writers.built`), as often as a benchmark wants.

A beginning has no history. It has the same main files by hard links: nobody writes into those, they are only ever replaced by rename. The
log is written into, so it is copied. (A copy of the canonical would have another inode, and the index would not fit it.)
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def begin(place: Path, target: Path) -> None:
    """A manifest like that of `place`, in a new directory on the same disk."""
    target.mkdir()
    for path in place.iterdir():
        if ".wal-" in path.name:
            shutil.copy2(path, target)
        elif path.suffix != ".lock" and path.is_file():
            os.link(path, target / path.name)
