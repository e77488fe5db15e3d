"""What stands around every verb: the global options after it, the library's warnings, quiet ends.

It does not turn errors into exit codes; `app` does, in one place for all of them.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import typer

from manifestlog.cli import output
from manifestlog.cli.settings import Settings, collect, settle

INTERRUPTED = 130
Command = Callable[..., int]
"""A verb: takes the settings and its own arguments, gives the exit code."""


class CommandError(Exception):
    """A verb cannot go on, for a reason that the library has no error for."""

    def __init__(self, message: str, *, error: str = "CommandError", exit_code: int = 1) -> None:
        super().__init__(message)
        self.error = error
        self.exit_code = exit_code


def verb(command: Command) -> Callable[..., None]:
    """Make a verb into what typer takes: with the global options in place of its first parameter."""
    shared = inspect.signature(collect, eval_str=True).parameters

    def run(ctx: typer.Context, **given: Any) -> None:
        after = {name: given.pop(name) for name in shared}
        raise typer.Exit(_call(command, settle(ctx.obj or {}, after), given))

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *shared.values()])]
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    # typer reads a function's parameters from these two; there is no other way to share them between verbs.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _call(command: Command, settings: Settings, given: dict[str, Any]) -> int:
    output.hear_library(settings)
    try:
        code = command(settings, **given)
        _flush()
    except BrokenPipeError:
        output.give_up_stdout()
        return 0  # whoever read has enough (`| head`)
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
