"""Repeats a request that an S3 store refuses because it is busy, for half a minute.

botocore sends a request at most three times, within a tenth of a second after a 503, and within three seconds after a
`SlowDown`. An overloaded store needs longer.

Invariants:

- Only an answer is repeated: if a store does not answer, the run reports that at once.
- If the user sets a number of attempts for botocore (`AWS_MAX_ATTEMPTS`, or `max_attempts` in ~/.aws/config), that
  number is kept.
"""

from __future__ import annotations

import random
from typing import Any

_STATUSES = frozenset({429, 500, 502, 503, 504})
_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""After each attempt; botocore's own pauses take the place of the first ones."""


def be_patient(client: Any, session: Any) -> None:
    """Let a client of this session repeat requests that the store is too busy for."""
    if session.get_config_variable("max_attempts") is None:
        client.meta.events.register_last("needs-retry.s3", _pause_s)


def _pause_s(attempts: int, response: tuple[Any, Any] | None, **_: Any) -> float | None:
    """Return how long to wait before the next attempt; None if there is none. A pause of botocore's own comes first."""
    if response is None or response[0].status_code not in _STATUSES or attempts > len(_PAUSES_S):
        return None
    return random.uniform(0.5, 1.0) * _PAUSES_S[attempts - 1]  # noqa: S311 -- no secret
