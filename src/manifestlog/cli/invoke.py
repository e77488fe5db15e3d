"""What stands around every verb: the library's warnings, quiet ends.

It does not turn errors into exit codes; `app` does, in one place for all of them.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import DamagedManifestError

INTERRUPTED = 130
PARTIAL = 1
Command = Callable[..., int]
"""A verb: takes the settings and its own arguments, gives the exit code."""


class CommandError(Exception):
    """A verb cannot go on, for a reason that the library has no error for."""

    def __init__(self, message: str, *, error: str = "CommandError", exit_code: int = 1) -> None:
        super().__init__(message)
        self.error = error
        self.exit_code = exit_code


def worst(exit_codes: Iterable[int]) -> int:
    """The exit code of a run over several manifests: damage before anything else, then the greatest."""
    return max(exit_codes, key=lambda code: (code == DamagedManifestError.exit_code, code), default=0)


def call(command: Command, settings: Settings, given: dict[str, Any]) -> int:
    """Run a verb; gives its exit code."""
    output.hear_library(settings)
    code = PARTIAL
    try:
        code = command(settings, **given)
        _flush()
    except BrokenPipeError:
        # Whoever read has enough (`| head`). What the verb found out by then is its answer all the same.
        output.give_up_stdout()
        return code
    except KeyboardInterrupt:
        output.remark(settings, "interrupted")
        return INTERRUPTED
    return code


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        output.give_up_stdout()
        raise
