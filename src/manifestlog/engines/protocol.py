"""The seam: what managers, `extract`, the command line and tests need of an engine, and nothing else.

Invariants:

- Rows and encoded records go in and out, never models; so an engine loads no pydantic.
- A read sees everything that was acknowledged before the call, by whichever process.
- A write is one transaction: the verdict is decided and recorded with nothing in between, all of it or nothing.
- What only some engines can do is a `Capability`: a verb asks for it before it offers itself.

An engine decides how records are stored, shared and made durable. What a write means is the model's (`model.writes`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from manifestlog.model.writes import Added, History

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from manifestlog.engines.reports import (
        CheckReport,
        CompactionReport,
        Footprint,
        LogStatus,
        ProbeResult,
        RepairReport,
    )
    from manifestlog.model.codec import Encoded
    from manifestlog.model.rows import Row
    from manifestlog.model.verdict import Verdict
    from manifestlog.options import ManifestOptions


class Capability(StrEnum):
    """What an engine may be able to do beside keeping records."""

    SHARED = "shared"
    """Several processes may hold the manifest at once, and each sees what the others acknowledged."""
    DURABLE = "durable"
    """Records survive the process."""
    COMPACTION = "compaction"
    """There is a log that is merged into a canonical file now and then."""
    CHECK = "check"
    """Its own storage can be checked for damage."""
    REPAIR = "repair"
    """Damage can be mended."""
    HISTORY = "history"
    """It keeps every event, not only the rows that came of them."""


class Location(NamedTuple):
    """Where a manifest is; made by `Driver.locate`."""

    key: str
    """The same for the same manifest, however it was spelt."""
    display: str
    """How messages name it; holds no secret."""
    name: str
    """The manifest's name, such as `systems_download`."""
    directory: str
    """The absolute directory at which a relative `root_dir` begins."""


class Snapshot(History, Protocol):
    """The manifest at one moment; it never changes, whatever is written meanwhile."""

    @property
    def metadata(self) -> Row: ...

    def __len__(self) -> int: ...

    def checksums(self) -> Iterator[str]:
        """Every checksum, sorted."""

    def encoded(self, checksum: str) -> bytes | None:
        """A record's JSON, None for a content that is not there."""

    def rows(self) -> Iterator[Row]:
        """Every row, sorted by checksum."""


class Engine(Protocol):
    """One open manifest. Threads may share it."""

    @property
    def location(self) -> Location: ...

    @property
    def options(self) -> ManifestOptions: ...

    @property
    def read_only(self) -> bool: ...

    @property
    def closed(self) -> bool: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    # -- reading: raises `ManifestClosedError`, `DamagedManifestError` ------------------------------------------------

    def has(self, checksum: str) -> bool: ...

    def get(self, checksum: str) -> Row | None: ...

    def latest(self, source_id: str, dataset: str | None) -> Row | None:
        """A source's latest row as the source sees it; over all its datasets without one."""

    def count(self) -> int: ...

    def metadata(self) -> Row:
        """The manifest's metadata as of now, `total_records` included."""

    def snapshot(self) -> Snapshot: ...

    # -- writing: one transaction each, durable on return as `options.durability` says ---------------------------------

    def add(self, record: Encoded, *, live: bool = False) -> Added: ...

    def add_batch(self, records: Sequence[Encoded]) -> dict[Verdict, int]: ...

    def update(self, checksum: str, changes: Row) -> Added: ...

    def forget(self, checksum: str) -> bool:
        """Remove a content and all that was observed of it; false when it was not there."""

    def set_metadata(self, changes: Mapping[str, str]) -> None: ...

    def rewrite(self, plan: Callable[[History], Sequence[Encoded]]) -> None:
        """Replace rows by what the plan makes of them; the plan runs inside the transaction and may run twice."""

    # -- keeping -------------------------------------------------------------------------------------------------------

    def compact(self, *, wait: bool = False, if_needed: bool = False) -> CompactionReport:
        """Merge the log into the canonical file; without `COMPACTION` there is nothing to do."""

    def log_status(self) -> LogStatus: ...

    def close(self) -> None:
        """End the use; may be called again. What was acknowledged is kept."""

    # -- forks: called around `fork` in the parent, and in the child ----------------------------------------------------

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...


class Driver(Protocol):
    """An engine's way in: what must work without an open manifest, also for one that is damaged or missing."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def locate(self, text: str) -> Location:
        """Where the manifest of this path or URL is; raises `ValueError` for a name that is none."""

    def open(self, location: Location, metadata: Row | None, options: ManifestOptions, *, read_only: bool) -> Engine:
        """Open it, or create it with `metadata`; raises `ManifestNotFoundError`, `DamagedManifestError`, `NewerFormatError`."""

    def check(self, location: Location) -> CheckReport:
        """Look for damage without changing anything."""

    def repair(self, location: Location, *, dry_run: bool, lock_timeout_s: float) -> RepairReport:
        """Mend what is damaged; without `REPAIR` there is nothing to do. With `dry_run`, say what would be done."""

    def footprint(self, location: Location) -> Footprint:
        """How much room it takes, whatever state it is in."""

    def diagnose(self, directory: str) -> Generator[ProbeResult]:
        """Test whether manifests can be kept in this directory; leaves nothing behind once it ends or is closed."""

    def manifests(self, directory: str) -> Sequence[str]:
        """The paths of the manifests in this directory, by name."""
