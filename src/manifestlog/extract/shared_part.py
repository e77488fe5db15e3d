"""Creates and publishes parts if workers of other hosts write to the same directory: separate files, and names that
replace none.

It does not decide which worker holds a source.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from manifestlog.extract.data_files import sha256_of
from manifestlog.extract.errors import ExtractError

_WITHOUT_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def inode_of(path: Path) -> int | None:
    """Return the number of a file, or None if it is missing."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def replace_by_copy(path: Path, copy: Path) -> None:
    """Put a copy in the place of a file, so that whoever has it open does not write to what is there now."""
    copy.unlink(missing_ok=True)
    shutil.copyfile(path, copy)
    os.replace(copy, path)


def link(part: Path, file_path: Path, inode: int | None, sha256: str | None) -> bool:
    """Give a part its final name, replacing nothing; return False if other content has it.

    Raises `ExtractError` if the part is not the file with this number, but another worker's.
    """
    try:
        _link(part, file_path)
    except FileExistsError:
        if sha256_of(file_path) != sha256:
            return False
    else:
        if inode_of(file_path) != inode:
            file_path.unlink(missing_ok=True)
            raise ExtractError("another worker has replaced the part; run extract again", str(part))
    part.unlink(missing_ok=True)
    return True


def _link(part: Path, file_path: Path) -> None:
    try:
        os.link(part, file_path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        if os.path.lexists(file_path):
            raise FileExistsError(errno.EEXIST, "the name is taken", str(file_path)) from None
        os.rename(part, file_path)
