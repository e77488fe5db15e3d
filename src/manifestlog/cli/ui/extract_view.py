"""How a run of `extract` is watched: a live display on a terminal, one plain line a source elsewhere; all on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui.extract_plain import PlainView
from manifestlog.cli.ui.progress import threads_left

if TYPE_CHECKING:
    from manifestlog.extract.config.configuration import ExtractConfig
    from manifestlog.extract.report import Event


class View(Protocol):
    """Where events are shown."""

    def hear(self, event: "Event") -> None:
        """Something happened."""


@contextmanager
def shown(settings: Settings, config: "ExtractConfig") -> Iterator[View]:
    """A live display where there is somebody to see it, plain lines otherwise."""
    if settings.quiet or settings.as_json or not settings.progress or not sys.stderr.isatty() or not threads_left():
        yield PlainView(settings)
        return
    from manifestlog.cli.ui.extract_live import LiveView  # noqa: PLC0415 -- rich is slow to import, and nobody else needs it

    view = LiveView(len(config.sources))
    with view.live:
        yield view
