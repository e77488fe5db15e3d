"""The exceptions of loads; part of the tree in `errors`."""

from __future__ import annotations

from typing import ClassVar

from manifestlog.errors import ManifestError


class LoadError(ManifestError):
    """A target does not allow a load: its table of loads, another loader, or the state of the connection."""

    _fields: ClassVar[tuple[str, ...]] = ("table", "reason", "advice")

    def __init__(self, table: str, reason: str, advice: str) -> None:
        reason = " ".join(reason.split())
        super().__init__(f"{table}: {reason}; nothing was loaded: {advice}")
        self.table = table
        self.reason = reason
        self.advice = advice


class HalfLoadedError(LoadError):
    """A load was committed before its end, so the target may hold some of its rows."""

    _fields = ("table", "stage", "checksum")

    def __init__(self, table: str, stage: str, checksum: str) -> None:
        ManifestError.__init__(
            self,
            f"{table}: {checksum} by {stage} was committed before its end, so some of its rows may be there;"
            " nothing was loaded: remove its rows, then call loading.forget, and let the code that loads commit nothing",
        )
        self.table = table
        self.stage = stage
        self.checksum = checksum
        self.reason = "a load was committed before its end"
        self.advice = "remove its rows, then call loading.forget"
