"""`--jobs`: how many worker processes a verb starts."""

import os
from typing import Annotated

import typer

JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="N", min=1, max=1024, help="Processes; without it one a CPU.", show_default=False
    ),
]


def count_of(jobs: int | None) -> int:
    """As many as were asked for, else one for each CPU that we may use."""
    if jobs is not None:
        return jobs
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
