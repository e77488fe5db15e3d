"""The options of a manifest, in one frozen object. The names contain the units.

Invariants:

- An options object is always valid: a value out of range raises `ValueError` with the option's name.
- Equal objects mean the same behaviour, so openings with equal options can share a manager.

It reads neither the environment nor files. The command line maps its options to these fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

KIB = 1024
MIB = 1024 * KIB
FOREVER = "forever"
HISTORY_RULE = "forever, off, an age such as 90d, or a size such as 1GiB"


class Durability(StrEnum):
    """What an acknowledged write survives.

    - `POWER_CUT`: survives `kill -9` of every process and a power cut. A call returns after its `fdatasync`. The default.
    - `INTERVAL`: survives `kill -9` of every process. A power cut may lose the last `sync_interval_s` seconds.
    - `PROCESS_KILL`: survives `kill -9` of every process. A power cut may lose what the kernel has not yet written.
    """

    POWER_CUT = "power_cut"
    INTERVAL = "interval"
    PROCESS_KILL = "process_kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions:
    """The options for writing, locking and compacting a manifest.

    Sizes are in bytes, times in seconds.
    """

    durability: Durability = Durability.POWER_CUT
    sync_interval_s: float = 1.0
    """Only for `Durability.INTERVAL`: the longest time whose writes a power cut may lose."""
    lock_timeout_s: float = 30.0
    """How long to wait for other processes. A thread first waits up to one second longer for another waiting thread."""
    record_bytes_max: int = 1 * MIB
    """Longest record as JSON. A reader treats a longer line as damage."""
    batch_records_max: int = 10_000
    batch_bytes_max: int = 8 * MIB
    segment_bytes_max: int = 64 * MIB
    auto_compact: bool = True
    """Compact in a background thread, which starts with the first write."""
    compact_log_ratio: float = 1.0
    """Compact at once when the log is this many times as long as the canonical file, within the two limits below."""
    compact_log_bytes_min: int = 4 * MIB
    compact_log_bytes_max: int = 64 * MIB
    """The log may be twice as long if `compact_write_ratio` requires it (beside a canonical file of some 3 GB or more)."""
    compact_interval_s: float = 60.0
    """Maximum age of the canonical file while the log has records to merge, if the next two options allow it."""
    compact_time_share: float = 0.01
    """The share of the time that compactions may take. After one of 1 s, the next waits 100 s, unless the log is too long."""
    compact_write_ratio: float = 50.0
    """How many bytes compactions may write for each byte in the log; each writes the whole canonical file and its index.
    So a canonical file lacks at most about 1/50 of its records. Twice the ratio halves that and doubles the disk's work."""
    compact_small_bytes: int = 16 * MIB
    """`compact_write_ratio` does not apply to canonical files up to this size."""
    compact_in_child: bool = True
    """Compact a log of a megabyte or more in a child process, so that it takes no processor time from the writer's process.
    If no Python can be started, as in a frozen application, the background thread compacts."""
    history: str = FOREVER
    """How long covered segments are kept: `forever`, an age such as `90d`, a size such as `1GiB`, or `off`."""
    compact_on_close: bool = True
    """Compact when the last writer closes the manifest, if `compact_write_ratio` allows it. Short scripts then leave no log."""

    def __post_init__(self) -> None:
        parse_history(self.history)
        object.__setattr__(self, "durability", Durability(self.durability))
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)!r}")
        if self.lock_timeout_s < 0:
            raise ValueError(f"lock_timeout_s must not be negative, got {self.lock_timeout_s!r}")
        if self.compact_time_share > 1:
            raise ValueError(f"compact_time_share must not be above 1, got {self.compact_time_share!r}")
        if self.compact_small_bytes < 0:
            raise ValueError(f"compact_small_bytes must not be negative, got {self.compact_small_bytes!r}")
        if self.compact_log_bytes_min > self.compact_log_bytes_max:
            raise ValueError("compact_log_bytes_min must not be above compact_log_bytes_max")

    def log_bytes_limit(self, canonical_bytes: int, rewrite_bytes: int = 0) -> int:
        """Return the maximum length of the log, in bytes. At this length it is compacted at once.

        `rewrite_bytes` is what a compaction writes besides the log's records: the canonical file and its index.
        """
        return max(self._usual_limit(canonical_bytes), self.log_bytes_worth(canonical_bytes, rewrite_bytes))

    def log_bytes_worth(self, canonical_bytes: int, rewrite_bytes: int) -> int:
        """Return the minimum length of a log that is worth writing so many bytes."""
        if canonical_bytes <= self.compact_small_bytes:
            return 0
        return min(int(rewrite_bytes / self.compact_write_ratio), 2 * self._usual_limit(canonical_bytes))

    def _usual_limit(self, canonical_bytes: int) -> int:
        wanted = int(canonical_bytes * self.compact_log_ratio)
        return min(max(wanted, self.compact_log_bytes_min), self.compact_log_bytes_max)


class Keep(NamedTuple):
    """How much of the history is kept. Without either limit: everything, or with `off` nothing."""

    text: str
    age_s: float | None = None
    bytes_max: int | None = None
    off: bool = False

    def oldest(self, now: datetime) -> datetime | None:
        """Return the time before which the age allows to remove events; None if it allows none."""
        try:
            return None if self.age_s is None else now - timedelta(seconds=self.age_s)
        except OverflowError:
            return None  # such as 999999d: earlier than any time


_UNITS = {"h": 3600, "d": 86400, "w": 604800, "kib": KIB, "mib": MIB, "gib": 1024 * MIB, "tib": 1024 * 1024 * MIB}
_AGES = ("h", "d", "w")


def parse_history(text: str) -> Keep:
    """Return what the option `history` means; raises `ValueError` for any other text."""
    if text == FOREVER:
        return Keep(text)
    if text == "off":
        return Keep(text, off=True)
    found = re.fullmatch(r"([1-9][0-9]{0,11})(h|d|w|KiB|MiB|GiB|TiB)", text)
    if found is None:
        raise ValueError(f"history must be {HISTORY_RULE}; got {text!r:.40}")
    amount, unit = int(found[1]), found[2].lower()
    value = amount * _UNITS[unit]
    return Keep(text, age_s=float(value)) if unit in _AGES else Keep(text, bytes_max=value)


_POSITIVE = (
    "sync_interval_s",
    "record_bytes_max",
    "batch_records_max",
    "batch_bytes_max",
    "segment_bytes_max",
    "compact_log_ratio",
    "compact_log_bytes_min",
    "compact_interval_s",
    "compact_time_share",
    "compact_write_ratio",
)
