"""A look at two manifests: which upstream records a stage still has to process, as of two cursors.

Invariants:

- A first look (`first_look`) reads all upstream records and all derivations of the stage. After that, only the events
  since are read.
- If the events leave something uncertain (a forgotten output, an undo, a cut history), a first look is made again. The
  answer is never wrong.
- An input that may be done without an event that says so is in `doubtful`: a worker checks the history before it
  processes the input.
- Forgotten content is not pending, and an alias makes nothing pending.

It decides about single records; `pending` makes items from them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.errors import CursorError, HistoryReachError
from manifestlog.model.before import undone
from manifestlog.model.events import EventKind
from manifestlog.stages.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableSet

    from manifestlog.manager import AbstractManifest
    from manifestlog.model.events import Event
    from manifestlog.stages.rule import Rule
    from manifestlog.stages.where import Where

_ADDS_NO_INPUTS = frozenset({EventKind.META, EventKind.ENDED, EventKind.RELOCATE, EventKind.RETIME})
_MAY_ADD_INPUTS = frozenset({EventKind.PUT, EventKind.DERIVED})


class UncertainError(Exception):
    """The events do not say what is pending. A signal to look anew; it reaches no caller."""


class Between(NamedTuple):
    """What a look is about: two manifests, which records are asked for, and which derivations count."""

    upstream: AbstractManifest
    outputs: AbstractManifest
    where: Where
    rule: Rule
    kept: str | None = None
    """The file that keeps the look for the next run; None if none does."""
    group_by: str | None = None
    """How the stage makes items of records: `Stage.group_by`. It says nothing about which records are pending."""


@dataclass(slots=True)
class Look:
    """What is pending as of two cursors. Not thread-safe."""

    upstream_cursor: str
    outputs_cursor: str
    pending: MutableSet[str] = field(default_factory=set)
    """The checksums that are to be processed. A first look has them as `Digests`, since there may be millions."""
    doubtful: set[str] = field(default_factory=set)
    """Those of them that may be done."""
    away: set[str] = field(default_factory=set)
    """The checksums that are done, and not upstream at present."""
    invalid: set[str] = field(default_factory=set)
    """The upstream checksums whose latest judgement is `invalid`."""
    unjudged: MutableSet[str] = field(default_factory=set)
    """Those without a judgement, if the stage wants valid ones."""
    failed: set[str] = field(default_factory=set)
    """The inputs of failures; some of these may be over."""

    def accepts(self, where: Where, checksum: str) -> bool:
        """Return whether the latest judgement of a record lets it pass."""
        if checksum in self.unjudged:
            return where.accepts(None)
        return where.accepts("invalid" if checksum in self.invalid else "valid")

    def renew(self, between: Between, *, without_run: str | None = None) -> None:
        """Take in what has happened since. Raises `UncertainError`; the look is then useless.

        What the run `without_run` has done is known already, and was taken in by `done`.
        """
        with _uncertain_if_cut():
            feed = between.upstream.feed(self.upstream_cursor)
            for event in feed.new():
                self._take_upstream(event, between)
            self.upstream_cursor = feed.cursor
            feed = between.outputs.feed(self.outputs_cursor, without_run=without_run)
            for event in feed.new():
                self._take_output(event, between)
            self.outputs_cursor = feed.cursor

    def _take_upstream(self, event: Event, between: Between) -> None:
        checksum, where = event.checksum, between.where
        if event.kind is EventKind.RESET:
            raise UncertainError
        if checksum is None:
            return
        if event.is_change and not event.says_before:
            raise UncertainError
        was_accepted = self.accepts(where, checksum)
        self._judge(checksum, event, where)
        if not event.is_change:
            if event.judgement is not None:
                self._judged_anew(checksum, between, was_accepted=was_accepted)
        elif event.row is None:
            self._gone(checksum, event, where, was_accepted=was_accepted)
        else:
            self._recorded(checksum, event, where, was_accepted=was_accepted)

    def _judge(self, checksum: str, event: Event, where: Where) -> None:
        """Keep the judgement of an event, if it has one."""
        if event.judgement is not None:
            self.unjudged.discard(checksum)
            (self.invalid.add if event.judgement == "invalid" else self.invalid.discard)(checksum)
        elif event.is_change and event.was is None and where.judgement == "valid":
            self.unjudged.add(checksum)

    def _recorded(self, checksum: str, event: Event, where: Where, *, was_accepted: bool) -> None:
        assert event.row is not None
        is_wanted = where.admits(event.row) and self.accepts(where, checksum)
        before = undone(event.row, event.was)
        if not is_wanted:
            self._drop(checksum)
        elif before is None:
            if checksum not in self.away:
                self.pending.add(checksum)
            self.away.discard(checksum)
        elif not (was_accepted and where.admits(before)):
            self._doubt(checksum)

    def _judged_anew(self, checksum: str, between: Between, *, was_accepted: bool) -> None:
        """Take in a judgement that changed no record."""
        if not self.accepts(between.where, checksum):
            self._drop(checksum)
        elif not was_accepted and between.upstream.has_checksum(checksum):
            self._doubt(checksum)

    def _gone(self, checksum: str, event: Event, where: Where, *, was_accepted: bool) -> None:
        was_wanted = was_accepted and event.was is not None and where.admits(event.was)
        if was_wanted and checksum not in self.pending:
            self.away.add(checksum)
        self._drop(checksum)
        self.invalid.discard(checksum)
        self.unjudged.discard(checksum)

    def _take_output(self, event: Event, between: Between) -> None:
        if event.kind is EventKind.BEGUN:
            refuse_other_stage(between, event.stage)
        elif event.kind is EventKind.FAILED:
            self.failed.update(event.inputs)
        elif event.kind in _MAY_ADD_INPUTS:
            if between.rule.counts(event):
                self.done(event.inputs, between.upstream)
        elif event.kind not in _ADDS_NO_INPUTS:
            raise UncertainError

    def done(self, inputs: tuple[str, ...], upstream: AbstractManifest) -> None:
        """Take in that these inputs are done."""
        for checksum in inputs:
            if checksum in self.pending:
                self._drop(checksum)
            elif not upstream.has_checksum(checksum):
                self.away.add(checksum)

    def _doubt(self, checksum: str) -> None:
        if checksum not in self.pending:
            self.doubtful.add(checksum)
        self.pending.add(checksum)

    def _drop(self, checksum: str) -> None:
        self.pending.discard(checksum)
        self.doubtful.discard(checksum)


@contextmanager
def _uncertain_if_cut() -> Iterator[None]:
    """Raise `UncertainError` if events are not there any more, or a cursor is none of this manifest."""
    try:
        yield
    except (CursorError, HistoryReachError):
        raise UncertainError from None


def refuse_other_stage(between: Between, stage: str | None) -> None:
    """Raise `StageError` if another stage has written the outputs' manifest."""
    if stage not in (None, between.rule.stage):
        name = between.outputs.location.name
        reason = f"the stage {stage} has written {name}: give each stage a manifest of its own, or this one that name"
        raise StageError(between.rule.stage, "manifest", reason)
