"""Leaves an index behind where an opening had to read the canonical whole, so that the next one need not.

Invariants:

- It never waits and never fails: a reader, a missing right or another one at it means that no index is left.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from manifestlog.engines.filelog.canonical import files as base
from manifestlog.engines.filelog.log import fold

if TYPE_CHECKING:
    from manifestlog.engines.filelog.session import Session
    from manifestlog.engines.filelog.state import State

log = logging.getLogger(__name__)

_FOREIGN_BYTES_MIN = 1 << 14


def keep_index(session: Session) -> None:
    """Leave the index behind that this opening had to make or adopt, so that the next one need not; never waits or fails."""

    def look(state: State) -> tuple[base.CanonicalFiles, int] | None:
        # An empty manifest has nothing to look up, so creating one leaves one file; a small one of another tool is left alone.
        small = _FOREIGN_BYTES_MIN if state.base.foreign else 0
        needless = not state.base.index.count or state.base.canonical_bytes < small
        if state.base.kept or needless:
            return None
        covers = fold.covered_by(state.wal.bases, state.base.identity) if state.wal is not None else 0
        # Not known any more: compactions have put other files in its place, and the last one's line is still to come.
        return None if covers is None else (state.base, covers)

    if session.read_only or session.read(look) is None:
        return
    try:
        with session.compaction_lock(wait=False) as alone:
            # Whoever compacts writes an index, too.
            if alone and (found := session.read(look)) is not None:
                base.keep_index(session.paths, *found)
    except OSError as error:
        log.info("%s: no index is left behind (%s)", session.paths.index, error)
