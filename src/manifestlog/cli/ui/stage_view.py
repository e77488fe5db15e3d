"""Shows the run of stages on stderr: a live display on a terminal, else one plain line per item."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui.progress import may_draw
from manifestlog.cli.ui.stage_plain import PlainView

if TYPE_CHECKING:
    from manifestlog.stages.report import StageEvent


class View(Protocol):
    """A display of events."""

    def show(self, event: "StageEvent") -> None:
        """Show an event."""


@contextmanager
def shown(settings: Settings) -> Iterator[View]:
    """Show a live display if stderr is a terminal, else plain lines."""
    if settings.as_json or not may_draw(settings):
        yield PlainView(settings)
        return
    from manifestlog.cli.ui.stage_live import LiveView  # noqa: PLC0415 -- rich is slow to import, and only this branch needs it

    view = LiveView()
    with view.live:
        yield view
