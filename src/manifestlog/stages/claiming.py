"""Claims items, and checks whether an item was processed meanwhile.

Invariants:

- Only one process works on an item at a time. The claim ends with its process, however that ends.
- A worker checks whether an item is done after it has claimed it, because the previous holder records the item before
  it releases the claim. If that holder was killed first, `leftovers` records the item.

The claims are in the directory of the stage's manifest, so all runs that write the manifest share them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from manifestlog.errors import CursorError
from manifestlog.model.events import EventKind
from manifestlog.stages.rule import DERIVES

if TYPE_CHECKING:
    from collections.abc import Sequence, Set as AbstractSet
    from contextlib import AbstractContextManager

    from manifestlog.manager import AbstractManifest, Claims
    from manifestlog.stages.items import Item
    from manifestlog.stages.rule import Rule

ITEM = "item"


class StageClaims:
    """The claims of one worker of a stage. A context manager, as the manifest's claims are."""

    def __init__(self, manifest: AbstractManifest) -> None:
        self._claims: Claims = manifest.claims(manifest.location.directory)
        self._prefix = f"stage {manifest.location.name} "
        self.display = self._claims.display

    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> AbstractContextManager[bool]:
        """Claim a name; the block receives whether the claim succeeded. A place is claimed among all stages."""
        return self._claims.claim(kind if kind == "place" else self._prefix + kind, name, wait_s=wait_s)

    def claim_many(
        self, kind: str, wanted: Sequence[str], *, wait_s: float = 0.0
    ) -> AbstractContextManager[AbstractSet[str]]:
        """Claim those of these names that are free; the block receives which ones."""
        return self._claims.claim_many(self._prefix + kind, wanted, wait_s=wait_s)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the commands of this worker inherit, so that its claims last until they end, if it is killed."""
        return self._claims.descriptors

    def fence(self) -> AbstractContextManager[None]:
        """In this block, writes of this thread raise `ClaimLostError`, with nothing written, if a claim was lost."""
        return self._claims.fence()

    def ensure_held(self) -> None:
        """Raise `ClaimLostError` if a claim was lost."""
        self._claims.ensure_held()

    def close(self) -> None:
        self._claims.close()

    def __enter__(self) -> StageClaims:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DoneByOthers:
    """Which inputs other runs have processed since a cursor."""

    def __init__(self, manifest: AbstractManifest, rule: Rule, cursor: str, run: str | None) -> None:
        self._manifest = manifest
        self._rule = rule
        self._feed = manifest.feed(cursor, without_run=run)
        self._lock = threading.Lock()
        self._done: set[str] = set()
        self._is_cut = False
        """Whether events are missing, so that each item is asked for."""

    def renew(self) -> None:
        """Read what was recorded since the last call."""
        if self._is_cut or not self._manifest.has_history:
            return
        with self._lock:
            try:
                self._read()
            except CursorError:  # its event was taken back, as by the promotion of a standby that did not have it
                self._is_cut = True

    def _read(self) -> None:
        for event in self._feed.new():
            if event.kind is EventKind.RESET:
                self._is_cut = True
                return
            if self._rule.counts(event):
                self._done.update(event.inputs)

    def has_done(self, item: Item, *, asks_history: bool = False) -> bool:
        """Return whether an item is done; `renew` comes first. What this run has recorded only the history knows."""
        if asks_history or item.task.is_doubtful or self._is_cut:
            return is_done(self._manifest, self._rule, item)
        return bool(self._done) and all(one.checksum in self._done for one in item.inputs)


def is_done(manifest: AbstractManifest, rule: Rule, item: Item) -> bool:
    """Return whether an item is done, by lookups in the history."""
    if not manifest.has_history:
        return False
    return _is_derived(manifest, rule, item) or _is_recorded_itself(manifest, rule, item)


def _is_derived(manifest: AbstractManifest, rule: Rule, item: Item) -> bool:
    """Return whether one derivation from all inputs of an item stands."""
    wanted = {one.checksum for one in item.inputs}
    events = manifest.history(checksum=item.inputs[0].checksum, kinds=DERIVES, reverse=True)
    return any(rule.counts(event) and wanted <= set(event.inputs) and manifest.stands(event) for event in events)


def _is_recorded_itself(manifest: AbstractManifest, rule: Rule, item: Item) -> bool:
    """Return whether each input of a group was judged or loaded: that is a record of each, derived from itself."""
    return len(item.inputs) > 1 and all(
        any(
            rule.counts(event) and event.inputs == (event.checksum,) and manifest.stands(event)
            for event in manifest.history(checksum=one.checksum, kinds=DERIVES, reverse=True)
        )
        for one in item.inputs
    )
