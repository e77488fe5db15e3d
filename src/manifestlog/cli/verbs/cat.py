"""`cat`: print the canonical file that a compaction would write now."""

import sys
from contextlib import closing
from datetime import UTC, datetime

from manifestlog.cli import durations, target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output, status_line
from manifestlog.engines.registry import open_to_read
from manifestlog.model import document
from manifestlog.model.rows import moment_text


def cat(settings: Settings, manifest: target.ManifestArgument, *, as_of: durations.AsOfOption = None) -> int:
    """Print the whole manifest as JSON.

    Includes the records that are still in the log.
    """
    moment = durations.as_of(as_of, datetime.now(UTC))
    path = str(target.locate(settings, manifest))
    with closing(open_to_read(path, settings.options())) as engine:
        terminal = sys.stdout.isatty()  # redirected, the output equals the file byte for byte
        snapshot = (engine if moment is None else engine.as_of(moment_text(moment))).snapshot()
        with output.ignore_broken_pipe(), status_line.hidden(here=terminal):
            for part in output.joined(document.parts(snapshot.metadata, snapshot.records()), b""):
                shown = output.json_text(part.decode()).encode() if terminal else part
                output.raw_bytes(shown)
    return 0
