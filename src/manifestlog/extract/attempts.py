"""A source's way through a run: the task, the results of its attempts so far, and how a turn ends.

These objects go back and forth between the run and its workers, so that a source that pauses occupies no worker:
between two attempts it waits in the run's schedule.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.report import Outcome

_CHAIN = re.compile(r"^.*::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_PORTS = {"http": ":80", "https": ":443"}


@dataclass(slots=True)
class Attempts:
    """The state shared by all attempts on one source. Its times are those of this machine's `time.monotonic`."""

    bytes: int = 0
    failures: int = 0
    reached_bytes: int = 0
    """Length of the content when the failure count was last reset."""
    sha256: str | None = None
    deadline: float = math.inf
    """When `timeout_total_s` expires."""
    began: float = field(default_factory=time.monotonic)
    status: int | None = None
    """The HTTP status of the last response."""
    spliced: bool = False
    """Whether the part was resumed without a validator: its halves may belong to different contents."""
    divides: bool = True
    """Whether several connections may fetch the body; not once a range had other content."""
    answered: bool | None = None
    """Whether the server answered the last request; None if it was not asked."""
    left: Outcome | None = None
    """What came of a download that an earlier run left complete but unregistered."""

    @classmethod
    def begin(cls, timeout_total_s: float | None) -> Attempts:
        """Return the state before the first attempt, which starts now."""
        return cls(deadline=time.monotonic() + (timeout_total_s or math.inf))


class Task(NamedTuple):
    """One source to fetch, with the state of its earlier attempts, if any.

    It names the source by its number in the run: workers have all sources, and a model is slow to send.
    """

    number: int
    host: str
    attempts: Attempts | None = None

    @classmethod
    def of(cls, number: int, source: ETLSource) -> Task:
        """Return the task of a source that has not started."""
        return cls(number, host_of(source.url))


class Ended(NamedTuple):
    """The end of a task."""

    outcome: Outcome
    host: str
    answered: bool | None


class Postponed(NamedTuple):
    """An attempt failed; the task is to be taken up again after a pause."""

    task: Task
    pause_s: float
    is_held: bool
    """Whether the server asked for less: then all requests to it wait."""
    answered: bool | None


def host_of(url: str) -> str:
    """Return the server of a URL as `scheme://host:port`; URLs without one, such as local files, share "".

    Of a chained URL (`simplecache::https://…`) the last link counts, which is the one that is fetched.
    """
    parts = urlsplit(_CHAIN.sub("", url))
    place = parts.netloc.rpartition("@")[2].lower()
    if not place:
        return ""
    scheme = parts.scheme.lower()
    return f"{scheme}://{place.removesuffix(_PORTS.get(scheme, ':'))}"
