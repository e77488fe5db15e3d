"""Leftovers: finishes what killed runs were about to record, and removes what they had in work.

Invariants:

- Only what nobody holds a claim on is touched, so a run that is active loses nothing.
- An item is finished only under its claim, and only if it is not done by that version yet: never two outputs.
- A file under a final name is never removed, and an intent only when the records that it led to are durable.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from manifestlog.files import disk
from manifestlog.stages import intent
from manifestlog.stages.arrival import Arrival, Landing, Ready
from manifestlog.stages.claiming import ITEM, is_done
from manifestlog.stages.definition import Rerun
from manifestlog.stages.hashing import Content, has_content
from manifestlog.stages.items import Item, ItemTask, Naming
from manifestlog.stages.landing import land
from manifestlog.stages.outcome import Made
from manifestlog.stages.rule import Rule
from manifestlog.stages.workspace import digest_in, landing_names

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def _finish(landing: Landing, naming: Naming, name: str) -> int:
    path = os.path.join(landing.workspace.path, name)
    with landing.claims.claim("landing", name) as ours:
        if not ours:
            return 0
        try:
            found = intent.read(path) or []
        except FileNotFoundError:
            return 0  # another run has finished it
        finished = sum(_finish_item(landing, naming, members) for members in found)
        # What is done may be so in the memory of the system only: its worker was killed before its sync.
        landing.manifest.sync()
        with suppress(OSError):
            disk.remove(path)
    if finished:
        log.info("%s: recorded %d items that a killed run had finished", landing.manifest.location.display, finished)
    return finished


def _finish_item(landing: Landing, naming: Naming, members: dict[str, Any]) -> bool:
    """Land an item of an intent; return whether it was landed. One that is not complete is left to be done anew."""
    task = ItemTask(members["key"], tuple(row.encode() for row in members["rows"]))
    item = Item(task, naming._replace(is_grouped=members["is_group"]), landing.workspace)
    with landing.claims.claim(ITEM, item.digest) as ours:
        rerun = Rerun.VERSION if members["code"] is None else Rerun.CODE
        rule = Rule(landing.stage.name, members["version"], rerun, members["code"])
        if not ours or is_done(landing.manifest, rule, item):
            return False
        outputs = list(_complete(members["outputs"]))
        if len(outputs) < len(members["outputs"]):
            return False
        done = Arrival(item, Made(()), rule.version, rule.code, members["started"], members["seconds"], outputs)
        land(landing, [done])
        return done.error is None


def _complete(outputs: list[list[Any]]) -> Iterator[Ready]:
    """Yield the outputs whose bytes are there, in work or under their final name."""
    for work, path, checksum, size, source_id, dataset in outputs:
        content = Content(checksum, size)
        with suppress(OSError):
            if work is not None and has_content(work, content):
                yield Ready(work, path, content, source_id, dataset)
            elif has_content(path, content):
                yield Ready(None, path, content, source_id, dataset)
