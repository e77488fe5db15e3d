"""How results and messages look: data on stdout, talk on stderr.

Invariants:

- Every message is one line, whatever file names and errors hold.
- Colour appears only on a terminal that did not ask for none.

It does not decide exit codes.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal

from manifestlog.cli.fit import fit
from manifestlog.cli.settings import Settings
from manifestlog.errors import ManifestError

PROGRAM = "manifestlog"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_UNIT_STEP = 1000
_GAP = 3
"""Between two columns of a table on a terminal."""
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""DEL, the C1 control characters (0x9b begins a sequence as ESC [ does), and what turns the direction of writing."""


def prepare_streams() -> None:
    """Data is UTF-8 whatever the locale; a stream that was closed by the caller swallows what is written."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 -- open to the end of the run
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def until_enough() -> Iterator[None]:
    """For a verb that does nothing but print: whoever stops reading (`| head`) has got what he wanted."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        give_up_stdout()


def give_up_stdout() -> None:
    """Nobody reads any more, or nothing can be written: nobody may find out again when the interpreter flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def clean(text: object) -> str:
    """Text that stays on its line and cannot steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in str(text))


def human_bytes(count: float) -> str:
    """A size for people: `1.2 MB`."""
    for unit in _UNITS[:-1]:
        if count < _UNIT_STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _UNIT_STEP
    return f"{count:.1f} {_UNITS[-1]}"


def human_seconds(seconds: float) -> str:
    """A duration for people: `3.2 ms`, `41.0 s`."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def line(text: str) -> None:
    """One line of data. When nobody reads any more the verb goes on all the same, to the same exit code."""
    try:
        stream(text)
    except BrokenPipeError:
        give_up_stdout()


def stream(text: str) -> None:
    """One line of data of a verb that ends when nobody reads any more: raises `BrokenPipeError` then."""
    sys.stdout.write(text + "\n")


def json_text(text: str) -> str:
    """The same JSON, with every character that could steer a terminal escaped; JSON itself escapes the first 32 only."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def document(value: object) -> None:
    """The one JSON document of a run."""
    line(json_text(json.dumps(value, ensure_ascii=False, indent=2)))


def report(settings: Settings, text: str, value: object) -> None:
    """What a verb did: JSON when asked for, else a sentence unless `--quiet`."""
    if settings.as_json:
        document(value)
    elif not settings.quiet:
        line(text)


def complain(text: object) -> None:
    """Something failed; said even with `--quiet`."""
    _say(f"{PROGRAM}: {clean(text)}")


def _say(line: str) -> None:
    """One line of talk. Where nobody listens the work goes on all the same, to the same exit code."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def remark(settings: Settings, text: object) -> None:
    """Talk that nobody has to read."""
    if not settings.quiet:
        complain(text)


def detail(settings: Settings, text: object) -> None:
    """Talk for the curious."""
    if settings.verbose and not settings.quiet:
        complain(text)


def reason(error: BaseException) -> str:
    """What an error says to people: the system's without their number."""
    if isinstance(error, OSError) and not isinstance(error, ManifestError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def failure(error: BaseException, exit_code: int) -> dict[str, object]:
    """Why something failed, as data."""
    return {"error": type(error).__name__, "message": reason(error), "exit_code": exit_code}


def fatal(error: str, message: object, exit_code: int, *, as_json: bool) -> None:
    """Why the run ends here: one line, or with `--json` one object on one line."""
    text = clean(" ".join(str(message).split()))
    if as_json:
        _say(json.dumps({"error": error, "message": text, "exit_code": exit_code}))
    else:
        complain(text)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    words: Sequence[str] = (),
    least: Sequence[str] = (),
) -> None:
    """Rows under headings; `numbers` are aligned to the right.

    On a terminal that is too narrow, the columns `least` are left out, the first one first, and `words` are wrapped; without
    any, the last column is.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells, numbers, words or columns[-1:], least)
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
    columns: Sequence[str], rows: list[list[str]], numbers: Sequence[str], words: Sequence[str], least: Sequence[str]
) -> None:
    from rich import box  # noqa: PLC0415 -- only a terminal needs it, and a start without it is 60 ms shorter
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    widths = {name: max(len(row[i]) for row in [columns, *rows]) for i, name in enumerate(columns)}
    fitting = fit(widths, console.width, gap=_GAP, words=words, least=least)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, width in fitting.items():
        justify: Literal["right", "left"] = "right" if name in numbers else "left"
        shown.add_column(name, justify=justify, width=width, overflow="fold")
    for row in rows:
        cells = dict(zip(columns, row, strict=True))
        shown.add_row(*(Text(cells[name], style=_style(cells[name])) for name in fitting))
    console.print(shown)


def _style(cell: str) -> str:
    word, reason, _ = cell.partition(":")
    if word == "failed" and not reason:
        return ""  # the name of a count
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


def hear_library(settings: Settings, *, least: int = logging.WARNING) -> None:
    """Bring what the library logs to stderr, from `least` on; all of it with `--verbose`, errors with `--quiet`."""
    logger = logging.getLogger(PROGRAM)
    for old in _listening(logger):
        logger.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    handler.addFilter(_is_not_shown_otherwise)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if settings.quiet else logging.INFO if settings.verbose else least)


def _is_not_shown_otherwise(record: logging.LogRecord) -> bool:
    # What comes of each source is shown by `extract` itself, as its user wants it.
    return record.levelno > logging.INFO or record.name != f"{PROGRAM}.extract.orchestrator"


def hear_library_in_worker(settings: Settings) -> None:
    """The same in a process that was not forked; one that was has all of it, and a stderr that a live display has taken."""
    if not _listening(logging.getLogger(PROGRAM)):
        hear_library(settings)


def _listening(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if isinstance(handler.formatter, _Lines)]


def record_lines(fields: dict[str, Any]) -> None:
    """A record for people: one field a line, nested ones indented."""
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
