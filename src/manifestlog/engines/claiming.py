"""Takes several claims at once, for engines that take each claim separately."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manifestlog.engines.protocol import Claims


@contextmanager
def one_by_one(claims: Claims, kind: str, wanted: Sequence[str], wait_s: float) -> Iterator[set[str]]:
    """Claim each of these names, all within `wait_s`; yield those that succeeded."""
    deadline = time.monotonic() + wait_s
    with ExitStack() as held:
        yield {
            name
            for name in wanted
            if held.enter_context(claims.claim(kind, name, wait_s=max(0.0, deadline - time.monotonic())))
        }
