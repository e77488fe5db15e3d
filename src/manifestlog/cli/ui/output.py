"""Prints data on stdout and messages on stderr.

Invariants:

- Every message is one line, whatever characters file names and errors contain.
- Colour appears only on a terminal, and only if NO_COLOR is unset.

It does not decide exit codes.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, AnyStr, Literal

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import missing
from manifestlog.cli.ui.fit import below, fit, fits
from manifestlog.error_texts import explained
from manifestlog.errors import TO_READ, ManifestNotFoundError

if TYPE_CHECKING:
    from rich.table import Table

PROGRAM = "manifestlog"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_UNIT_STEP = 1000
_CHECKSUM_DIGITS = 12
_TEXTS_AT_ONCE = 1000
_GAP = 3
"""Width of the gap between two columns of a table on a terminal."""
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""DEL, the C1 control characters (0x9b starts a sequence, as ESC [ does), and the bidirectional controls."""


def prepare_streams() -> None:
    """Make stdout UTF-8 in every locale, and open the null device in place of a closed stream."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 -- open until the process exits
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Treat a closed pipe (`| head`) as success, for verbs that only print."""
    try:
        yield
        flush()
    except BrokenPipeError:
        close_stdout()


def close_stdout() -> None:
    """Redirect stdout to the null device, so that the flush at exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def clean(text: object) -> str:
    """Escape the text, so that it stays on one line and cannot control a terminal."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in shown)


def human_bytes(count: float) -> str:
    """Format a size: `1.2 MB`."""
    for unit in _UNITS[:-1]:
        if count < _UNIT_STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _UNIT_STEP
    return f"{count:.1f} {_UNITS[-1]}"


def human_seconds(seconds: float) -> str:
    """Format a duration: `3.2 ms`, `41.0 s`."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def human_age(seconds: float) -> str:
    """Format an age in its largest unit: `5 min`, `26 h`, `9 d`."""
    for unit, length_s, limit in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < limit * length_s:
            return f"{int(seconds / length_s)} {unit}"
    return f"{int(seconds / 86_400):,} d"


def human_time(ts: str | None) -> str:
    """Format a time in UTC, given as ISO-8601 text, to the second: `2024-05-01T12:00:00Z`."""
    return "-" if ts is None else f"{ts[:19]}Z"


def short(checksum: str) -> str:
    """Return the digits that stand for a checksum where people read it."""
    return checksum[:_CHECKSUM_DIGITS]


def line(text: str) -> None:
    """Print one line of data. If the pipe is closed, the verb continues, with the same exit code."""
    try:
        stream(text)
    except BrokenPipeError:
        close_stdout()


def stream(text: str) -> None:
    """Print one line of data. Raises `BrokenPipeError` if the pipe is closed, to end the verb."""
    raw(text + "\n")


def raw(text: str) -> None:
    """Print text as it is: a part of a document, or paths for other programs. Raises as `stream`."""
    _to_stdout(sys.stdout.write, text)


def raw_bytes(data: bytes) -> None:
    """Print bytes as they are. Raises as `stream`."""
    _to_stdout(sys.stdout.buffer.write, data)


def flush() -> None:
    """Print what still waits in this process. Raises as `stream`."""
    _to_stdout(sys.stdout.flush)


def finish() -> None:
    """Print what still waits, such as a help text; a closed pipe is no error."""
    with suppress(BrokenPipeError):
        flush()


def _to_stdout(act: Callable[..., object], *given: str | bytes) -> None:
    """Call a method of stdout. Its error names the stream, and the flush at exit does not fail once more."""
    try:
        act(*given)
    except OSError as error:
        error.filename = "stdout"
        close_stdout()
        raise


def joined(texts: Iterable[AnyStr], between: AnyStr) -> Iterator[AnyStr]:
    """Join many texts into one, to make fewer writes; `between` two of them, and not between two of the results."""
    waiting = iter(texts)
    while some := list(islice(waiting, _TEXTS_AT_ONCE)):
        yield between.join(some)


def json_text(text: str) -> str:
    """Escape every character of a JSON text that could control a terminal. JSON itself escapes only the first 32."""
    if text.isascii() and "\x7f" not in text:  # a fifth of the pattern's time
        return text
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def document(value: object) -> None:
    """Print the JSON document of a run."""
    line(json_text(json.dumps(value, ensure_ascii=False, indent=2)))


def report(settings: Settings, text: str, value: object) -> None:
    """Print a verb's result: JSON with `--json`, else a sentence unless `--quiet`."""
    if settings.as_json:
        document(value)
    elif not settings.quiet:
        line(text)


def error(text: object) -> None:
    """Print an error message, even with `--quiet`."""
    _say(f"{PROGRAM}: {clean(text)}")


