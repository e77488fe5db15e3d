"""Runs a verb: configures logging, and handles Ctrl-C and a closed pipe.

It does not turn errors into exit codes; `app` does.
"""

from collections.abc import Callable, Iterable
from typing import Any

from manifestlog.cli import startup
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output, status_line
from manifestlog.errors import DamagedManifestError

INTERRUPTED = 130
PARTIAL = 1
Command = Callable[..., int]
"""A verb: takes the settings and its own arguments, and returns the exit code."""


class CommandError(Exception):
    """A verb cannot continue, for a reason that is not an error of the library."""

    def __init__(self, message: str, *, error: str = "CommandError", exit_code: int = 1) -> None:
        super().__init__(message)
        self.error = error
        self.exit_code = exit_code


def worst(exit_codes: Iterable[int]) -> int:
    """Return the exit code for several manifests: 12 if one is damaged, else the highest."""
    return max(exit_codes, key=lambda code: (code == DamagedManifestError.exit_code, code), default=0)


def call(command: Command, settings: Settings, given: dict[str, Any]) -> int:
    """Run a verb and return its exit code."""
    output.configure_logging(settings)
    startup.end()
    code = PARTIAL
    try:
        with status_line.shown(settings):
            code = command(settings, **given)
        output.flush()
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`). The exit code is still the verb's.
        output.close_stdout()
        return code
    except KeyboardInterrupt:
        output.notice(settings, "interrupted")
        return INTERRUPTED
    return code
