"""Receives a body: writes it to its part, reports progress, and ends a transfer that is too slow or too late.

It does not know what a response means (`decide`).
"""

from __future__ import annotations

import time

from manifestlog.extract.attempts import Attempts
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.fetchers.protocol import FetchError, Response, ResponseHead
from manifestlog.extract.places.protocol import Part
from manifestlog.extract.report import Progress

_EMIT_EVERY_S = 0.1
PROGRESS_BYTES = 1 << 20
"""Bytes beyond the furthest point so far that reset the failure count: a large file may be cut many times."""


def timeout_error(context: WorkerContext, what: str) -> FetchError:
    late = f"not done within timeout_total_s ({context.defaults.timeout_total_s:g} s): {what}"
    return FetchError(f"{late}; the part is kept: run extract again to resume it", transient=False)


class PaceCheck:
    """Ends the download of a body that is too slow or past its deadline."""

    def __init__(self, context: WorkerContext, attempts: Attempts) -> None:
        self._context, self._deadline = context, attempts.deadline
        self._since, self._bytes = time.monotonic(), 0

    def add(self, size_bytes: int) -> None:
        """Count received bytes; raises `FetchError` if they are too few or too late."""
        now, wanted = time.monotonic(), self._context.defaults
        self._bytes += size_bytes
        if now > self._deadline:
            raise timeout_error(self._context, "the body is incomplete")
        seconds = now - self._since
        if seconds >= wanted.stall_s:
            if self._bytes < wanted.bytes_per_s_min * seconds:
                slow = f"too slow: {self._bytes:,} bytes in {seconds:.0f} s"
                raise FetchError(f"{slow}, less than bytes_per_s_min ({wanted.bytes_per_s_min:g}) over stall_s", True)
            self._since, self._bytes = now, 0


def receive(
    context: WorkerContext,
    source: ETLSource,
    response: Response,
    part: Part,
    head: ResponseHead,
    attempts: Attempts,
) -> None:
    """Write the body from the byte where the head says it starts; the part is complete at the announced length."""
    with part.writer(head) as writer:
        blocks, emitted_at, pace = response.blocks(), 0.0, PaceCheck(context, attempts)
        while True:
            with context.stop.interruptible():
                block = next(blocks, b"")
            if not block:
                break
            writer.write(block)
            attempts.bytes += len(block)
            pace.add(len(block))
            if writer.length_bytes >= attempts.reached_bytes + PROGRESS_BYTES:
                attempts.reached_bytes, attempts.failures = writer.length_bytes, 0
            if context.shows_progress and time.monotonic() - emitted_at > _EMIT_EVERY_S:
                emitted_at = time.monotonic()
                context.emit(Progress(source.source_id, source.dataset, writer.length_bytes, head.length_bytes))
        _check_length(writer.length_bytes, head)
        attempts.sha256 = writer.sha256


def _check_length(length_bytes: int, head: ResponseHead) -> None:
    said = head.length_bytes
    if said is not None and length_bytes != said:
        short = f"the connection was cut at byte {length_bytes} of {said}"
        long = f"the body is longer than announced: {length_bytes} of {said} bytes"
        raise FetchError(short if length_bytes < said else long, True)
