"""Declares the verbs and the global options for typer.

Imports a verb's module only when the verb is called. `app` handles the errors of the library.
"""

import importlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import manifestlog
from manifestlog.cli import global_options
from manifestlog.cli.typer_adapter import verb
from manifestlog.cli.ui import output

USAGE = 2
_VERBS = {
    "init": "init",
    "add": "add",
    "has": "has",
    "get": "get",
    "list": "list_records",
    "cat": "cat",
    "log": "log",
    "runs": "runs",
    "failures": "failures",
    "diff": "diff",
    "copy": "copy",
    "mirror": "mirror",
    "follow": "follow",
    "trace": "trace",
    "status": "status",
    "compact": "compact",
    "check": "check",
    "verify": "verify",
    "doctor": "doctor",
    "repair": "repair",
    "forget": "forget",
    "relocate": "relocate",
    "retime": "retime",
    "undo": "undo",
    "extract": "extract",
    "run": "run",
    "pending": "pending",
    "record": "record",
    "fail": "fail",
    "unused": "unused",
    "serve": "serve",
}
"""The function of each verb, in the module of the same name."""
# Newer versions of typer contain a copy of click, older ones import it. This finds the base class in both.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")


class _Verbs(TyperGroup):
    """Imports a verb's module when the verb is called. Importing all takes six times as long as `has`."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # A mistyped verb loads all, because click suggests a verb from the loaded ones.
        for name in [cmd_name] if cmd_name in _VERBS else _VERBS:
            if name not in self.commands:
                self.commands[name] = _load(name)
        return super().get_command(ctx, cmd_name)


def _load(name: str) -> Any:
    function = getattr(importlib.import_module(f"manifestlog.cli.verbs.{name}"), _VERBS[name])
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(verb(function))
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Verbs,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would draw boxes, also in piped help texts, errors and logs
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 no / failed / partial, 2 usage, 10 no such manifest, 11 lock not obtained, 12 damaged,"
    " 13 newer format, 130 Ctrl-C.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.line(f"{output.PROGRAM} {manifestlog.__version__}")
        raise typer.Exit


@app.callback()
def program(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")
    ] = False,
    directory: global_options.DirectoryOption = None,
    as_json: global_options.JsonOption = False,
    quiet: global_options.QuietOption = False,
    verbose: global_options.VerboseOption = False,
    lock_timeout: global_options.LockTimeoutOption = None,
    no_progress: global_options.NoProgressOption = False,
) -> None:
    """Keep the ledger of an ETL pipeline's files: which content came from where, shared by many processes."""
    del version
    ctx.obj = global_options.collect(
        directory=directory,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        lock_timeout=lock_timeout,
        no_progress=no_progress,
    )


def run(given: Sequence[str], *, as_json: bool) -> int:
    """Run a command line and return its exit code."""
    try:
        return app(given or ["--help"], prog_name=output.PROGRAM, standalone_mode=False) or 0
    except _UsageError as error:
        output.fatal("UsageError", _usage_message(error), USAGE, as_json=as_json)
        return USAGE
    finally:
        output.finish()  # typer prints help texts itself, and would not say that it was stdout which failed


def _usage_message(error: BaseException) -> str:
    message = getattr(error, "format_message", error.__str__)().removesuffix(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else output.PROGRAM
    return f"{message} (see `{path} --help`)"
