"""How a verb becomes what typer takes: a function whose signature has the global options as well."""

import inspect
from collections.abc import Callable
from typing import Any

import typer

from manifestlog.cli.global_options import collect
from manifestlog.cli.invoke import Command, call
from manifestlog.cli.settings import settle


def verb(command: Command) -> Callable[..., None]:
    """Make a verb into what typer takes: with the global options in place of its first parameter."""
    shared = inspect.signature(collect, eval_str=True).parameters

    def run(ctx: typer.Context, **given: Any) -> None:
        after = {name: given.pop(name) for name in shared}
        raise typer.Exit(call(command, settle(ctx.obj or {}, after), given))

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *shared.values()])]
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    # typer reads a function's parameters from these two; there is no other way to share them between verbs.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
