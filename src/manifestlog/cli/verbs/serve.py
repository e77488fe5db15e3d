"""`serve`: run a PostgreSQL server for development in the foreground."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from manifestlog import names
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.dev_server import DevServer, serving
from manifestlog.server_errors import ServerError


class _AskedToEnd(BaseException):
    """SIGTERM, or the terminal has gone."""


def serve(
    settings: Settings,
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Directory of the server's data: a new or empty one, or one of an earlier `serve`.", show_default=False),
    ],
    *,
    dev: Annotated[
        bool, typer.Option("--dev", help="Required: confirms that this server is for development, not for production.")
    ] = False,
) -> int:  # fmt: skip
    """Run a PostgreSQL server for development.

    Needs `pip install 'manifestlog[dev-server]'`. Prints the URL for --dir and `manifests_dir` when the server is ready.
    Only this user on this machine can connect, through a socket in DIR. If root starts it, the server runs as the user
    postgres or nobody. SIGTERM ends it with exit code 0, Ctrl-C with 130. The data stay in DIR for the next start.
    """
    if not dev:
        why = "this server is for development: it has no backup, no standby and no network; add --dev if that is enough"
        raise typer.BadParameter(why, param_hint="--dev")
    if not names.is_path(folder):
        raise typer.BadParameter(f"{folder}: expected a directory, not a URL", param_hint="DIR")
    with _ended_by_signals(), serving(folder) as server:
        _announce(settings, server)
        server.wait()
        what = "the server has ended unexpectedly"
        raise ServerError(server.directory, what, f"see {server.directory}/log")
    return 0


def _announce(settings: Settings, server: DevServer) -> None:
    if settings.as_json:
        members = ("url", "directory", "pid", "version", "user")
        output.document({name: getattr(server, name) for name in members})
    else:
        output.line(server.url)
    output.flush()
    user = f" as the user {server.user}" if server.user else ""
    what = f"PostgreSQL {server.version} serves {server.directory}{user} until Ctrl-C or SIGTERM; for development only"
    output.notice(settings, what)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End the block at SIGTERM and SIGHUP, without an error."""
    ending = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, _end) for number in ending}
    try:
        yield
    except _AskedToEnd:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _AskedToEnd
