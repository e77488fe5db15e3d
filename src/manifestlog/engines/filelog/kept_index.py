"""Writes an index after opening had to read the whole canonical file, so that the next opening is fast.

Invariants:

- It never waits and never fails. In a read-only session, without permission, or while the compaction lock is held, it
  writes no index.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from manifestlog.engines.filelog.canonical import files as base
from manifestlog.engines.filelog.log import fold
from manifestlog.error_texts import explained

if TYPE_CHECKING:
    from manifestlog.engines.filelog.session import Session
    from manifestlog.engines.filelog.state import State

log = logging.getLogger(__name__)

_FOREIGN_BYTES_MIN = 1 << 14


def keep_index(session: Session) -> None:
    """Write the index that this opening built or adopted, for the next opening; never waits or raises `OSError`."""

    def look(state: State) -> tuple[base.CanonicalFiles, int] | None:
        # An empty manifest needs no index, so creating one leaves a single file. A small file of another tool needs none.
        small = _FOREIGN_BYTES_MIN if state.base.foreign else 0
        needless = not state.base.index.count or state.base.canonical_bytes < small
        if state.base.kept or needless:
            return None
        covers = fold.covered_by(state.wal.bases, state.base.identity) if state.wal is not None else 0
        # The log no longer knows this canonical: compactions have replaced it, and the last one's line is not read yet.
        return None if covers is None else (state.base, covers)

    if session.read_only or session.read(look) is None:
        return
    try:
        with session.compaction_lock(wait=False) as alone:
            # A compaction writes an index as well, so there is no need to wait for one.
            if alone and (found := session.read(look)) is not None:
                base.keep_index(session.paths, *found)
    except OSError as error:
        log.info("%s: index not written (%s)", session.paths.index, explained(error))
