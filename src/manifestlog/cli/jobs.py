"""`--jobs`: how many worker processes a verb starts."""

from typing import Annotated

import typer

JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="N", min=1, max=1024, help="Processes; without it one a CPU.", show_default=False
    ),
]
