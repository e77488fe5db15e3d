"""`cat`: the live manifest as the canonical file that a compaction of this moment would write."""

import sys
from collections.abc import Iterator
from itertools import chain, islice

from manifestlog import names as naming
from manifestlog.cli import target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.filelog.canonical import layout as canonical
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
            for part in _parts(metadata, view, paths.canonical):
                shown = output.json_text(part.decode()).encode() if terminal else part
                sys.stdout.buffer.write(shown)
    finally:
        store.session.close()
    return 0


def _moment(state: State) -> tuple[Row, View]:
    """Metadata and records of one and the same moment."""
    return state.live_metadata(), state.view.frozen()


def _parts(metadata: Row, view: View, path: str) -> Iterator[bytes]:
    checksums = view.checksums()
    first = next(checksums, None)
    yield canonical.head(metadata, empty=first is None)
    if first is None:
        yield canonical.EMPTY_FOOT
        return
    lines = (_entry(view, checksum, path) for checksum in chain([first], checksums))
    between = b""
    while some := canonical.BETWEEN.join(islice(lines, _LINES_AT_ONCE)):
        yield between + some
        between = canonical.BETWEEN
    yield canonical.FOOT


def _entry(view: View, checksum: str, path: str) -> bytes:
    raw = view.raw(checksum)
    if raw is None:
        raise DamagedManifestError(path, 0, f"the record {checksum} is in the index but not in the file")
    return canonical.entry(checksum, raw)
