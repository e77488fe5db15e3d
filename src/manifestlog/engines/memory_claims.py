"""Claims in memory: which worker of this process works on what.

Invariants:

- A claim has one holder at a time. It ends with its `with` block, or when its holder is closed.
- Taking a claim is one dictionary operation, so a fork cannot leave a lock held.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from manifestlog.engines.claiming import one_by_one
from manifestlog.model.rows import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

_POLL_S = 0.005


class Claimed:
    """Who holds which claim, and what was skipped."""

    def __init__(self) -> None:
        self.holders: dict[tuple[str, str, str], MemoryClaims] = {}
        """The holder of each claim, by directory, kind and name."""
        self.skips: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
        """By directory: the times of the runs in a row that skipped a claimed name."""


class MemoryClaims:
    """The claims of one worker in a directory, among the workers of this process."""

    def __init__(self, directory: str, claimed: Claimed) -> None:
        self.display = directory
        self._claimed = claimed
        self._directory = os.path.realpath(directory)

    @contextmanager
    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        key = self._directory, kind, name
        ours = self._take(key, time.monotonic() + wait_s)
        try:
            yield ours
        finally:
            if ours:
                self._release(key)

    def _take(self, key: tuple[str, str, str], deadline: float) -> bool:
        while (
            self._claimed.holders.setdefault(key, self) is not self
        ):  # one step, so no lock that a fork could leave held
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _release(self, key: tuple[str, str, str]) -> None:
        if self._claimed.holders.get(key) is self:
            del self._claimed.holders[key]

    def claim_many(self, kind: str, wanted: Sequence[str], *, wait_s: float = 0.0) -> AbstractContextManager[set[str]]:
        return one_by_one(self, kind, wanted, wait_s)

    def fence(self, *_: Self) -> AbstractContextManager[None]:
        """Do nothing: a claim ends only with this process."""
        return nullcontext()

    def ensure_held(self, *_: Self) -> None:
        """Do nothing, for the same reason."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        return ()

    def record_skip(self, name: str) -> list[str]:
        times = self._claimed.skips[self._directory].setdefault(name, [])
        times.append(utc_text(datetime.now(UTC)))
        return list(times)

    def clear_skips(self, name: str) -> None:
        self._claimed.skips[self._directory].pop(name, None)

    def close(self) -> None:
        for key in list(self._claimed.holders):
            self._release(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


claimed = Claimed()
"""The claims of this process. They belong to data directories, which several manifests may share."""
