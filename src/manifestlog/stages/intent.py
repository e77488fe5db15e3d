"""Intents: what a worker is about to publish and record, so that the next run can finish it.

`landing-<digits>.json` in the working directory has eight hex digits of a CRC-32 and one JSON object. For each item,
the object has its input rows, its version and code, when it began and how long it took, and for each output the working
path, the final path, the checksum, the length, the source_id and the dataset.

Invariants:

- An intent, and the working names of its outputs, are durable before the first output gets its final name.
- An intent is removed after the records are durable. If the worker has lost its claims meanwhile, the intent stays:
  files may have names without a record, and only the new holder of the items can decide about them.
- The intent's name is claimed as long as its worker lives, so an intent whose claim is free was left by a dead worker.
- An unreadable intent was never durable, so none of its outputs has a final name.

`leftovers` reads them.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from zlib import crc32

from manifestlog.files import disk
from manifestlog.model import codec
from manifestlog.server_errors import ClaimLostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manifestlog.stages.arrival import Arrival, Landing

FORMAT = 1
_CRC_DIGITS = 8


@contextmanager
def written(landing: Landing, arrivals: Sequence[Arrival]) -> Iterator[None]:
    """Write the intent to publish and record the outcomes of these items; remove it when the block has done so."""
    name = landing.workspace.new_landing()
    path = os.path.join(landing.workspace.path, name)
    with landing.claims.claim("landing", name):
        _write(path, arrivals, sync=landing.is_durable)
        if landing.is_durable:
            for directory in sorted(_directories(landing.workspace.path, arrivals), reverse=True):
                disk.sync_directory(directory)
        yield
        # Not if the block fails: the manifest may be the reason, and the next run then finishes the work.
        if not any(isinstance(one.error, ClaimLostError) for one in arrivals):
            with suppress(OSError):
                disk.remove(path)


def _directories(root: str, arrivals: Sequence[Arrival]) -> set[str]:
    """Return the working directory, and those below it that hold outputs: the intent names their files."""
    found = {root}
    for work in [output.work for one in arrivals for output in one.outputs if output.work is not None]:
        directory = os.path.dirname(work)
        while directory not in found and len(directory) > len(root):
            found.add(directory)
            directory = os.path.dirname(directory)
    return found


def _write(path: str, arrivals: Sequence[Arrival], *, sync: bool) -> None:
    data = codec.dumps({"format": FORMAT, "items": [_members(one) for one in arrivals if one.outputs]})
    fd = disk.create(path)
    try:
        disk.append(fd, b"%08x%b\n" % (crc32(data), data))
        if sync:
            disk.sync_data(fd)
    finally:
        disk.close(fd)


def _members(one: Arrival) -> dict[str, Any]:
    return {
        "key": one.item.key,
        "is_group": one.item.is_group,
        "rows": [raw.decode() for raw in one.item.task.rows],
        "version": one.version,
        "code": one.code,
        "started": one.started,
        "seconds": one.seconds,
        "outputs": [
            [output.work, output.path, output.content.checksum, output.content.size, output.source_id, output.dataset]
            for output in one.outputs
        ],
    }


def read(path: str) -> list[dict[str, Any]] | None:
    """Return the items of an intent; None if it was not written to its end. Raises `FileNotFoundError`."""
    fd = disk.open_read(path)
    try:
        data = disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
    try:
        if int(data[:_CRC_DIGITS], 16) != crc32(data[_CRC_DIGITS:-1]):
            return None
        members = codec.loads(data[_CRC_DIGITS:-1])
        items: list[dict[str, Any]] = members["items"]
        return items if members["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None
