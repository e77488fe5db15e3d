"""Answers plain calls of `has` and `extract` before the libraries of the full command line are imported.

Pipelines call `has` once per file, and those imports take longer than starting Python and answering. `extract` needs the
models, but no parser of command lines.

Invariants:

- It accepts plain calls only: the verb, a manifest and a checksum or a configuration, and the options named here. It leaves
  all other command lines, and their mistakes, to the full command line.
- An accepted call means the same in both: they share the code for settings, exit codes and errors.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from manifestlog.cli.invoke import call
from manifestlog.cli.settings import Settings, settle
from manifestlog.cli.ui import output
from manifestlog.engines.registry import open_to_read
from manifestlog.model.rows import normal_checksum

_FLAGS = {
    "--json": "as_json",
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
    "--no-progress": "no_progress",
}


def answer(given: Sequence[str]) -> int | None:
    """Answer a plain `has` or `extract` and return its exit code; return None for any other command line."""
    words, options = _parse(given)
    match words:
        case ["has", manifest, sha256] if (checksum := normal_checksum(sha256)) is not None:
            return _answer_has(settle({}, options), manifest, checksum)
        case ["extract", config] if config and options["directory"] is None:
            return _answer_extract(settle({}, options), config)
        case _:
            return None


def _answer_has(settings: Settings, manifest: str, checksum: str) -> int | None:
    try:
        path = settings.path_of(manifest)
    except ValueError:
        return None
    return call(has, settings, {"path": path, "checksum": checksum})


def _parse(given: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into words and global options. Return no words if it has an unknown option."""
    words: list[str] = []
    options: dict[str, Any] = dict.fromkeys(_FLAGS.values(), False) | {"directory": None, "lock_timeout": None}
    waiting = iter(given)
    for word in waiting:
        if word in _FLAGS:
            options[_FLAGS[word]] = True
        elif word == "--dir" and options["directory"] is None and (directory := next(waiting, "")):
            options["directory"] = directory
        elif word.startswith("-"):
            return [], {}
        else:
            words.append(word)
    return words, options


def has(settings: Settings, path: str, checksum: str) -> int:
    """Look a content up and return the exit code: 0 if it is registered, else 1."""
    with closing(open_to_read(path, settings.options())) as engine:
        known = engine.has(checksum)
    if settings.as_json:
        output.document({"checksum": checksum, "has": known})
    return 0 if known else 1


def _answer_extract(settings: Settings, config: str) -> int:
    # Loaded before `call`, which starts the collector: what is there by then is left out of each collection.
    from manifestlog.cli import extraction  # noqa: PLC0415 -- slow to import, and `has` does not need it
    from manifestlog.extract.config import configuration as configuration  # noqa: PLC0415, PLC0414

    return call(extraction.fetch_all, settings, {"path": config})
