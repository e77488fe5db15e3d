"""Receives a large body over several connections at once, which fetch different ranges of it.

Invariants:

- The first response is the first connection: the others ask for ranges of the same content, by its validator. A server
  that ignores ranges sends the whole body over the first one.
- A range of other content ends the transfer with `OtherContentError`; no byte of the body is used then.
- It has more than one connection only as long as the run grants them (`lending`).
- A connection that fails leaves its range to the others. The transfer fails when none is left.
- No thread writes to the part after `receive_body` has returned or raised.

`ranges` assigns the bytes, `part_ranges` writes them. The hash is computed afterwards, over the whole part.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from manifestlog.extract import ranges
from manifestlog.extract.attempts import Attempts, host_of
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.decide import Action, Part, Step, decide, is_other_content, pause_s, range_validator
from manifestlog.extract.fetchers.protocol import FetchError, FetchRequest, Response, ResponseHead
from manifestlog.extract.lending import Loan
from manifestlog.extract.part_file import PartFile
from manifestlog.extract.part_ranges import RangesWriter
from manifestlog.extract.places.protocol import Part as AnyPart
from manifestlog.extract.ranges import Share
from manifestlog.extract.receive import PROGRESS_BYTES, PaceCheck, receive
from manifestlog.extract.report import Progress
from manifestlog.extract.request_options import is_http, uses_post
from manifestlog.model.models import ManifestRecord
from manifestlog.workers.stop import StopAskedError

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_SAVE_EVERY_S = 5.0
"""How much of a download a killed process may lose, in time."""
_BACKOFF_MIN_S = 1.0
_END_WITHIN_S = 2.0
"""How long to wait at a stop for a connection that cannot be interrupted, such as one that looks up a name."""


class OtherContentError(Exception):
    """A range belongs to other content than the bytes so far."""


class _EndedError(Exception):
    """This connection is not needed any more."""


class _GivenBackError(_EndedError):
    """This connection is needed elsewhere."""


def receive_body(
    context: WorkerContext,
    source: ETLSource,
    response: Response,
    part: AnyPart,
    head: ResponseHead,
    attempts: Attempts,
    before: ManifestRecord | None,
) -> Action:
    """Take the body of a response, over several connections where that is allowed; `before` is the source's record."""
    validator = range_validator(Part(head.start, head.etag, head.last_modified, None, head.strong_date), before)
    may_divide = validator is not None and attempts.divides and _may_divide(context, source, head)
    if validator is None or not may_divide or not isinstance(part, PartFile):  # an object goes up from end to end
        receive(context, source, response, part, head, attempts)
        return Action(Step.COMPLETE)
    attempts.sha256 = None  # only the whole part has it
    try:
        _receive_ranges(context, source, response, part, head, attempts, validator)
    except OtherContentError:
        attempts.divides = False
        return Action(Step.RESTART, "the content changed during the download")
    return Action(Step.COMPLETE)


def _may_divide(context: WorkerContext, source: ETLSource, head: ResponseHead) -> bool:
    """Return whether this body is to arrive over several connections, if a validator identifies its content."""
    segments = source.segments or context.defaults.segments
    if segments == 1 or context.lending is None or head.encoding is not None:
        return False
    if not is_http(source.url) or uses_post(source, context.defaults):
        return False
    return head.length_bytes is not None and head.length_bytes - head.start >= 2 * ranges.RANGE_BYTES_MIN


def _receive_ranges(
    context: WorkerContext,
    source: ETLSource,
    response: Response,
    part: PartFile,
    head: ResponseHead,
    attempts: Attempts,
    validator: str,
) -> None:
    """Write the body from the byte where the head says it starts; return when the part is complete."""
    assert context.lending is not None
    loan = context.lending.begin((source.source_id, source.dataset), host_of(source.url))
    try:
        with RangesWriter(part, head) as writer:
            _Transfer(context, source, head, attempts, validator, writer, loan).run(response)
    finally:
        context.lending.end(loan)