def _say(line: str) -> None:
    """Print one line on stderr. If stderr is closed, the verb continues, with the same exit code."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def notice(settings: Settings, text: object) -> None:
    """Print a message, unless `--quiet`."""
    if not settings.quiet:
        error(text)


def detail(settings: Settings, text: object) -> None:
    """Print a message only with `--verbose`."""
    if settings.verbose and not settings.quiet:
        error(text)


def reason(error: BaseException) -> str:
    """Return the message of an error for the user of a command, who cannot follow advice for Python code.

    That of a missing manifest says what is there.
    """
    if isinstance(error, ManifestNotFoundError):
        return missing.sentence(error.path)
    return explained(error).replace(TO_READ, "")


def failure(error: BaseException, exit_code: int) -> dict[str, object]:
    """Return an error as data."""
    return {"error": type(error).__name__, "message": reason(error), "exit_code": exit_code}


def fatal(name: str, message: object, exit_code: int, *, as_json: bool) -> None:
    """Print the error that ends the run: one line, or with `--json` one object on one line."""
    text = clean(" ".join(str(message).split()))
    if as_json:
        _say(json.dumps({"error": name, "message": text, "exit_code": exit_code}))
    else:
        error(text)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    words: Sequence[str] = (),
    least: Sequence[str] = (),
    whole: str | None = None,
) -> None:
    """Print rows under headings; the columns `numbers` are right-aligned.

    On a narrow terminal, moves the column `whole` to lines of its own, in which no word is broken. Then drops the columns
    `least` in their order, and wraps the columns `words` [default: the last one].
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells, numbers, words or columns[-1:], least, whole)
    else:
        _plain_table(columns, cells, numbers)


def _plain_table(columns: Sequence[str], rows: list[list[str]], numbers: Sequence[str]) -> None:
    lines = [list(columns), *rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(columns))]
    for row in lines:
        cells = (
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        )
        line("  ".join(cells).rstrip())


def _rich_table(
    columns: Sequence[str],
    rows: list[list[str]],
    numbers: Sequence[str],
    words: Sequence[str],
    least: Sequence[str],
    whole: str | None,
) -> None:
    from rich.console import Console  # noqa: PLC0415 -- only a terminal needs rich, which takes 60 ms to import

    console = Console()
    widths = {name: max(len(row[i]) for row in [columns, *rows]) for i, name in enumerate(columns)}
    moved = None if whole is None or fits(widths, console.width, gap=_GAP) else whole
    beside = {name: width for name, width in widths.items() if name != moved}
    fitting = fit(beside, console.width, gap=_GAP, words=words, least=least)
    cells = [dict(zip(columns, row, strict=True)) for row in rows]
    if moved is None:
        console.print(_framed(cells, fitting, numbers))
        return
    for number, row in enumerate(cells):
        console.print(_framed([row], fitting, numbers, has_heading=number == 0))
        for text in below(moved, row[moved], console.width):
            console.print(text, markup=False, highlight=False, soft_wrap=True)


def _framed(
    rows: list[dict[str, str]], widths: Mapping[str, int], numbers: Sequence[str], *, has_heading: bool = True
) -> "Table":
    """Return these rows as a table with columns of these widths."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=has_heading)
    for name, width in widths.items():
        justify: Literal["right", "left"] = "right" if name in numbers else "left"
        shown.add_column(name, justify=justify, width=width, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(row[name], style=_style(row[name])) for name in widths))
    return shown


def _style(cell: str) -> str:
    word, reason, _ = cell.partition(":")
    if word == "failed" and not reason:
        return ""  # a column of counts, not a state
    return {
        "ok": "green",
        "to merge": "yellow",
        "warning": "yellow",
        "damaged": "bold red",
        "not a manifest": "bold red",
        "failed": "bold red",
    }.get(word, "")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{PROGRAM}: {record.levelname.lower()}: {clean(record.getMessage())}"


def configure_logging(settings: Settings, *, least: int = logging.WARNING) -> None:
    """Send the library's log messages to stderr, from level `least`; info with `--verbose`, errors only with `--quiet`."""
    logger = logging.getLogger(PROGRAM)
    for old in _listening(logger):
        logger.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    handler.addFilter(_is_not_shown_otherwise)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if settings.quiet else logging.INFO if settings.verbose else least)


def configure_worker_logging(settings: Settings) -> None:
    """Log errors only, in a worker that opens its parent's manifest again: the parent has logged the warnings."""
    configure_logging(settings, least=logging.ERROR)


def _is_not_shown_otherwise(record: logging.LogRecord) -> bool:
    # `extract` itself prints the result of each source.
    return record.levelno > logging.INFO or record.name != f"{PROGRAM}.extract.orchestrator"


def configure_logging_if_spawned(settings: Settings) -> None:
    """Configure logging in a spawned worker. A forked one inherits it, with the stderr of a live display."""
    if not _listening(logging.getLogger(PROGRAM)):
        configure_logging(settings)


def _listening(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if isinstance(handler.formatter, _Lines)]


def record_lines(fields: dict[str, Any]) -> None:
    """Print a record: one field per line, nested ones indented."""
    width = max(map(len, fields))
    for name, value in fields.items():
        if isinstance(value, list):
            line(f"{name}:")
            for item in value:
                line("  - " + (_inline(item) if isinstance(item, dict) else clean(item)))
        else:
            line(f"{name + ':':<{width + 1}} {'-' if value is None else clean(value)}")


def _inline(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {clean(value)}" for name, value in fields.items() if value is not None)
