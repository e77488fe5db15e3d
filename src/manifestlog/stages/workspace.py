"""The working directory of a stage: the working files of its items, and the leftovers of killed runs.

::

    <output_dir>/.manifestlog.work/systems_processing/
        <digits>.<worker>.out.prices.json   the output of an item in work, beginning with the digits of the item and the worker
        <digits>.<worker>.0.more.json       another one, that the function has named
        <digits>.<worker>.0.data            one that the function returned as bytes
        <digits>.<worker>.in0.raw.json      the copy of an input in an object store
        <digits>.<worker>.all/              for a command that makes any number of files
        landing-<random>.json               what a worker is about to publish and record (`landing`)
        logs/                               the stdout and stderr of commands (`command_logs`)
        systems_processing.manifest.pending.json   what is pending, of a manifest in a database (`kept_look`)

Invariants:

- Nothing here is ever recorded. Deleting the whole directory while no run is active loses nothing that is recorded.
- Only the holder of an item's claim creates or removes files with the item's digits. Two workers never use the same
  name. So a worker that was stopped, and continues after another one has taken over its item, does not write to that
  worker's files.
- It is inside the output directory, so that a rename can move files out of it.

It does not know records or outcomes.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING

from manifestlog.files import disk
from manifestlog.names import WORK_NAME
from manifestlog.stages import naming
from manifestlog.stages.items import DIGITS

if TYPE_CHECKING:
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.items import Item

_OF_ITEM = re.compile(rf"([0-9a-f]{{{DIGITS}}})\..+")
_LANDING = re.compile(r"landing-[0-9a-f]{16}\.json")
LOGS = "logs"
MANY = "all"
"""The directory of an item for any number of outputs."""


class Workspace:
    """The working directory of one stage, for one worker."""

    def __init__(self, stage: Stage, manifest: str) -> None:
        self._stage = stage
        self.output_dir = os.path.realpath(stage.output_dir)
        """The absolute output directory, with links resolved."""
        self.path = os.path.join(self.output_dir, WORK_NAME, manifest)
        self._is_there = False
        self._worker = secrets.token_hex(4)
        self._created: dict[str, list[str]] = {}
        """The paths of the working files of each item, by its digits."""

    def ensure(self) -> None:
        """Create the directory."""
        if not self._is_there:
            disk.make_directory(self.path)
            self._is_there = True

    # -- items ---------------------------------------------------------------------------------------------------------

    def _new(self, item: Item, rest: str) -> str:
        """Return a path for a working file of an item, which `clear` removes."""
        self.ensure()
        path = f"{self.prefix_of(item)}{rest}"
        created = self._created.setdefault(item.digest, [])
        if path not in created:
            created.append(path)
        return path

    def prefix_of(self, item: Item) -> str:
        """Return how the path of every working file of an item begins."""
        return os.path.join(self.path, f"{item.digest}.{self._worker}.")

    def output_path(self, item: Item, name: str | None) -> str:
        """Return the path for an output in work; it ends with the output's name. Raises `naming.OutputNameError`."""
        if name is None:
            return self._new(item, f"out.{os.path.basename(self.default_name(item))}")
        return self._new(item, f"{self._count(item)}.{os.path.basename(naming.checked(name))}")

    def _count(self, item: Item) -> int:
        return len(self._created.get(item.digest, ()))

    def output_dir_of(self, item: Item) -> str:
        """Return an empty directory of an item in work, for any number of outputs."""
        path = self._new(item, MANY)
        disk.remove_tree(path)  # an earlier attempt may have left it
        disk.make_passing_directories(path)
        return path

    def default_name(self, item: Item) -> str:
        """Return the path of an item's output below the output directory."""
        if item.default_name is None:
            pattern = self._stage.output or naming.DEFAULT_OUTPUT
            values = naming.values_of(item, self._stage.name, self._stage.version)
            item.default_name = naming.output_name(pattern, values)
        return item.default_name

    def create(self, path: str) -> int:
        """Create this file, replacing one of that name, and return its descriptor."""
        try:
            return disk.create(path)
        except FileExistsError:
            disk.remove_tree(path)
            return disk.create(path)

    def input_path(self, item: Item, name: str) -> str:
        """Return the path for a copy of an input; it ends with this name."""
        return self._new(item, f"in{name}")

    def write(self, item: Item, data: bytes) -> str:
        """Write these bytes as an output in work, and return its path."""
        path = self._new(item, f"{self._count(item)}.data")
        fd = self.create(path)
        try:
            disk.append(fd, data)
        finally:
            disk.close(fd)
        return path

    def clear(self, item: Item) -> None:
        """Remove the working files of an item."""
        for path in self._created.pop(item.digest, ()):
            disk.remove_tree(path)

    # -- leftovers -----------------------------------------------------------------------------------------------------

    def new_landing(self) -> str:
        """Return the name of a new file for what is about to be published."""
        self.ensure()
        return f"landing-{secrets.token_hex(8)}.json"

    def names(self) -> list[str]:
        """Return the names in the directory; none if it does not exist."""
        try:
            return sorted(disk.list_names(self.path))
        except FileNotFoundError:
            return []


def landing_names(names: list[str]) -> list[str]:
    """Return which of these names are those of landings."""
    return [name for name in names if _LANDING.fullmatch(name)]


def digest_in(name: str) -> str | None:
    """Return the digits of the item that a name belongs to, or None."""
    found = _OF_ITEM.fullmatch(name)
    return None if found is None else found[1]
