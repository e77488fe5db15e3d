"""Texts of the command line that are recorded: what a manifest cannot hold is a usage error."""

import typer


def recordable(value: str | None) -> str | None:
    """An option's text, checked: some text, and UTF-8 as everything in a manifest is."""
    if value == "":
        raise typer.BadParameter("it must not be empty")
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is not UTF-8, and could not be recorded") from None
    return value
