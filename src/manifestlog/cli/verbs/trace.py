"""`trace`: print which files a file was made from, back to the downloads, and which files were made from it."""

import os
from contextlib import ExitStack
from typing import Annotated

import typer

from manifestlog import history
from manifestlog.cli import histories, validators
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import lineage_view, output
from manifestlog.history import Recorded
from manifestlog.model.lineage import Lineage
from manifestlog.model.rows import normal_checksum
from manifestlog.tracing import trace as explore

_SCHEMA_VERSION = 1

_WhatArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CHECKSUM|PATH",
        callback=validators.recordable,
        help="Content: its SHA-256 (at least 6 digits of a recorded one), or the path of its file.",
        show_default=False,
    ),
]
_SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="ID",
        callback=validators.recordable,
        help="Instead of CHECKSUM or PATH: the latest content of a source.",
    ),
]
_DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", metavar="NAME", callback=validators.recordable, help="Only in this dataset; requires --source."
    ),
]


def trace(
    settings: Settings,
    what: _WhatArgument = None,
    *,
    source: _SourceOption = None,
    dataset: _DatasetOption = None,
    up: Annotated[bool, typer.Option("--up", help="Only what the content was made from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what was made from the content.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flow chart.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print a Graphviz graph.")] = False,
) -> int:
    """Print where a file comes from and what was made from it.

    Searches all manifests of the directory. Follows derivations up to each download, with its URL, ETag and time, and
    down to everything made from the content. A relative PATH begins at the working directory or at a manifest's root. Exits
    with 1 if no manifest knows the content.
    """
    if (what is None) == (source is None):
        raise typer.BadParameter("give exactly one of them", param_hint="CHECKSUM|PATH / --source")
    if dataset is not None and source is None:
        raise typer.BadParameter("requires --source", param_hint="--dataset")
    if mermaid + dot + settings.as_json > 1:
        raise typer.BadParameter("give at most one of them", param_hint="--json / --mermaid / --dot")
    up, down = (up or not down), (down or not up)
    with ExitStack() as stack, output.ignore_broken_pipe():
        asked = histories.Asked(settings, None, stack)
        checksum = None if what is None else _checksum(asked.manifests, what)
        path = what if checksum is None else None
        found = explore(
            asked.manifests, checksum=checksum, path=path, source_id=source, dataset=dataset, up=up, down=down
        )
        if settings.as_json:
            output.document(_document(found, up=up, down=down))
        else:
            lines = lineage_view.text(found, up=up, down=down)
            for line in lineage_view.mermaid(found) if mermaid else lineage_view.dot(found) if dot else lines:
                output.stream(line)
    return asked.exit_code()


def _checksum(manifests: list[Recorded], text: str) -> str | None:
    """Return the checksum that the argument means, or None if it is a path."""
    if normal_checksum(text) is not None:
        return text
    if len(text) < history.PREFIX_DIGITS_MIN or not history.are_digits(text) or os.path.exists(text):
        return None
    found = history.checksums_from(manifests, text)
    if len(found) > 1:
        raise typer.BadParameter(f"{len(found):,} records begin with {text}: give more digits", param_hint="CHECKSUM")
    return found.pop() if found else None


def _document(found: Lineage, *, up: bool, down: bool) -> dict[str, object]:
    contents = [
        {"checksum": checksum, "deliveries": [one._asdict() for one in deliveries]}
        for checksum, deliveries in found.contents.items()
    ]
    return {
        "schema_version": _SCHEMA_VERSION,
        "starts": list(found.starts),
        "up": up,
        "down": down,
        "contents": contents,
        "derivations": [one._asdict() for one in found.derivations],
    }
