"""Shows a run of `extract` in plain lines on stderr, one per finished source."""

from typing import TYPE_CHECKING

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output

if TYPE_CHECKING:
    from manifestlog.extract.report import Event, Outcome


class PlainView:
    """Prints one line per finished source; only failures and warnings with `--quiet` or `--json`."""

    shows_progress = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def show(self, event: "Event") -> None:
        from manifestlog.extract.report import Finished, Waiting  # noqa: PLC0415 -- loaded by now, and by this verb only

        if isinstance(event, Finished):
            if event.outcome.error is not None or event.outcome.warning is not None:
                output.error(line_of(event.outcome))
            elif not self._settings.as_json:
                output.notice(self._settings, line_of(event.outcome))
        elif isinstance(event, Waiting):
            name = f"{event.dataset}/{event.source_id}"
            output.detail(self._settings, f"{name}: {event.reason}; again in {output.human_seconds(event.pause_s)}")


def line_of(outcome: "Outcome") -> str:
    """Return the result of a source as one line."""
    name = f"{outcome.dataset}/{outcome.source_id}: {outcome.result}"
    if outcome.error is not None:
        return f"{name}: {outcome.error}"
    if outcome.warning is not None:
        return f"{name}: {outcome.warning}"
    if outcome.bytes_fetched:
        size, seconds = output.human_bytes(outcome.bytes_fetched), output.human_seconds(outcome.seconds)
        return f"{name}, {size} in {seconds}, {outcome.file_path}"
    return name
