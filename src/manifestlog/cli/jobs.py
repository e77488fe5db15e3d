"""The option `--jobs`: the number of worker processes."""

from typing import Annotated

import typer

JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="N", min=1, max=1024, help="Worker processes [default: CPU count].", show_default=False
    ),
]
