"""What importing costs: the package, all its public names, the libraries that it stands on; and a whole `manifestlog has`.

A process of its own for every sample, in turns; the bare interpreter is taken off, since everybody pays for it. It is
not taken off the whole call: what a pipeline waits for when it asks about one file by the command line.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from benchmarks import harness, peers, step
from benchmarks.harness import Context, Measurement

_BARE = "pass"
_CALL = "manifestlog has"
_NAMES = "import manifestlog; [getattr(manifestlog, name) for name in manifestlog.__all__]"
_LIBRARIES = "pydantic, orjson, filelock"
_STATEMENTS = {
    "import manifestlog": {
        peers.REFERENCE: "import manifestlog",
        _LIBRARIES: f"import {_LIBRARIES}",
    },
    "all public names": {
        peers.REFERENCE: _NAMES,
        _LIBRARIES: f"import {_LIBRARIES}",
        "the same with BaseModel": "from pydantic import BaseModel; import orjson, filelock",
    },
}


def _once(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    return 1e3 * (time.perf_counter() - began)


def _python(statement: str) -> list[str]:
    return [sys.executable, "-c", statement]


def _has(context: Context) -> list[str]:
    """A call of `manifestlog has` that says yes."""
    place = context.directory / "import"
    step.run("build", directory=place, start=0, count=1, slice_records=1)
    (manifest,) = place.glob("*.manifest.json")
    return [sys.executable, "-m", "manifestlog", "has", str(manifest), step.checksum_of(0)]


def _measured(context: Context, commands: dict[str, list[str]]) -> dict[str, list[float]]:
    """Milliseconds of each command, round by round."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    environment = context.child_environment()
    for command in commands.values():
        _once(command, environment)  # compiles what was never compiled
    for turn in range(context.rounds or context.pick(3, 21, 41)):
        for name in harness.rotated(list(commands), turn):
            times[name].append(_once(commands[name], environment))
    return times


def run(context: Context) -> Iterator[Measurement]:
    """Every statement and the whole call, round by round."""
    statements = [_BARE, *dict.fromkeys(text for group in _STATEMENTS.values() for text in group.values())]
    times = _measured(context, {text: _python(text) for text in statements} | {_CALL: _has(context)})
    bare = median(times[_BARE])
    for case, group in _STATEMENTS.items():
        for peer, text in group.items():
            yield Measurement(
                table=f"import (the bare interpreter's {bare:.1f} ms taken off)",
                case={"what": case},
                peer=peer,
                unit="ms",
                more_is_better=False,
                samples=[one - bare for one in times[text]],
                extra={"rounds": len(times[text])},
            )
    for peer, text in {peers.REFERENCE: _CALL, _LIBRARIES: f"import {_LIBRARIES}", "python": _BARE}.items():
        yield Measurement(
            table="command line: a whole process",
            case={"what": _CALL},
            peer=peer,
            unit="ms",
            more_is_better=False,
            samples=times[text],
            extra={"rounds": len(times[text])},
            headline=peer != "python",
        )


WORKLOAD = harness.Workload("import: what the package's names cost to load, and a call of the command line", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
