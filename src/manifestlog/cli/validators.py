"""Validates text arguments: an empty text, and a text that a manifest cannot store, are usage errors.

Invariants:

- An empty text is never used as a path: it usually comes from an unset variable, and would mean the working directory.
"""

import typer


def filled(value: str | None) -> str | None:
    """Return the text of an option or argument. Raises `BadParameter` if it is empty."""
    if value == "":
        raise typer.BadParameter("must not be empty")
    return value


def all_filled(values: list[str] | None) -> list[str] | None:
    """Return the values of a repeatable option or argument. Raises `BadParameter` if one is empty."""
    for value in values or ():
        filled(value)
    return values


def recordable(value: str | None) -> str | None:
    """Return an option's text. Raises `BadParameter` if it is empty or not UTF-8, because a manifest holds only UTF-8."""
    filled(value)
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("must be UTF-8 to be recorded") from None
    return value
