"""The errors of stages and their exit codes.

::

    ManifestError
    ├── StageError                 2   also ValueError: a definition is not usable; nothing was run
    │   └── NoFunctionError        2   `package.module:name` cannot be loaded
    └── CommandNotStartedError     1   the command cannot be started, for no item

Invariants:

- Every message names the stage and the field, says what is wrong and what to do.

The failure of one item is not an exception of a run: it is an event of the manifest and a line of the report. `OutputError`
is raised on the way there.
"""

from __future__ import annotations

from typing import ClassVar

from manifestlog.errors import ManifestError


class StageError(ManifestError, ValueError):
    """A stage's definition is invalid; `stage` is its name, `field` the field, or "" for the whole stage."""

    exit_code = 2
    _fields: ClassVar[tuple[str, ...]] = ("stage", "field", "reason")

    def __init__(self, stage: str, field: str, reason: str) -> None:
        super().__init__(": ".join(filter(None, (f"stage {stage}" if stage else "", field, reason))))
        self.stage = stage
        self.field = field
        self.reason = reason


class NoFunctionError(StageError):
    """The function of a stage cannot be loaded."""


class OutputError(Exception):
    """An output cannot be recorded: a failure of its item, whose text this is."""


class CommandNotStartedError(ManifestError):
    """The command of a stage cannot be started at all, for any item; `program` is its first word."""

    _fields: ClassVar[tuple[str, ...]] = ("program", "reason", "stage")

    def __init__(self, program: str, reason: str, stage: str = "") -> None:
        whose = f"stage {stage}: " if stage else ""
        super().__init__(f"{whose}{program}: the command cannot be started: {reason}")
        self.program = program
        self.reason = reason
        self.stage = stage
