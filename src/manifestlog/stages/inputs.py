"""Fetches inputs from an object store into the working directory for the duration of the work.

Invariants:

- The work reads only content with the recorded checksum; otherwise the attempt fails.
- A copy is removed together with all other working files of its item.

Outputs stay files in a directory: a store has no rename that would let all outputs of an item appear at once.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog.files import disk
from manifestlog.names import is_url
from manifestlog.objects.errors import ObjectStoreError
from manifestlog.objects.opening import Stores
from manifestlog.stages.outcome import Failed

if TYPE_CHECKING:
    from manifestlog.stages.items import Input, Item
    from manifestlog.stages.workspace import Workspace


class Inputs:
    """The inputs of the items of one worker."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stores = Stores()

    def fetch(self, item: Item) -> Failed | None:
        """Fetch what an item reads from object stores; return why that fails, or None."""
        for number, one in enumerate(item.inputs):
            if is_url(one.location_text):
                try:
                    problem = self._fetch(item, number, one)
                except ObjectStoreError as error:
                    return Failed(f"the input {one.location_text} cannot be read: {error.detail}")
                if problem is not None:
                    return Failed(problem, is_final=True)
        return None

    def _fetch(self, item: Item, number: int, one: Input) -> str | None:
        url, sha = one.location_text, hashlib.sha256()
        store = self._stores.of(url)
        if store.stat(url) is None:
            return f"the input {url} is missing; restore it, or run `manifestlog forget`"
        path = self._workspace.input_path(item, f"{number}.{os.path.basename(url)}")
        fd = self._workspace.create(path)
        try:
            for block in store.read(url):
                sha.update(block)
                disk.append(fd, block)
        finally:
            disk.close(fd)
        if sha.hexdigest() != one.checksum:
            return f"the input {url} is not what was recorded: run `manifestlog verify`"
        one.local = Path(path)
        return None
