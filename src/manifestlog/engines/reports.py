"""The reports of every engine, as plain data.

Invariants:

- A report holds only names, numbers and strings; it can be pickled, compared and written as JSON.

It makes no decisions and knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

DAMAGE = "damage"
NOTE = "note"


class Finding(NamedTuple):
    """One irregularity in a file. `level` is `damage`, or `note` if it is harmless; `offset` is in bytes."""

    level: str
    file: str
    offset: int | None
    meaning: str


@dataclass(slots=True)
class CheckReport:
    """What `check` read and what it found."""

    manifest: str
    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    log_lines: int = 0
    segments: int = 0
    history_segments: int = 0
    """Segments of the history that are not in a pack."""
    history_packs: int = 0

    @property
    def damaged(self) -> bool:
        return any(finding.level == DAMAGE for finding in self.findings)

    def damage(self, file: str, offset: int | None, meaning: str) -> None:
        self.findings.append(Finding(DAMAGE, file, offset, meaning))

    def note(self, file: str, offset: int | None, meaning: str) -> None:
        self.findings.append(Finding(NOTE, file, offset, meaning))


class Holder(NamedTuple):
    """A worker that holds a claim."""

    host: str
    pid: int
    since: str | None
    """When it got the claim, as text in UTC; None if the engine does not store this."""
    kind: str
    name: str


class RepairOutcome(StrEnum):
    """How a call of `repair` ended.

    - `NOTHING_TO_DO`: the manifest is sound.
    - `INDEX_REBUILT`: the manifest is sound; its index was rebuilt.
    - `REPAIRED`: everything intact was kept; the report lists what was lost.
    - `WOULD_REBUILD_INDEX`: in a dry run: the index would be rebuilt.
    - `WOULD_REPAIR`: in a dry run: the manifest would be repaired.
    """

    NOTHING_TO_DO = "nothing_to_do"
    INDEX_REBUILT = "index_rebuilt"
    REPAIRED = "repaired"
    WOULD_REBUILD_INDEX = "would_rebuild_index"
    WOULD_REPAIR = "would_repair"


class Loss(NamedTuple):
    """A loss, or (as a note) damage without loss: `bytes` of `file` from `offset`; None where unknown."""

    file: str
    offset: int | None
    bytes: int | None
    meaning: str
    checksums: list[str]


@dataclass(slots=True)
class RepairReport:
    """What `repair` found, lost and kept. `notes` list damage that lost nothing."""

    manifest: str
    outcome: RepairOutcome = RepairOutcome.NOTHING_TO_DO
    findings: list[Finding] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    notes: list[Loss] = field(default_factory=list)
    records: int = 0
    records_from_log: int = 0
    originals: list[str] = field(default_factory=list)
    quarantine: str | None = None


class ProbeStatus(StrEnum):
    """How a test of a directory ended.

    - `OK`: the directory passes this test.
    - `WARNING`: manifests work here, with a limit that the result names.
    - `FAILED`: do not keep manifests here.
    """

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class ProbeResult(NamedTuple):
    """The result of one test of a directory: what it found, what that means, and advice (empty if none is needed)."""

    test: str
    status: ProbeStatus
    found: str
    advice: str = ""


class CompactionOutcome(StrEnum):
    """How a call of `compact` ended.

    - `COMPACTED`: the log was merged into a new canonical file.
    - `NOTHING_TO_DO`: there was nothing to merge; the canonical file was not touched.
    - `ALREADY_RUNNING`: another process or thread is compacting, and this call did not wait for it.
    """

    COMPACTED = "compacted"
    NOTHING_TO_DO = "nothing_to_do"
    ALREADY_RUNNING = "already_running"


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did. `writer_pause_s` is the longest time that it blocked writers, in seconds."""

    outcome: CompactionOutcome
    records_merged: int = 0
    records_total: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    writer_pause_s: float = 0.0


class Footprint(NamedTuple):
    """The disk space of a manifest, in bytes; also for a manifest that cannot be opened."""

    canonical_bytes: int = 0
    log_bytes: int = 0
    segments: int = 0
    history_bytes: int = 0


class LogStatus(NamedTuple):
    """The state of the log. Sizes are in bytes; `changed_since` and `compacted_at` are times of log lines.

    `rewrite_bytes` is the size of canonical file and index, which every compaction writes.
    """

    canonical_bytes: int
    log_bytes: int
    bytes_to_merge: int
    segments: int
    changed_since: str | None
    compacted_at: str
    compaction_s: float
    rewrite_bytes: int = 0
