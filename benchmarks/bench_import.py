"""What importing costs: the package, all its public names, and the libraries that it stands on.

A process of its own for every sample, in turns; the bare interpreter is taken off, since everybody pays for it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement

_BARE = "pass"
_NAMES = "import manifestlog; [getattr(manifestlog, name) for name in manifestlog.__all__]"
_STATEMENTS = {
    "import manifestlog": {
        peers.REFERENCE: "import manifestlog",
        "pydantic, orjson, filelock": "import pydantic, orjson, filelock",
    },
    "all public names": {
        peers.REFERENCE: _NAMES,
        "pydantic, orjson, filelock": "import pydantic, orjson, filelock",
        "the same with BaseModel": "from pydantic import BaseModel; import orjson, filelock",
    },
}


def _once(statement: str, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    return 1e3 * (time.perf_counter() - began)


def run(context: Context) -> Iterator[Measurement]:
    """Every statement, round by round."""
    statements = [_BARE, *dict.fromkeys(text for group in _STATEMENTS.values() for text in group.values())]
    times: dict[str, list[float]] = {text: [] for text in statements}
    environment = context.child_environment()
    for text in statements:
        _once(text, environment)  # compiles what was never compiled
    for turn in range(context.rounds or context.pick(3, 21, 41)):
        for text in harness.rotated(statements, turn):
            times[text].append(_once(text, environment))
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


WORKLOAD = harness.Workload("import: what the package's names cost to load", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
