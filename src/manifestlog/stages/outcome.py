"""The outcome of one attempt at an item, as plain data.

Invariants:

- An outcome is one of five kinds: outputs, nothing, a judgement, loaded rows, or a failure.
- It says what was done, not where it is recorded; `register` turns it into records and events.

A function returns one of these, or something that `function` turns into one: None, a path, bytes, an `Output`, or a
list of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Output(NamedTuple):
    """One output of an item.

    Its content is `data`, or the file at `path`: a path from the item, or one below the stage's output directory.
    """

    path: Path | None = None
    data: bytes | None = None
    name: str | None = None
    """Its path below the output directory. [default: the stage's `output` pattern; for a file already there, its own path]"""
    dataset: str | None = None
    """[default: the stage's, or else the input's]"""
    source_id: str | None = None
    """[default: the input's; if several outputs of an item have the same dataset, followed by `/` and the file name]"""


class Made(NamedTuple):
    """Outputs, at least one."""

    outputs: tuple[Output, ...]


class Nothing(NamedTuple):
    """There is nothing to do with this input; it is not pending again."""

    why: str | None = None


class Judgement(NamedTuple):
    """The input itself was judged: it gets a record in the stage's manifest, with this judgement in its event."""

    is_valid: bool
    why: str | None = None

    @property
    def word(self) -> str:
        """`valid` or `invalid`."""
        return "valid" if self.is_valid else "invalid"


class Loaded(NamedTuple):
    """The input was loaded into a target, such as a table; it gets a record in the stage's manifest."""

    rows: int | None = None
    target: str | None = None
    """The target, without credentials."""


class Failed(NamedTuple):
    """The attempt failed; only this failure is recorded."""

    error: str
    exit_code: int | None = None
    """The exit code of a command; minus the number of the signal that ended it."""
    stderr: str | None = None
    """The last lines that a command wrote there."""
    is_final: bool = False
    """Whether trying again is useless, as for an input that is missing."""


Outcome = Made | Nothing | Judgement | Loaded | Failed


def nothing(why: str | None = None) -> Nothing:
    """Return the outcome that there is nothing to do with this input."""
    return Nothing(why)


def valid(why: str | None = None) -> Judgement:
    """Return the outcome that the input is valid."""
    return Judgement(is_valid=True, why=why)


def invalid(why: str) -> Judgement:
    """Return the outcome that the input is invalid, and why."""
    return Judgement(is_valid=False, why=why)


def loaded(rows: int | None = None, target: str | None = None) -> Loaded:
    """Return the outcome that the input was loaded, as this many rows, into this target."""
    return Loaded(rows, target)
