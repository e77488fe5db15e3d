"""Validates text arguments: an empty text, and a text that a manifest cannot store, are usage errors.

Invariants:

- An empty text is never used as a path: it usually comes from an unset variable, and would mean the working directory.
"""

import os

import typer

from manifestlog.names import is_url


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


def all_there(values: list[str] | None) -> list[str] | None:
    """Return the paths or URLs of a repeatable option. Raises `BadParameter` if one is empty, or a path leads nowhere."""
    for value in all_filled(values) or ():
        if not is_url(value) and not os.path.exists(value):
            raise typer.BadParameter(f"{value}: no such directory")
    return values


def there(value: str | None) -> str | None:
    """Return the path or URL of an option. Raises `BadParameter` if it is empty, or a path leads nowhere."""
    all_there(None if value is None else [value])
    return value


def recordable(value: str | None) -> str | None:
    """Return an option's text. Raises `BadParameter` if it is empty or not UTF-8, because a manifest holds only UTF-8."""
    filled(value)
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("must be UTF-8 to be recorded") from None
    return value
