"""Texts of the command line: what names nothing, or what a manifest cannot hold, is a usage error.

Invariants:

- An empty text is never a path: it is mostly a variable that is not set, and would mean the working folder.
"""

import typer


def filled(value: str | None) -> str | None:
    """An option's or argument's text, which is not empty."""
    if value == "":
        raise typer.BadParameter("it must not be empty")
    return value


def all_filled(values: list[str] | None) -> list[str] | None:
    """The same for one that may be repeated."""
    for value in values or ():
        filled(value)
    return values


def recordable(value: str | None) -> str | None:
    """An option's text, checked: some text, and UTF-8 as everything in a manifest is."""
    filled(value)
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is not UTF-8, and could not be recorded") from None
    return value
