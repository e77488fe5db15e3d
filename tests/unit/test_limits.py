"""How long a transaction may take."""

from __future__ import annotations

import time

import pytest

from manifestlog.engines.postgres import limits


@pytest.mark.parametrize(
    ("count", "size", "ms"),
    [(0, 0, 0), (1, 900, 1), (1000, 0, 1000), (1, 64 << 20, 67_109)],
)
def test_what_writes_more_may_take_longer(count: int, size: int, ms: int) -> None:
    assert limits.time_to_write(count, size) == ms


@pytest.mark.parametrize(("passed_s", "is_due"), [(0.0, False), (limits.RENEW_S, True)])
def test_a_limit_is_renewed_after_a_while(passed_s: float, is_due: bool) -> None:
    assert limits.time_to_renew(time.monotonic() - passed_s) is is_due
