"""Safeguards of a download in several ranges: what its state may say of its part."""

from __future__ import annotations

from .seeding import one

_SAVE = "extract.part_ranges:RangesWriter.save"
_NOT_DONE = "pass"
_RANGES, _IN_ORDER = "a part in ranges", "a part in order that goes on in ranges"

EXTRACT = [
    one(
        "ranges are synced before they are noted",
        "a hole taken for content after a power cut",
        _RANGES,
        _SAVE, "os.fsync(self._fd)", _NOT_DONE,
    ),
    one(
        "what arrives during a sync is noted by the next one",
        "a hole taken for content after a power cut",
        _RANGES,
        _SAVE,
        "with self.lock:\n        arrived = self.division.arrived\n    os.fsync(self._fd)",
        "os.fsync(self._fd)\n    arrived = self.division.arrived",
    ),
    one(
        "a part has ranges before a byte is written behind a gap",
        "a part whose length counts bytes that never came",
        _IN_ORDER,
        "extract.part_ranges:RangesWriter.__init__", "self.save()", _NOT_DONE,
    ),
    one(
        "ranges beyond the end of a part do not count",
        "new content with a hole where the old one had bytes",
        _RANGES,
        "extract.part_file:PartFile.ranges", "size_of(self.path) or 0", "1 << 60",
    ),
    one(
        "a state is synced before it replaces the old one",
        "a part without a state after a power cut",
        _RANGES,
        "extract.part_file:PartFile.replace_state", "os.fsync(fd)", _NOT_DONE,
    ),
]  # fmt: skip
