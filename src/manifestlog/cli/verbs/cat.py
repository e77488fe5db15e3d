"""`cat`: print the canonical file that a compaction would write now."""

import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from manifestlog.cli import target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.registry import open_to_read
from manifestlog.model import document

_LINES_AT_ONCE = 1000


def cat(settings: Settings, manifest: target.ManifestArgument) -> int:
    """Print the whole manifest as JSON.

    Includes the records that are still in the log.
    """
    path = str(target.locate(settings, manifest))
    with closing(open_to_read(path, settings.options())) as engine:
        terminal = sys.stdout.isatty()  # redirected, the output equals the file byte for byte
        snapshot = engine.snapshot()
        with output.ignore_broken_pipe():
            for part in _some(document.parts(snapshot.metadata, snapshot.records())):
                shown = output.json_text(part.decode()).encode() if terminal else part
                sys.stdout.buffer.write(shown)
    return 0


def _some(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Join many parts into one, to make fewer writes."""
    while some := b"".join(islice(parts, _LINES_AT_ONCE)):
        yield some
