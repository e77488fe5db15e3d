"""Reads and writes the state of a part, in a file beside the part."""

from __future__ import annotations

import os
from pathlib import Path

from manifestlog.extract.part_state import PartState, parsed
from manifestlog.extract.paths import part_state_path


def read_state(part: Path) -> PartState | None:
    """Return the state of a part, or None if it is missing or invalid."""
    try:
        return stored_state(part)
    except (FileNotFoundError, NotADirectoryError):
        return None


def stored_state(part: Path) -> PartState | None:
    """Like `read_state`, but raise the error of a missing file."""
    try:
        return parsed(_read(str(part_state_path(part))))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError:
        return None


def _read(path: str) -> bytes:
    """Return the content of a small file, with as few system calls as possible."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def write_state(part: Path, state: PartState) -> None:
    """Write the state of a part.

    The file is overwritten in place. A crash in the middle costs one download. A rename each time would slow a run over
    small files by a third.
    """
    part_state_path(part).write_text(state.as_text(), encoding="utf-8")