@contextmanager
def _closing(blocks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Close the connection afterwards, if the fetcher's iterator can do that: its share may be all that it was for."""
    try:
        yield blocks
    finally:
        getattr(blocks, "close", lambda: None)()


@dataclass(slots=True, eq=False)
class _Transfer:
    """A body on its way, and the connections that fetch it."""

    context: WorkerContext
    source: ETLSource
    head: ResponseHead
    attempts: Attempts
    validator: str
    writer: RangesWriter
    loan: Loan
    threads: list[threading.Thread] = field(default_factory=list)
    connections: int = 0
    leaving: int = 0
    """Those of the connections that are about to end."""
    may_grow: bool = True
    grows_at: float = 0.0
    failures: int = 0
    """Connections that have failed since one has fetched its range."""
    is_over: bool = False
    reason: str = ""
    """Why the last connection has failed."""
    error: BaseException | None = None
    """What ends the transfer."""
    saved_at: float = field(default_factory=time.monotonic)
    emitted_at: float = 0.0

    def run(self, response: Response) -> None:
        """Fetch everything. The first connection reads this response."""
        pace, seen = PaceCheck(self.context, self.attempts), self.attempts.bytes
        self._start(self.writer.division.take_from(self.head.start, time.monotonic()), response)
        try:
            while self.connections:
                with self.context.stop.interruptible():
                    self.loan.changed.wait(_LOOK_EVERY_S)
                self.loan.changed.clear()
                pace.add(self.attempts.bytes - seen)
                seen = self.attempts.bytes
                self._look()
        finally:
            self._end()
        if self.error is not None:
            raise self.error
        if not self.writer.division.is_complete:
            raise FetchError(self.reason, transient=True)

    def _end(self) -> None:
        with self.writer.lock:
            self.is_over = True
        deadline = time.monotonic() + _END_WITHIN_S
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()) if self.context.stop.asked else None)

    # -- the thread of the source --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Do what is due: note what has arrived, report it, use more connections or fewer."""
        now = time.monotonic()
        with self.writer.lock:
            arrived, length = self.writer.division.bytes_arrived, self.writer.division.length
            has_work = self.writer.division.has_work(now)
        if arrived >= self.attempts.reached_bytes + PROGRESS_BYTES:
            self.attempts.reached_bytes, self.attempts.failures = arrived, 0
        if self.context.shows_progress and now - self.emitted_at > _LOOK_EVERY_S:
            self.emitted_at = now
            self.context.emit(Progress(self.source.source_id, self.source.dataset, arrived, length))
        if now - self.saved_at > _SAVE_EVERY_S:
            self.writer.save()
            self.saved_at = time.monotonic()
        self._grow(now, length - arrived if has_work else 0)

    def _grow(self, now: float, useful: int) -> None:
        """Open the connections that are granted, beyond the first one, if there are `useful` bytes to fetch over them."""
        held, is_due = max(0, self.connections - 1), self.may_grow and now >= self.grows_at
        if not self.may_grow:
            self.loan.ask(held, 0)
        elif not is_due:
            self.loan.ask(held, held)
        else:
            segments = self.source.segments or self.context.defaults.segments
            self.loan.ask(held, max(held, min(segments, useful // ranges.RANGE_BYTES_MIN) - 1))
        count = self.loan.granted + 1 - self.connections
        if is_due and count > 0:
            with self.writer.lock:
                shares = self.writer.division.take(now, count)
            for share in shares:
                self._start(share, None)

    def _start(self, share: Share, response: Response | None) -> None:
        thread = threading.Thread(target=self._work, args=(share, response), name="range", daemon=True)
        with self.writer.lock:
            self.connections += 1
        try:
            thread.start()
        except RuntimeError as error:  # a limit on threads
            with self.writer.lock:
                self.writer.division.end(share)
                self.connections -= 1
                self.may_grow, self.reason = False, str(error)
        else:
            self.threads.append(thread)

    # -- the thread of a connection ------------------------------------------------------------------------------------

    def _work(self, share: Share | None, response: Response | None) -> None:
        is_leaving = False
        try:
            while share is not None:
                try:
                    self._fetch(share, response)
                finally:
                    with self.writer.lock:
                        self.writer.division.end(share)
                self.failures, response = 0, None
                with self.writer.lock:
                    self._check()
                    share = next(iter(self.writer.division.take(time.monotonic())), None)
        except _GivenBackError:
            is_leaving = True
        except (_EndedError, StopAskedError):
            pass
        except FetchError as error:
            self._note_failure(error.reason)
        except Exception as error:  # noqa: BLE001 -- raised again in the thread of the source
            self.error, self.is_over = self.error or error, True
        finally:
            with self.writer.lock:
                self.connections -= 1
                self.leaving -= is_leaving
            self.loan.changed.set()

    def _check(self, *, is_first: bool = False) -> None:
        """Raise `_EndedError` if this connection should end. The caller holds the lock.

        The first response is never given back: the server may grant no other one.
        """
        if self.is_over:
            raise _EndedError
        if not is_first and self.connections - self.leaving > 1 + self.loan.granted:
            self.leaving += 1
            raise _GivenBackError

    def _fetch(self, share: Share, response: Response | None) -> None:
        if response is not None:
            self._receive(share, response, self.writer.division.length, is_first=True)
            return
        request = FetchRequest(start=share.position, if_range=self.validator, end=share.end)
        with self.context.fetcher.open(self.source, request) as found:
            self._judge(request, found.head)
            name = f"{self.source.dataset}/{self.source.source_id}"
            log.debug("%s: receiving bytes %d to %d over another connection", name, request.start, share.end)
            self._receive(share, found, share.end)

    def _receive(self, share: Share, response: Response, limit: int, *, is_first: bool = False) -> None:
        """Write the share's bytes; go on behind it as far as nobody else fetches what the response brings."""
        with _closing(response.blocks()) as blocks:
            while True:
                with self.context.stop.interruptible():
                    block = memoryview(next(blocks, b""))
                if not block:
                    cut = f"the connection was cut at byte {share.position} of {self.writer.division.length}"
                    raise FetchError(cut, transient=True)
                with self.writer.lock:
                    self._check(is_first=is_first)
                    self.attempts.bytes += len(block)
                    if not self._write(share, block, limit):
                        return

    def _write(self, share: Share, block: memoryview, limit: int) -> bool:
        """Write what is needed of a block; return whether more of the response is."""
        while block:
            block = block[self.writer.write(share, block) :]
            if not share.remaining and not self.writer.division.extend(share, limit):
                return False
        return True

    def _judge(self, request: FetchRequest, head: ResponseHead) -> None:
        """Raise what this response to a request for a range means, unless it is the range."""
        ours = self.head
        part = Part(request.start, ours.etag, ours.last_modified, ours.length_bytes)
        if head.status == 200 and not is_other_content(part, head):
            self.may_grow = False
            raise FetchError("the server ignores ranges", transient=True)
        action = decide(request, None, part, head)
        if action.step in (Step.WHOLE, Step.RESTART, Step.COMPLETE):
            raise OtherContentError
        if action.step is not Step.RESUME:
            self._hold(action.after_s)
            raise FetchError(action.reason, transient=True)

    def _note_failure(self, reason: str) -> None:
        self.reason = reason
        self._hold(None)
        log.debug("%s/%s: a connection failed: %s", self.source.dataset, self.source.source_id, reason)

    def _hold(self, after_s: float | None) -> None:
        """Open no connection for a while, longer after each failure."""
        self.failures += after_s is None
        backoff_s = max(self.context.defaults.backoff_s, _BACKOFF_MIN_S)
        seconds = pause_s(max(1, self.failures), backoff_s, after_s, random.random())  # noqa: S311 -- no secret
        self.grows_at = max(self.grows_at, time.monotonic() + seconds)
