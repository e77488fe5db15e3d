"""A real FTP server on loopback."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD = "etl@example", "p@ss/word"


@contextmanager
def serving(folder: Path, *without: str) -> Iterator[str]:
    """A server of this folder that does not know these commands; gives its address, with user and password."""
    command = [sys.executable, "-m", "support.ftp_program", USER, PASSWORD, str(folder), *without]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout
        try:
            port = int(server.stdout.readline())
            yield f"ftp://{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
        finally:
            server.kill()
