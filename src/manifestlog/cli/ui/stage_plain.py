"""Shows the run of stages in plain lines on stderr, one per finished item."""

from typing import TYPE_CHECKING

from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output

if TYPE_CHECKING:
    from manifestlog.stages.report import ItemOutcome, StageEvent


class PlainView:
    """Prints one line per finished item; only failures with `--quiet` or `--json`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def show(self, event: "StageEvent") -> None:
        from manifestlog.stages.report import Finished, Waiting  # noqa: PLC0415 -- loaded by now, and by this verb only

        if isinstance(event, Finished):
            line = line_of(event.stage, event.outcome)
            if event.outcome.error is not None:
                output.error(line)
            elif not self._settings.as_json:
                output.notice(self._settings, line)
        elif isinstance(event, Waiting):
            name = f"{event.stage}: {event.item.dataset}/{event.item.source_id}"
            output.detail(self._settings, f"{name}: {event.error}; again in {output.human_seconds(event.pause_s)}")


def line_of(stage: str, outcome: "ItemOutcome") -> str:
    """Return what became of an item as one line."""
    name = f"{stage}: {outcome.item.dataset}/{outcome.item.source_id}: {outcome.result.replace('_', ' ')}"
    if outcome.error is not None:
        tries = f" ({outcome.attempts} attempts)" if outcome.attempts > 1 else ""
        return f"{name}{tries}: {outcome.error}"
    if outcome.why:
        return f"{name}: {outcome.why}"
    if not outcome.attempts:
        return name
    seconds = output.human_seconds(outcome.seconds)
    if outcome.outputs:
        size = output.human_bytes(sum(one.file_size for one in outcome.outputs))
        more = f" and {len(outcome.outputs) - 1} more" if len(outcome.outputs) > 1 else ""
        return f"{name}, {size} in {seconds}, {outcome.outputs[0].file_path}{more}"
    rows = "" if outcome.rows is None else f", rows: {outcome.rows:,}"
    return f"{name}{rows} in {seconds}"
