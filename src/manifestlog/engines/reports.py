"""What an engine says of its work: plain data, the same for every engine.

Invariants:

- A report holds names, numbers and texts only; it can be pickled, compared and written as JSON.

It decides nothing, and knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

DAMAGE = "damage"
NOTE = "note"


class Finding(NamedTuple):
    """Something that is not as it should be: `damage`, or a `note`."""

    level: str
    file: str
    offset: int | None
    meaning: str


@dataclass(slots=True)
class CheckReport:
    """What was looked at and what was found."""

    manifest: str
    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    log_lines: int = 0
    segments: int = 0

    @property
    def damaged(self) -> bool:
        return any(finding.level == DAMAGE for finding in self.findings)

    def damage(self, file: str, offset: int | None, meaning: str) -> None:
        self.findings.append(Finding(DAMAGE, file, offset, meaning))

    def note(self, file: str, offset: int | None, meaning: str) -> None:
        self.findings.append(Finding(NOTE, file, offset, meaning))


class RepairOutcome(StrEnum):
    """How a call of `repair` ended.

    - `NOTHING_TO_DO`: the manifest is sound.
    - `INDEX_REBUILT`: the manifest is sound, and its index was made anew.
    - `REPAIRED`: what was intact was kept; the report lists what was lost.
    - `WOULD_REBUILD_INDEX`: a dry run; the index would be made anew.
    - `WOULD_REPAIR`: a dry run; the manifest would be repaired.
    """

    NOTHING_TO_DO = "nothing_to_do"
    INDEX_REBUILT = "index_rebuilt"
    REPAIRED = "repaired"
    WOULD_REBUILD_INDEX = "would_rebuild_index"
    WOULD_REPAIR = "would_repair"


class Loss(NamedTuple):
    """Where something is lost, or (as a note) where nothing is: `bytes` of `file` from `offset`, None where unknown."""

    file: str
    offset: int | None
    bytes: int | None
    meaning: str
    checksums: list[str]


@dataclass(slots=True)
class RepairReport:
    """What was found, what was lost with it, and what was kept. `notes` are damage by which nothing is lost."""

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
    """How a test ended.

    - `OK`: the folder is good enough in this respect.
    - `WARNING`: it works, with a limit that the finding names.
    - `FAILED`: a manifest must not lie here.
    """

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class ProbeResult(NamedTuple):
    """What a test of a folder found, what that means, and what to do about it (empty when nothing)."""

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
    """What a compaction did. `writer_pause_s` is the longest time for which it kept writers out."""

    outcome: CompactionOutcome
    records_merged: int = 0
    records_total: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    writer_pause_s: float = 0.0


class Footprint(NamedTuple):
    """How much room a manifest takes, in bytes; known also of one that cannot be opened."""

    canonical_bytes: int = 0
    log_bytes: int = 0
    segments: int = 0


class LogStatus(NamedTuple):
    """How much is in the log. Sizes in bytes; `changed_since` and `compacted_at` are the times of log lines."""

    canonical_bytes: int
    log_bytes: int
    bytes_to_merge: int
    segments: int
    changed_since: str | None
    compacted_at: str
    compaction_s: float
