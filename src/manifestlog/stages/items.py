"""Items: the units of a stage's work, a record or a group of records.

Invariants:

- An item is plain data and names its input files. Only `output` and `output_path` create anything on the disk, in the
  stage's working directory.
- `key` is the same for the same input or group, in every run.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from manifestlog.files import system
from manifestlog.model import codec
from manifestlog.model.models import record_from_row
from manifestlog.model.rows import sort_key
from manifestlog.model.url_paths import path_of
from manifestlog.names import is_url
from manifestlog.stages.outcome import Output
from manifestlog.stages.report import ItemRef

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from manifestlog.model.models import ManifestRecord
    from manifestlog.model.rows import Row
    from manifestlog.stages.outcome import Outcome


DIGITS = 32


class ItemTask(NamedTuple):
    """An item for a worker: the encoded rows of its inputs, the first by time first."""

    key: str
    """The checksum of the input, or the key of the group."""
    rows: tuple[bytes, ...]
    attempt: int = 1
    is_doubtful: bool = False
    """Whether it may be done already, so that the history must be asked: it was in a worker that died, or may be older."""
    was_lost: bool = False
    """Whether it was in a worker of this run that died."""


class Naming(NamedTuple):
    """What the stage says about its items."""

    root: str
    """The absolute directory of relative paths upstream."""
    stage: str
    is_grouped: bool = False


class Input:
    """One input of an item: a record of the upstream manifest."""

    __slots__ = ("local", "location_text", "row")

    def __init__(self, row: Row, root: str) -> None:
        self.row = row
        """The record as a plain row."""
        recorded = str(row["file_path"])
        self.location_text = recorded if is_url(recorded) else os.path.join(root, recorded)
        """`location` as text: to make a `Path` takes longer than all the rest of a small item."""
        self.local: Path | None = None
        """The copy that the work reads, of a file in an object store."""

    @property
    def record(self) -> ManifestRecord:
        return record_from_row(self.row)

    @property
    def checksum(self) -> str:
        return str(self.row["checksum"])

    @property
    def source_id(self) -> str:
        return str(self.row["source_id"])

    @property
    def dataset(self) -> str:
        return str(self.row["dataset"])

    @property
    def location(self) -> Path:
        """Where the file is: its absolute path, or its URL in an object store."""
        return path_of(self.location_text)

    @property
    def path(self) -> Path:
        """The absolute path of the file to read; for a file in an object store, of a copy in the working directory."""
        return self.local or self.location

    @property
    def path_text(self) -> str:
        """The same as text."""
        return self.location_text if self.local is None else str(self.local)

    def __repr__(self) -> str:
        return f"<input {self.dataset}/{self.source_id} {self.checksum[:12]}>"


class Places(Protocol):
    """Where the outputs of items in work are."""

    def output_path(self, item: Item, name: str | None) -> str:
        """Return the path for an output in work, in a directory that exists."""

    def create(self, path: str) -> int:
        """Create this file, replacing one of that name, and return its descriptor."""


def digest_of(key: str, *, is_group: bool) -> str:
    """Return the digits that name an item in claims and in the working directory."""
    whole = hashlib.sha256(f"group {key}".encode(errors="surrogatepass")).hexdigest() if is_group else key
    return whole[:DIGITS]


class Item:
    """A record to process, or a group of records. A function and a loop get items."""

    __slots__ = (
        *("_asked_path", "_places", "attempt", "dataset", "default_name", "error", "inputs", "is_group", "is_of_loop"),
        *("key", "opened", "outcome", "outputs", "source_id", "task", "ts"),
    )

    def __init__(self, task: ItemTask, naming: Naming, places: Places, *, is_of_loop: bool = False) -> None:
        rows = [codec.loads(raw) for raw in task.rows]
        self.task = task
        self.key = task.key
        """The input's checksum; for a group, its key."""
        self.inputs = tuple(Input(row, naming.root) for row in rows)
        """The record, or the members of the group."""
        self.is_group = naming.is_grouped
        datasets = {str(row["dataset"]) for row in rows}
        self.source_id = task.key if naming.is_grouped else str(rows[0]["source_id"])
        """The input's; for a group, its key."""
        self.dataset = datasets.pop() if len(datasets) == 1 else naming.stage
        """The inputs'; the stage's name if they are of several."""
        self.attempt = task.attempt
        """The number of this attempt in this run, from 1."""
        self.ts: str = max(rows, key=sort_key)["ts_downloaded"]
        """The time of the latest input, as text."""
        self.outputs: list[Output] = []
        """The outputs that were written so far."""
        self.opened = 0
        """How many outputs are open."""
        self.default_name: str | None = None
        """The path of its output below the output directory, once that was asked for."""
        self.is_of_loop = is_of_loop
        self.outcome: Outcome | None = None
        """What a loop has said with `done`."""
        self.error: Exception | None = None
        """What went wrong in a block of a loop."""
        self._places = places
        self._asked_path: str | None = None
        """`output_path`, once that was asked for."""

    @property
    def record(self) -> ManifestRecord:
        """The upstream record; for a group, the first one."""
        return self.inputs[0].record

    @property
    def path(self) -> Path:
        """The absolute path of the input's file; for a group, of the first member's file."""
        return self.inputs[0].path

    @property
    def paths(self) -> list[Path]:
        """The absolute paths of all inputs' files."""
        return [one.path for one in self.inputs]

    @property
    def checksum(self) -> str:
        """The input's checksum; for a group, the SHA-256 of its members' checksums."""
        if not self.is_group:
            return self.key
        return hashlib.sha256("".join(sorted(one.checksum for one in self.inputs)).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """The digits that name the item in claims and in the working directory."""
        return digest_of(self.key, is_group=self.is_group)

    @property
    def output_path(self) -> Path:
        """The path to which to write a single output. It is in the working directory, and ends with the final name."""
        self._asked_path = self._places.output_path(self, None)
        return Path(self._asked_path)

    def written(self) -> list[Output]:
        """Return the outputs that were opened, and the one that is at `output_path`, if that was asked for."""
        path = self._asked_path
        return [*self.outputs, *([Output(Path(path))] if path is not None and system.has_name(path) else [])]

    @contextmanager
    def output(
        self,
        name: str | None = None,
        *,
        dataset: str | None = None,
        source_id: str | None = None,
        mode: str = "w",
    ) -> Iterator[Any]:
        """Open an output for writing: text in UTF-8, or bytes with `mode="wb"`. It counts if the block ends without error.

        `name` is its path below the output directory [default: the stage's `output` pattern]. It gets this name when
        the item is done. In a loop, an error in the block makes the item fail, and the loop continues; a name that cannot be
        used ends the loop.
        """
        path = self._places.output_path(self, name)
        text = {} if "b" in mode else {"encoding": "utf-8"}
        # Before the block of the item: a block that cannot begin cannot be left out, so its error ends a loop.
        file = os.fdopen(self._places.create(path), mode, **text)  # type: ignore[call-overload]
        with self:
            self.opened += 1
            with file:
                yield file
            self.opened -= 1
            self.outputs.append(Output(Path(path), None, name, dataset, source_id))

    def done(self, outcome: Outcome) -> None:
        """Set the result of the item in a loop, if it has no outputs: `nothing()`, `valid()`, `invalid(why)`, `loaded(rows)`."""
        self.outcome = outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Keep an error in a block of a loop as the item's failure. Anything but an `Exception` ends the loop."""
        if not self.is_of_loop or not isinstance(error, Exception):
            return False
        self.error = self.error or error
        return True

    @property
    def ref(self) -> ItemRef:
        """The item as displays and events name it."""
        inputs = tuple(one.checksum for one in self.inputs)
        return ItemRef(self.key, self.source_id, self.dataset, inputs, self.inputs[0].location_text)

    def __repr__(self) -> str:
        return f"<item {self.dataset}/{self.source_id} {self.key[:40]}>"
