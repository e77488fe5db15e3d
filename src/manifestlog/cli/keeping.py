"""The option `--history` of the verbs that compact: how much history they keep."""

from typing import Annotated

import typer

from manifestlog.options import FOREVER, HISTORY_RULE, parse_history


def _checked(value: str | None) -> str | None:
    try:
        if value is not None:
            parse_history(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def _option(default: str) -> typer.models.OptionInfo:
    text = f"How much of the history to keep: {HISTORY_RULE} [default: {default}]."
    found: typer.models.OptionInfo = typer.Option(
        "--history", metavar="KEEP", callback=_checked, help=text, show_default=False
    )
    return found


HistoryOption = Annotated[str | None, _option(FOREVER)]
ConfiguredHistoryOption = Annotated[str | None, _option("as configured")]
