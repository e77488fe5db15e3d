"""Follow a page of the documentation as a reader would: its blocks are run one after another.

The first line of a block says what it is:

- a language and a name: a file, written into the directory;
- `sh` alone: commands; `text` alone, below them: their output;
- a comment `<!-- at the server`: commands that change the server's files; `<!-- with another tool`: commands of the reader that
  stand for a program that the tests do not have;
- `crontab`, and `ExecStart=` of units: commands that a test of their own runs; `console`, and `text` with a name: not run.

In output, `…` stands for any text, within a line or as whole lines. Durations and the order of lines are not compared.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from support import s3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import Server
    from support.s3 import S3

ROOT = Path(__file__).parents[2]
HOST = "https://dumps.example.org"
FOLDER = "/srv/etl"
DATABASE_HOST = "db.example.org"
BUCKET = "s3://example-galaxy"
SIZES = {"systems": 3_400_000, "bodies": 1_900_000, "stations": 640_000, "prices": 210_000}

_BLOCK = re.compile(
    r"^(?:```(\w+)(?: ([^\n]+))?\n(.*?)^```|<!-- (at the server|with another tool)\n(.*?)^-->)$",
    re.MULTILINE | re.DOTALL,
)
_DURATION = re.compile(r"\b[\d,]+(?:\.\d+)? m?s\b")


class Block(NamedTuple):
    kind: str
    name: str | None
    text: str


def blocks(page: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(page):
        kind, name, text, server, done = found.groups()
        yield Block(server, None, done) if server else Block(kind, name, text)


class Reader:
    """Run the blocks in a directory of its own, against a server of its own."""

    def __init__(self, home: Path, site: Path, url: str) -> None:
        self.home, self.site = home, site
        self.printed_by_cron: str | None = None
        self._real = {HOST: url, FOLDER: str(home)}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MANIFESTLOG", "DUMPS"))}
        search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = environment | {"PATH": search, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        self.said = ""
        self.missing: list[str] | None = None
        (home / ".venv").symlink_to(sys.prefix)

    def follow(self, block: Block) -> None:
        if block.name and block.kind != "text":
            (self.home / block.name).write_text(self._here(block.text), "utf-8")
        elif block.kind in ("sh", "with another tool"):
            self.said = self.run(block.text)
        elif block.kind == "text" and not block.name:
            check(self.said, block.text)
        elif block.name == "the directory":
            shown = [line.split()[0] for line in block.text.splitlines()]
            self.missing = [name for name in shown if not (self.home / name).exists()]
        elif block.kind == "at the server":
            subprocess.run(["sh", "-ec", block.text], cwd=self.site, check=True)

    def give(self, database: Server, store: S3) -> None:
        """Let the pages' database server and bucket be these."""
        self._real |= {DATABASE_HOST: "127.0.0.1", BUCKET: f"s3://{s3.BUCKET}"}
        passwords = self.home / "pgpass"
        passwords.write_text(
            "*:*:*:etl_owner:one-long-password\n*:*:*:etl:another-long-password\n*:*:*:etl_reader:a-third-one\n",
            "utf-8",
        )
        passwords.chmod(0o600)
        search = f"{self.environment['PATH']}:{database.programs}"
        self.environment |= store.environ | {"PATH": search, "PGPORT": str(database.port), "PGPASSFILE": str(passwords)}

    def run(self, commands: str) -> str:
        done = subprocess.run(
            ["sh", "-c", self._here(commands)],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=50,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}"
        said = done.stdout
        for shown, real in self._real.items():
            said = said.replace(real, shown)
        return said

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._here(command).split(), cwd="/", env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def _here(self, text: str) -> str:
        for shown, real in self._real.items():
            text = text.replace(shown, real)
        return text


def check(said: str, shown: str) -> None:
    """Every shown line was said; and when nothing is left out, no other."""
    lines = [_DURATION.sub("0 s", line) for line in said.splitlines()]
    wanted = [_DURATION.sub("0 s", line) for line in shown.splitlines()]
    for line in filter("…".__ne__, wanted):
        pattern = re.compile(".+".join(map(re.escape, line.split("…"))))
        found = next((one for one in lines if pattern.fullmatch(one)), None)
        assert found is not None, f"not said: {line}\n{said}"
        lines.remove(found)
    assert not lines or "…" in wanted, f"not shown: {lines}"


@contextmanager
def reading(base: Path) -> Iterator[Reader]:
    """Start the server with its four files; yield a reader of them, and stop the server."""
    home, site = base / "etl", base / "site"
    home.mkdir()
    site.mkdir()
    for name, size in SIZES.items():
        (site / f"{name}.json.gz").write_bytes(random.Random(name).randbytes(size))
    command = [sys.executable, str(ROOT / "docs" / "demo" / "serve.py"), str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            yield Reader(home, site, server.stdout.readline().strip())
        finally:
            server.terminate()
