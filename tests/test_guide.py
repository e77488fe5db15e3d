"""The guide does what it says: its blocks are run one after another, as a reader would.

What a block is, its first line tells:

- a language and a name: a file, written into the folder;
- `sh` alone: commands; `text` alone, below them: what they print;
- a comment `<!-- at the server`: what happens there in the meantime;
- `crontab`, and `ExecStart=` of units: lines whose commands are run as well; `console`, and `text` with a name: not run here.

In what is printed, `…` stands for anything, in a line or as lines; times are not compared, nor is the order of lines.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from manifestlog.extract import load_config

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "GUIDE.md").read_text("utf-8")
SOURCE = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "src").rglob("*.py")))

HOST = "https://dumps.example.org"
FOLDER = "/srv/etl"
SIZES = {"systems": 3_400_000, "bodies": 1_900_000, "stations": 640_000, "prices": 210_000}
OF_THE_SYSTEM = ("No space left on device", "claimed", "interrupted")

_BLOCK = re.compile(
    r"^(?:```(\w+)(?: ([^\n]+))?\n(.*?)^```|<!-- (at the server)\n(.*?)^-->)$", re.MULTILINE | re.DOTALL
)
_DURATION = re.compile(r"\b[\d,]+(?:\.\d+)? m?s\b")


class Block(NamedTuple):
    kind: str
    name: str | None
    text: str


def blocks() -> Iterator[Block]:
    for found in _BLOCK.finditer(GUIDE):
        kind, name, text, server, done = found.groups()
        yield Block(server, None, done) if server else Block(kind, name, text)


class Reader:
    """Somebody who does what the guide says, in a folder of their own."""

    def __init__(self, home: Path, site: Path, url: str) -> None:
        self.home, self.site, self.url = home, site, url
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MANIFESTLOG", "DUMPS"))}
        search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = environment | {"PATH": search, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        self.said = ""
        self.missing: list[str] | None = None
        (home / ".venv").symlink_to(sys.prefix)

    def follow(self, block: Block) -> None:
        if block.name and block.kind != "text":
            (self.home / block.name).write_text(self._here(block.text), "utf-8")
        elif block.kind == "sh":
            self.said = self.run(block.text)
        elif block.kind == "text" and not block.name:
            check(self.said, block.text)
        elif block.name == "the folder":
            shown = [line.split()[0] for line in block.text.splitlines()]
            self.missing = [name for name in shown if not (self.home / name).exists()]
        elif block.kind == "at the server":
            subprocess.run(["sh", "-ec", block.text], cwd=self.site, check=True)

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
        return done.stdout.replace(str(self.home), FOLDER).replace(self.url, HOST)

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._here(command).split(), cwd="/", env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def _here(self, text: str) -> str:
        return text.replace(HOST, self.url).replace(FOLDER, str(self.home))


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


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader at the end of the guide; the server still runs."""
    base = tmp_path_factory.mktemp("guide")
    home, site = base / "etl", base / "site"
    home.mkdir()
    site.mkdir()
    for name, size in SIZES.items():
        (site / f"{name}.json.gz").write_bytes(random.Random(name).randbytes(size))
    command = [sys.executable, str(ROOT / "docs" / "demo" / "serve.py"), str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            one = Reader(home, site, server.stdout.readline().strip())
            for block in blocks():
                one.follow(block)
            yield one
        finally:
            server.terminate()


def test_every_example_prints_what_is_shown(reader: Reader) -> None:
    assert reader.said


def test_the_json_and_the_toml_example_name_the_same_files(reader: Reader) -> None:
    secrets = {"DUMPS_KEY": "k", "DUMPS_TOKEN": "t"}
    one, other = (load_config(reader.home / f"etl.config.{kind}", secrets) for kind in ("json", "toml"))
    named = [[(s.source_id, s.dataset, s.url.partition("?")[0]) for s in config.sources] for config in (one, other)]
    assert named[0] == named[1]


def test_the_defaults_shown_are_the_defaults(reader: Reader) -> None:
    one, other = (
        load_config(reader.home / f"etl.config.{kind}", {"DUMPS_KEY": "k", "DUMPS_TOKEN": "t"})
        for kind in ("json", "toml")
    )
    assert other.defaults.model_copy(update={"headers": {}}) == one.defaults


def test_the_cron_line_fetches_and_says_nothing(reader: Reader) -> None:
    (block,) = (block for block in blocks() if block.kind == "crontab")
    command = block.text.splitlines()[-1].split(maxsplit=5)[5]
    assert reader.run(command) == ""


def test_the_unit_of_the_nightly_job_runs_the_same_script(reader: Reader) -> None:
    text = (reader.home / "manifestlog-extract.service").read_text()
    (command,) = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
    assert command == str(reader.home / "nightly.sh")


def test_the_unit_that_compacts_runs_until_it_is_ended(reader: Reader) -> None:
    (command,) = re.findall("^ExecStart=(.*compact.*)$", GUIDE, re.MULTILINE)
    with reader.start(command) as service:
        assert service.stderr
        service.stderr.readline()  # it says that it has begun
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0


def test_the_folder_looks_as_shown(reader: Reader) -> None:
    assert reader.missing == []


def _explained() -> list[str]:
    section = GUIDE.partition("| what you see |")[2].partition("\n\n")[0]
    return [told for row in section.splitlines()[2:] for told in re.findall("`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("told", [told for told in _explained() if not told.startswith((".", *OF_THE_SYSTEM))])
def test_every_message_that_is_explained_is_one_of_ours(told: str) -> None:
    assert told.removeprefix("HTTP 404: ") in SOURCE
