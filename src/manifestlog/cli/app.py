"""The program: its verbs, and the one place where errors become messages and exit codes.

Exit codes: 0 fine; 1 "no", failed or partial; 2 usage; 10 no such manifest; 11 lock not obtained; 12 damaged;
13 newer format; 130 Ctrl-C.

Invariants:

- An expected failure is one line on stderr, never a traceback; a traceback is a bug of ours.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import manifestlog
from manifestlog.cli import output, settings
from manifestlog.cli.add import add
from manifestlog.cli.cat import cat
from manifestlog.cli.check import check
from manifestlog.cli.compact import compact
from manifestlog.cli.doctor import doctor
from manifestlog.cli.extract import extract
from manifestlog.cli.forget import forget
from manifestlog.cli.get import get
from manifestlog.cli.has import has
from manifestlog.cli.init import init
from manifestlog.cli.list import list_records
from manifestlog.cli.repair import repair
from manifestlog.cli.status import status
from manifestlog.cli.verb import Command, CommandError, verb
from manifestlog.cli.verify import verify
from manifestlog.errors import ManifestError

USAGE = 2
_VERBS: dict[str, Command] = {
    "init": init,
    "add": add,
    "has": has,
    "get": get,
    "list": list_records,
    "cat": cat,
    "status": status,
    "compact": compact,
    "check": check,
    "verify": verify,
    "doctor": doctor,
    "repair": repair,
    "forget": forget,
    "extract": extract,
}
# Newer typers carry a copy of click, older ones import it; the base of their usage errors is found either way.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes in a help text that is piped, in an error, in a log
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 no / failed / partial, 2 usage, 10 no such manifest, 11 lock not obtained, 12 damaged,"
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
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and end.")
    ] = False,
    directory: settings.DirectoryOption = None,
    as_json: settings.JsonOption = False,
    quiet: settings.QuietOption = False,
    verbose: settings.VerboseOption = False,
    lock_timeout: settings.LockTimeoutOption = None,
    no_progress: settings.NoProgressOption = False,
) -> None:
    """Keep the ledger of an ETL pipeline's files: which content came from where, shared by many processes."""
    del version
    ctx.obj = settings.collect(
        directory=directory,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        lock_timeout=lock_timeout,
        no_progress=no_progress,
    )


for _name, _command in _VERBS.items():
    app.command(_name)(verb(_command))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; gives its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    output.prepare_streams()
    try:
        return app(given or ["--help"], prog_name=output.PROGRAM, standalone_mode=False) or 0
    except _UsageError as error:
        output.fatal("UsageError", _usage_message(error), USAGE, as_json=as_json)
        return USAGE
    except CommandError as error:
        output.fatal(error.error, error, error.exit_code, as_json=as_json)
        return error.exit_code
    except ManifestError as error:
        output.fatal(type(error).__name__, error, error.exit_code, as_json=as_json)
        return error.exit_code
    except OSError as error:
        said = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        output.fatal(type(error).__name__, said, 1, as_json=as_json)
        return 1


def _usage_message(error: BaseException) -> str:
    message = getattr(error, "format_message", error.__str__)().removesuffix(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else output.PROGRAM
    return f"{message} (see `{path} --help`)"
