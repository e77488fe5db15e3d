"""The entry point of the command line. Only this module turns errors into messages and exit codes.

Exit codes: 0 fine; 1 "no", failed or partial; 2 usage; 10 no such manifest; 11 lock not obtained; 12 damaged;
13 newer format; 130 Ctrl-C.

Invariants:

- An expected failure is one line on stderr. A traceback is a bug in this program.
"""

import sys
from collections.abc import Sequence

from manifestlog.cli import fast_path, startup
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.ui import output
from manifestlog.errors import ManifestError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    if arguments is None:
        startup.begin()
    output.prepare_streams()
    try:
        code = fast_path.answer(given)
        return _run(given, as_json=as_json) if code is None else code
    except CommandError as error:
        output.fatal(error.error, error, error.exit_code, as_json=as_json)
        return error.exit_code
    except ManifestError as error:
        output.fatal(type(error).__name__, output.reason(error), error.exit_code, as_json=as_json)
        return error.exit_code
    except OSError as error:
        output.fatal(type(error).__name__, output.reason(error), 1, as_json=as_json)
        return 1


def _run(given: Sequence[str], *, as_json: bool) -> int:
    from manifestlog.cli.program import run  # noqa: PLC0415 -- it imports typer and the models, which takes four times as long

    return run(given, as_json=as_json)
