"""Finishes what killed runs were about to record, and removes their working files.

Invariants:

- Only files that nobody has claimed are touched, so an active run loses nothing.
- An item is finished only under its claim, and only if that version has not processed it yet: there are never two
  outputs. A worker that claims an item finishes it first if an intent names it, because a run that began before another
  worker died has not tidied up since.
- A file with a final name is never removed. An intent is removed after each of its items was seen under its claim, and
  its records are durable.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from manifestlog.error_texts import explained
from manifestlog.files import disk
from manifestlog.stages import intent
from manifestlog.stages.arrival import Arrival, Landing, Ready
from manifestlog.stages.claiming import ITEM, is_done
from manifestlog.stages.definition import Rerun
from manifestlog.stages.hashing import Content, has_content
from manifestlog.stages.items import Item, ItemTask, Naming, digest_of
from manifestlog.stages.landing import land
from manifestlog.stages.outcome import Made
from manifestlog.stages.rule import Rule
from manifestlog.stages.workspace import digest_in, landing_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Set as AbstractSet

log = logging.getLogger(__name__)


def tidy(landing: Landing, naming: Naming) -> int:
    """Finish and remove what killed runs have left; return how many items were finished. Raises `ManifestError`."""
    names = landing.workspace.names()
    finished = sum(_finish(landing, naming, name) for name in landing_names(names))
    for name in names:
        digest = digest_in(name)
        if digest is not None:
            with landing.claims.claim(ITEM, digest) as ours, suppress(OSError):
                if ours:
                    disk.remove_tree(os.path.join(landing.workspace.path, name))
    return finished


def finish_claimed(
    landing: Landing,
    naming: Naming,
    claimed: AbstractSet[str],
    land: Callable[[Landing, list[Arrival]], None] = land,
) -> set[str]:
    """Finish what killed runs were about to record of items that the caller has claimed, named by their digits.

    Return those that an intent names; the history then knows whether they are done. Raises `ManifestError`.
    """
    found: set[str] = set()
    for name in landing_names(landing.workspace.names()) if claimed else ():
        # Not under the claim of the intent: whoever holds that has another one of its items, or has found this one claimed.
        with suppress(FileNotFoundError):
            for members in intent.read(os.path.join(landing.workspace.path, name)) or ():
                digest = digest_of(members["key"], is_group=members["is_group"])
                if digest in claimed:
                    found.add(digest)
                    _settle(landing, _item_of(landing, naming, members), members, land)
    return found


class _Left(Enum):
    """What became of an item of an intent."""

    FINISHED = auto()
    SETTLED = auto()
    """It is done, or is to be done anew."""
    OPEN = auto()
    """Another worker has it, or it could not be recorded."""


def _finish(landing: Landing, naming: Naming, name: str) -> int:
    path = os.path.join(landing.workspace.path, name)
    with landing.claims.claim("landing", name) as ours:
        if not ours:
            return 0
        try:
            found = intent.read(path) or []
        except FileNotFoundError:
            return 0  # another run has finished it
        became = [_finish_item(landing, naming, members) for members in found]
        # What is done may be so in the memory of the system only: its worker was killed before its sync.
        landing.manifest.sync()
        if _Left.OPEN not in became:
            with suppress(OSError):
                disk.remove(path)
    finished = became.count(_Left.FINISHED)
    if finished:
        log.info("%s: recorded %d items that a killed run had finished", landing.manifest.location.display, finished)
    return finished


def _finish_item(landing: Landing, naming: Naming, members: dict[str, Any]) -> _Left:
    item = _item_of(landing, naming, members)
    with landing.claims.claim(ITEM, item.digest) as ours:
        return _settle(landing, item, members, land) if ours else _Left.OPEN


def _item_of(landing: Landing, naming: Naming, members: dict[str, Any]) -> Item:
    task = ItemTask(members["key"], tuple(row.encode() for row in members["rows"]))
    return Item(task, naming._replace(is_grouped=members["is_group"]), landing.workspace)


def _settle(
    landing: Landing, item: Item, members: dict[str, Any], land: Callable[[Landing, list[Arrival]], None]
) -> _Left:
    """Land an item of an intent, under its claim, unless it is done. One that is not complete is left to be done anew."""
    rerun = Rerun.VERSION if members["code"] is None else Rerun.CODE
    rule = Rule(landing.stage.name, members["version"], rerun, members["code"])
    if is_done(landing.manifest, rule, item):
        _tell_unrecorded(landing, members["outputs"])
        return _Left.SETTLED
    outputs = list(_complete(members["outputs"]))
    if len(outputs) < len(members["outputs"]):
        return _Left.SETTLED
    done = Arrival(item, Made(()), rule.version, rule.code, members["started"], members["seconds"], outputs)
    land(landing, [done])
    if done.error is not None:
        log.warning("%s: %s cannot be recorded: %s", landing.stage.name, outputs[0].path, explained(done.error))
        return _Left.OPEN
    return _Left.FINISHED


def _tell_unrecorded(landing: Landing, outputs: list[list[Any]]) -> None:
    """Warn of outputs that have names and no records: a host that was cut off named them after another run had taken over."""
    for _, path, checksum, size, _, _ in outputs:
        with suppress(OSError):
            if not landing.manifest.has_checksum(checksum) and has_content(path, Content(checksum, size)):
                log.warning(
                    "%s: %s has no record, because another run has processed its input; delete it",
                    landing.stage.name,
                    path,
                )


def _complete(outputs: list[list[Any]]) -> Iterator[Ready]:
    """Yield the outputs whose bytes are there, in work or under their final name."""
    for work, path, checksum, size, source_id, dataset in outputs:
        content = Content(checksum, size)
        with suppress(OSError):
            if work is not None and has_content(work, content):
                yield Ready(work, path, content, source_id, dataset)
            elif has_content(path, content):
                yield Ready(None, path, content, source_id, dataset)
