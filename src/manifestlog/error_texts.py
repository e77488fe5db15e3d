"""Says what an exception means: where it happened, what failed, and what to do.

Invariants:

- An error of the system comes with its place and with advice, without its number and without the name of its class.
- A text that has advice already, after a semicolon, gets no other.
- An error of the user's own code keeps the name of its class, which may be all that it says.
"""

from __future__ import annotations

import errno
import os

_MAY_NOT = "ask its owner for access, or run this as a user who has it"
_FREE_SPACE = "free some space"
_MORE_FILES = "raise the limit on open files (`ulimit -n`)"
_FEWER = "end other programs, or raise the limits of this user (`ulimit -a`)"
_ADVICE = {
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EROFS: "make the file system writable, or name another place",
    errno.ENOENT: "correct the path, or restore what is missing",
    errno.ENOTDIR: "name a directory, or move away the file in its place",
    errno.EISDIR: "name a file, or move away what is in its place",
    errno.EEXIST: "name another path, or move away what is there",
    errno.ELOOP: "correct the symbolic links of this path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
    errno.EIO: "the device failed: look for the cause in the system's log",
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
    errno.EAGAIN: _FEWER,
    errno.ENOMEM: _FEWER,
}
_OTHER_ADVICE = "remove the cause, then try again"
_OF_A_DIRECTORY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})
"""Errors that belong to the directory above, if the file itself is not there."""


def explained(error: BaseException) -> str:
    """Return the message of an error; that of an error of the system with its place and with advice."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    return f"{_place(error)}: {reason(error)}"


def reason(error: OSError) -> str:
    """Return what failed and what to do, without the place."""
    said = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ELOOP and (target := _target(error)) is not None:
        return f"it is a symbolic link (to {target}), which is not followed here; use the file itself"
    if error.errno is None or ";" in said:
        return said
    return f"{said}; {_ADVICE.get(error.errno, _OTHER_ADVICE)}"


def named(error: BaseException) -> str:
    """Return the class and the text of an error, as Python prints them."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: OSError) -> str:
    path = _path(error)
    if path is None:
        return "the system reports"
    if error.errno in _OF_A_DIRECTORY:  # not the lock file that could not be created, which nobody has named
        while path and not os.path.lexists(path):
            path = os.path.dirname(path)
    return path or os.curdir


def _path(error: OSError) -> str | None:
    name = error.filename
    if name is None:
        return None
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else str(name)


def _target(error: OSError) -> str | None:
    """Return what the symbolic link of an error leads to; None if it is no link, is gone, or leads in a circle."""
    path = _path(error)
    if path is None or os.path.islink(os.path.realpath(path)):  # the way through a circle ends at a link
        return None
    try:
        return os.readlink(path)
    except OSError:
        return None
