"""Every knob of a manifest, in one frozen object; units are in the names.

Invariants:

- An options object is valid or does not exist: a value out of range raises `ValueError` naming it.
- Two equal objects mean the same behaviour, so a manager can be shared when the options are equal.

It does not read the environment or files; the command line maps its flags to these fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

KIB = 1024
MIB = 1024 * KIB


class Durability(StrEnum):
    """What an acknowledged write survives.

    - `POWER_CUT`: survives `kill -9` of every process and a power cut: a call returns after its `fdatasync`. The default.
    - `INTERVAL`: survives `kill -9` of every process; a power cut may take the last `sync_interval_s` seconds.
    - `PROCESS_KILL`: survives `kill -9` of every process; a power cut may take what the kernel has not yet written.
    """

    POWER_CUT = "power_cut"
    INTERVAL = "interval"
    PROCESS_KILL = "process_kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions:
    """How a manifest is written, locked and compacted.

    Sizes are in bytes, times in seconds.
    """

    durability: Durability = Durability.POWER_CUT
    sync_interval_s: float = 1.0
    """Only for `Durability.INTERVAL`: the most that a power cut may take."""
    lock_timeout_s: float = 30.0
    """How long to wait for other processes; before that, a second longer for another thread of this one that is waiting."""
    record_bytes_max: int = 1 * MIB
    """Longest record as JSON; with it a reader knows when a line cannot be one."""
    batch_records_max: int = 10_000
    batch_bytes_max: int = 8 * MIB
    segment_bytes_max: int = 64 * MIB
    auto_compact: bool = True
    """Compact beside the writers, in a thread that starts with the first write."""
    compact_log_ratio: float = 1.0
    """Compact when the log is this many times the canonical, between the two limits below."""
    compact_log_bytes_min: int = 4 * MIB
    compact_log_bytes_max: int = 64 * MIB
    compact_interval_s: float = 60.0
    """How old the canonical may grow while there is something to merge. Each compaction writes all of it: for records that
    come one by one to a manifest of 100 MB and more, an hour saves most of the disk's work."""
    compact_on_close: bool = True
    """The last writer that closes compacts, so that short scripts leave no log behind."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "durability", Durability(self.durability))
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)!r}")
        if self.lock_timeout_s < 0:
            raise ValueError(f"lock_timeout_s must not be negative, got {self.lock_timeout_s!r}")
        if self.compact_log_bytes_min > self.compact_log_bytes_max:
            raise ValueError("compact_log_bytes_min must not be above compact_log_bytes_max")

    def log_bytes_limit(self, canonical_bytes: int) -> int:
        """How long the log of a canonical of this size may grow before it is compacted."""
        wanted = int(canonical_bytes * self.compact_log_ratio)
        return min(max(wanted, self.compact_log_bytes_min), self.compact_log_bytes_max)


_POSITIVE = (
    "sync_interval_s",
    "record_bytes_max",
    "batch_records_max",
    "batch_bytes_max",
    "segment_bytes_max",
    "compact_log_ratio",
    "compact_log_bytes_min",
    "compact_interval_s",
)
