"""`cat`: the live manifest as the canonical file that a compaction of this moment would write."""

import sys
from collections.abc import Iterator
from itertools import islice

from manifestlog import names as naming
from manifestlog.cli import target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.filelog.canonical import write
from manifestlog.engines.filelog.engine import Store
from manifestlog.engines.filelog.state import State
from manifestlog.engines.filelog.view import View
from manifestlog.errors import DamagedManifestError
from manifestlog.model.rows import Row

_LINES_AT_ONCE = 1000


def cat(settings: Settings, manifest: target.ManifestArgument) -> int:
    """Print the whole manifest as JSON, with what is still in the log."""
    paths = naming.resolve(target.locate(settings, manifest))
    store = Store(paths, settings.options(), read_only=True)
    try:
        metadata, view = store.session.read(_moment)
        terminal = sys.stdout.isatty()  # elsewhere it is the file, byte for byte
        with output.until_enough():
            for part in _some(write.document(metadata, _records(view, paths.canonical))):
                shown = output.json_text(part.decode()).encode() if terminal else part
                sys.stdout.buffer.write(shown)
    finally:
        store.session.close()
    return 0


def _moment(state: State) -> tuple[Row, View]:
    """Metadata and records of one and the same moment."""
    return state.live_metadata(), state.view.frozen()


def _some(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Many parts as one, so that each is worth a write."""
    while some := b"".join(islice(parts, _LINES_AT_ONCE)):
        yield some


def _records(view: View, path: str) -> Iterator[tuple[str, bytes]]:
    for checksum in view.checksums():
        raw = view.raw(checksum)
        if raw is None:
            raise DamagedManifestError(path, 0, f"the record {checksum} is in the index but not in the file")
        yield checksum, raw
