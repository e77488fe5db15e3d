"""Fuzz one target with coverage guidance: `python tests/fuzz/run.py TARGET [libFuzzer's options and folders]`; `make fuzz`.

Needs the extra `fuzz` (atheris); replaying what was kept needs nothing (`test_corpus`).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["manifestlog"]):
    from fuzz.targets import TARGETS


def main() -> None:
    name = sys.argv[1]
    logging.getLogger("manifestlog").propagate = False  # a warning costs more than an input
    # What libFuzzer calls itself by, when it merges in a process of its own.
    itself = f"{sys.executable} {__file__} {name}"
    atheris.Setup([itself, *sys.argv[2:]], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
