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
    one(
        "a wait that the kernel ends is not the end of a body",
        "half a content, registered",
        "a body of unknown length that stops",
        "extract.fetchers.connections:_Reader.readinto", "raise TimeoutError", "return 0",
    ),
    one(
        "an attempt looks for what the one before has left, whatever an older list says",
        "a body that begins anew after each break",
        "an attempt after a list of its directory",
        "extract.download:_may_be_left", "part.load() if attempts.failures else part.may_be_left()", "part.may_be_left()",
    ),
    one(
        "whoever has claimed a source looks again, whatever an older list says",
        "the state of one content beside the part of another",
        "a part that another run leaves after a list",
        "extract.download:_claim_late", "turn.part.load() or ", "",
    ),
    one(
        "a part is read from the disk where nothing was written",
        "an expectation that an old content meets",
        "a part that is decoded",
        "extract.part_file:PartFile.decoded_path", "self.close()", _NOT_DONE,
    ),
]  # fmt: skip
