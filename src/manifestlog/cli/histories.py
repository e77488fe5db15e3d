"""Opens the manifests whose history a verb asks, and keeps the errors of each.

Invariants:

- An error in one manifest does not stop the others.
- An error that ends a history is reported after what was printed before it, and a JSON document is complete all the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from manifestlog.cli import reading
from manifestlog.cli.invoke import worst
from manifestlog.cli.outcomes import attempt
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import ManifestError
from manifestlog.manager import AbstractManifest
from manifestlog.model.events import Event

SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only what happened since an ISO date or time (UTC), or a duration ago (2h, 7d).",
    ),
]


class Asked:
    """The manifests that a verb asks; `stack` closes them."""

    def __init__(self, settings: Settings, paths: Sequence[Path], stack: ExitStack) -> None:
        self._single = len(paths) == 1
        self.managers: list[AbstractManifest] = []
        self._errors: list[ManifestError | OSError] = []
        for path in paths:
            found = attempt(path, lambda path: reading.open_to_read(settings, path))
            if found.result is not None:
                self.managers.append(stack.enter_context(found.result))
            elif found.error is not None:
                self._failed(found.error)
        if not paths:
            output.notice(settings, f"{settings.directory}: no manifests found; create one with `manifestlog init`")

    def until_error(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield the events of one manifest. An error of the manifest ends them, and is kept for `exit_code`."""
        try:
            yield from events
        except (ManifestError, OSError) as error:
            self._errors.append(error)

    def _failed(self, error: ManifestError | OSError) -> None:
        if self._single:
            raise error
        self._errors.append(error)

    def exit_code(self) -> int:
        """Report the errors, and return the verb's exit code. Raises the error if only one manifest was asked."""
        if self._single and self._errors:
            raise self._errors[0]
        for error in self._errors:
            output.error(output.reason(error))
        return worst(getattr(error, "exit_code", 1) for error in self._errors)
