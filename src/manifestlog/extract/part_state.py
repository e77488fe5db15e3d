"""The state of a part: how the server identified its content, and after completion, its final file.

The state is in a JSON file beside the part::

    {"etag":…,"last_modified":…,"strong_date":…,"content_type":…,"total_bytes":…,"boot":…,"synced_bytes":…}      during the download
    {…,"ranges":[[0,1000],[5000,6000]]}                                         what a body in several ranges has so far
    {…,"sha256":…,"file_path":…,"ts_completed":…}                               from the last byte until it is registered
    {…,"inode":…,"is_open":true}      where hosts share the directory: the file that it is about, and whether one is writing to it

Invariants:

- A text that is not a valid state counts as no state; the download then starts again.

It does not know files or stores.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PartState:
    """The state beside a part; checksum, path and time are set once the part is complete."""

    etag: str | None = None
    last_modified: str | None = None
    total_bytes: int | None = None
    boot: str = ""
    synced_bytes: int = 0
    sha256: str | None = None
    file_path: str | None = None
    ts_completed: str | None = None
    strong_date: bool | None = None
    encoding: str | None = None
    content_type: str | None = None
    ranges: list[list[int]] | None = None
    """The bytes of the part, if they came in several ranges: [start, end] of each, in order."""
    inode: int | None = None
    """The number of the part's file, where another host may put another file in its place."""
    is_open: bool | None = None
    """Whether its worker has not ended its work on the part; it may be stopped, and go on."""

    def complete(self, sha256: str, file_path: Path, ts_completed: str) -> PartState:
        """Return the state of a part that is complete: these bytes, which will go there."""
        return replace(
            self, encoding=None, is_open=None, sha256=sha256, file_path=str(file_path), ts_completed=ts_completed
        )

    def as_text(self) -> str:
        """Return the text that `parsed` reads."""
        return json.dumps({k: v for k, v in asdict(self).items() if v is not None})


def parsed(text: bytes) -> PartState | None:
    """Return the state in this text, or None if it is invalid."""
    try:
        state = PartState(**json.loads(text))
        return state if _is_valid(state) else None
    except (ValueError, TypeError, RecursionError):
        return None


def _is_valid(state: PartState) -> bool:
    texts = (state.etag, state.last_modified, state.sha256, state.file_path, state.encoding, state.content_type)
    sizes = (state.synced_bytes, state.total_bytes or 0)
    return (
        isinstance(state.boot, str)
        and all(flag in (None, False, True) for flag in (state.strong_date, state.is_open))
        and (state.inode is None or isinstance(state.inode, int))
        and all(text is None or isinstance(text, str) for text in texts)
        and all(isinstance(size, int) and size >= 0 for size in sizes)
        and _are_ranges(state.ranges)
        and (state.ts_completed is None or datetime.fromisoformat(state.ts_completed).tzinfo is not None)
    )


def _are_ranges(ranges: object) -> bool:
    if ranges is None:
        return True
    return isinstance(ranges, list) and all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(end, int) and end >= 0 for end in one)
        for one in ranges
    )
