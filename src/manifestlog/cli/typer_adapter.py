"""Adapts a verb for typer: adds the global options to its signature."""

import inspect
from collections.abc import Callable
from typing import Any

import typer

from manifestlog.cli.global_options import collect
from manifestlog.cli.invoke import Command, call
from manifestlog.cli.settings import settle


def verb(command: Command) -> Callable[..., None]:
    """Return a function for typer that takes the global options in place of the verb's first parameter."""
    shared = inspect.signature(collect, eval_str=True).parameters

    def run(ctx: typer.Context, **given: Any) -> None:
        after = {name: given.pop(name) for name in shared}
        raise typer.Exit(call(command, settle(ctx.obj or {}, after), given))

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *shared.values()])]
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    # typer reads the parameters from these two attributes. No other way shares options between verbs.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
