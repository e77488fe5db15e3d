"""Shows a run of `extract` on stderr: a live display on a terminal, else one plain line per source."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import status_line
from manifestlog.cli.ui.extract_plain import PlainView
from manifestlog.cli.ui.progress import may_draw

if TYPE_CHECKING:
    from manifestlog.extract.config.configuration import ExtractConfig
    from manifestlog.extract.report import Event


class View(Protocol):
    """A display of events."""

    shows_progress: bool
    """Whether it shows `Started` and `Progress`."""

    def show(self, event: "Event") -> None:
        """Show an event."""


@contextmanager
def shown(settings: Settings, config: "ExtractConfig") -> Iterator[View]:
    """Show a live display if stderr is a terminal, else plain lines."""
    if settings.as_json or not may_draw(settings):
        yield PlainView(settings)
        return
    from manifestlog.cli.ui.extract_live import LiveView  # noqa: PLC0415 -- rich is slow to import, and only this branch needs it

    view = LiveView(len(config.sources))
    with view.live, status_line.hidden():
        yield view
