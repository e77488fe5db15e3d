"""Opens the manifests whose history a verb reads, and collects their errors.

Invariants:

- An error in one manifest does not stop the others.
- If an error ends a history, the events before it are printed first, and a JSON document is still complete.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Annotated, Any

import typer

from manifestlog.cli import reading, target
from manifestlog.cli.invoke import worst
from manifestlog.cli.outcomes import attempt
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import ManifestError
from manifestlog.history import Recorded
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


LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=0, help="Print at most N.", show_default=False)
]
JsonlOption = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per line.")]
_SCHEMA_VERSION = 1


class Asked:
    """The manifests whose history a verb reads; `stack` closes them."""

    def __init__(self, settings: Settings, manifests: Sequence[str] | None, stack: ExitStack) -> None:
        paths = target.locate_all(settings, manifests)
        self._single = len(paths) == 1
        self._errors: list[ManifestError | OSError] = []
        self.manifests: list[Recorded] = []
        """Those that could be opened. `exit_code` reports the errors of all."""
        opened: dict[str, AbstractManifest] = {}  # a manifest that is named twice is asked once
        for path in paths:
            found = attempt(path, lambda path: reading.open_to_read(settings, path))
            if found.result is not None:
                opened[stack.enter_context(found.result).location.key] = found.result
            elif found.error is not None and self._single:
                raise found.error
            elif found.error is not None:
                self._errors.append(found.error)
        self.manifests += (_KeepingErrors(manifest, self._errors) for manifest in opened.values())
        if not paths:
            output.notice(settings, target.none_found(settings))

    def exit_code(self) -> int:
        """Report the errors, and return the verb's exit code. Raises the error if only one manifest was asked."""
        if self._single and self._errors:
            raise self._errors[0]
        for error in self._errors:
            output.error(output.reason(error))
        return worst(getattr(error, "exit_code", 1) for error in self._errors)


class _KeepingErrors:
    """A manifest whose history ends at an error, which is kept instead of raised."""

    def __init__(self, manifest: AbstractManifest, errors: list[ManifestError | OSError]) -> None:
        self.location = manifest.location
        self.snapshot = manifest.snapshot
        self._manifest = manifest
        self._errors = errors

    def history(self, *, reverse: bool = False, **wanted: Any) -> Iterator[Event]:
        try:
            yield from self._manifest.history(reverse=reverse, **wanted)
        except (ManifestError, OSError) as error:
            if output.reason(error) not in map(output.reason, self._errors):  # a verb may ask several times
                self._errors.append(error)


def write_json(settings: Settings, name: str, rows: Sequence[dict[str, Any]], *, jsonl: bool) -> bool:
    """Print these objects if JSON is asked for: one per line, or one document that names them; return whether it is."""
    if jsonl:
        for row in rows:
            output.stream(output.json_text(json.dumps(row, ensure_ascii=False)))
    elif settings.as_json:
        output.document({"schema_version": _SCHEMA_VERSION, name: rows})
    return jsonl or settings.as_json
