"""Draw docs/demo.svg, the terminal picture of the README: `make picture`.

Invariants:

- Every line of output comes from a command that this program runs against a server on this machine.
- The same code gives the same picture: files, times and durations are fixed, and one transfer at a time keeps the order of sources.
- The picture loads no font, script or other resource.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
SHOWN_AS = "/srv/etl"
SIZES = {"systems": 3_400_000, "bodies": 1_900_000}
PUBLISHED = 1_767_225_600  # 2026-01-01; it is in the server's ETags
COMMANDS = (
    "manifestlog extract etl.config.json",
    "manifestlog extract etl.config.json | tail -n 1  # the second run",
    "manifestlog get galaxy_download --source systems",
)
VARYING = (
    (re.compile(r"\b\d+\.\d m?s\b"), "0.2 s"),
    (re.compile(r"\b20\d\d-\d\d-\d\dT[\d:.]+Z"), "2026-01-02T03:30:00.000000Z"),
)

# The template of rich without its web font, so that a reader's browser contacts no other server.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: Menlo, Consolas, DejaVu Sans Mono, monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{
        font-size: 18px;
        font-weight: bold;
        font-family: sans-serif;
    }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def make_site(site: Path) -> None:
    """Write the files that the server publishes."""
    site.mkdir()
    for name, size in SIZES.items():
        path = site / f"{name}.json.gz"
        path.write_bytes(random.Random(name).randbytes(size))
        os.utime(path, (PUBLISHED, PUBLISHED))


def configuration(url: str) -> str:
    sources = [{"source_id": name, "dataset": "galaxy", "url": f"{url}/{name}.json.gz"} for name in SIZES]
    directories = {"manifests_dir": "manifests", "data_dir": "data", "manifest": "galaxy_download"}
    return json.dumps({"etl_version": "1.0.0", **directories, "defaults": {"connections": 1}, "sources": sources})


def run(command: str, home: Path) -> str:
    """Run a command as in a terminal; return its output with fixed times, durations and paths."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MANIFESTLOG")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    said = done.stdout.replace(str(home), SHOWN_AS)
    for pattern, text in VARYING:
        said = pattern.sub(text, said)
    return said


def transcript(base: Path) -> list[tuple[str, str]]:
    """Run all commands in this directory; return each with its output."""
    home, site = base / "etl", base / "site"
    home.mkdir()
    make_site(site)
    command = [sys.executable, str(HERE / "demo" / "serve.py"), str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            (home / "etl.config.json").write_text(configuration(server.stdout.readline().strip()))
            return [(command, run(command, home)) for command in COMMANDS]
        finally:
            server.terminate()


def draw(shown: list[tuple[str, str]]) -> str:
    """Return the picture of a terminal that shows these commands and their output."""
    width = max(len(line) for command, said in shown for line in (f"$ {command}", *said.splitlines()))
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for number, (command, said) in enumerate(shown):
        console.print(Text.assemble("\n" if number else "", ("$ ", "green"), (command, "bold")))
        console.print(Text(said.removesuffix("\n")))
    console.print()
    return console.export_svg(title="manifestlog", code_format=SVG, unique_id="demo")


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "demo.svg"
    with tempfile.TemporaryDirectory() as base:
        target.write_text(draw(transcript(Path(base).resolve())), "utf-8")


if __name__ == "__main__":
    main()
