"""What each process of a storm writes down, outside of the manifest's directory, and what follows from all of it.

Invariants:

- One file a process, one `os.write` an entry: what a killed process was told is here, or it was not told it.
- A change is announced before the call and answered after it. An announcement alone means "maybe".
- Times are of the monotonic clock, which all processes of the machine share.

An entry is `time word arguments`; what the words mean stands at the methods of `Diary`.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernel.history import Op

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

now = time.monotonic_ns
WINS = frozenset({"new", "changed"})


class Diary:
    """One process's entries, made while it lives."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)

    def begins(self, what: str, content: str) -> None:
        """`add number/source/revision …`, `update number/revision`, `forget number`, `compact -`: about to be called."""
        self._write(now(), f"begins {what} {content}")

    def told(self, answer: str) -> None:
        """The call returned: the verdict, or how many of a batch were not there before, or `True`, `False`, `missing`."""
        self._write(now(), f"told {answer}")

    def looked(self, since: int, number: int, *, there: bool) -> None:
        """A look that began at `since`."""
        self._write(now(), f"looked {since} {number} {there:d}")

    def notes(self, word: str) -> None:
        """Something to be counted: `fenced`."""
        self._write(now(), f"notes {word}")

    def _write(self, at: int, text: str) -> None:
        os.write(self._fd, f"{at} {text}\n".encode("ascii"))


@dataclass
class Findings:
    """Everything that the diaries say."""

    ops: dict[int, list[Op]] = field(default_factory=lambda: defaultdict(list))
    """Operations by the number of their checksum."""
    tried: dict[int, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))
    """(source, revision) that anybody tried to record for a number; for an update the source is empty."""
    kept: dict[int, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """(begin, source) of every acknowledged add of a number."""
    counts: Counter[str] = field(default_factory=Counter)

    def last_forget(self, number: int) -> int:
        """When the last forget of this number that may have happened was over; 0 without any."""
        return max((op.end for op in self.ops[number] if op.left is False), default=0)


def read_diaries(deaths: Iterable[tuple[Path, int]]) -> Findings:
    """Read the diaries of processes that are gone; `deaths` gives when each was certainly gone."""
    findings = Findings()
    for path, death in deaths:
        if path.exists():  # else it was killed before it could write
            _read_one(findings, path, death)
    return findings


def _read_one(findings: Findings, path: Path, death: int) -> None:
    begun: list[str] | None = None
    for entry in _entries(path):
        word = entry[1]
        if word == "begins":
            begun = entry
            _note_tried(findings, entry)
        elif word == "told":
            assert begun is not None
            _told(findings, begun, int(entry[0]), entry[2], path.name)
            begun = None
        elif word == "looked":
            op = Op(int(entry[2]), int(entry[0]), entry[4] == "1", None, sure=True, who=f"{path.name}: a look")
            findings.ops[int(entry[3])].append(op)
            findings.counts["looks"] += 1
        else:
            findings.counts[entry[2]] += 1
    if begun is not None:
        _told(findings, begun, death, None, path.name)


def _entries(path: Path) -> Iterator[list[str]]:
    # A kill may have torn the last entry: then the call that it announces was not made, or its answer not believed.
    yield from (line.split(" ") for line in path.read_text("ascii").split("\n")[:-1])


def _note_tried(findings: Findings, entry: list[str]) -> None:
    for content in entry[3:]:
        parts = content.split("/")
        if entry[2] == "add":
            findings.tried[int(parts[0])].add((parts[1], int(parts[2])))
        elif entry[2] == "update":
            findings.tried[int(parts[0])].add(("", int(parts[1])))


def _told(findings: Findings, begun: list[str], end: int, answer: str | None, who: str) -> None:
    """Turn a call and its answer into operations; without an answer it is in doubt."""
    start, what, contents = int(begun[0]), begun[2], begun[3:]
    findings.counts[f"{what} {'in doubt' if answer is None else 'acknowledged'}"] += 1
    if what == "compact":
        if answer is not None:
            findings.counts[answer] += 1
        return
    for content in contents:
        number = int(content.split("/")[0])
        saw, left = _effect(what, answer, len(contents))
        name = f"{who}: {what} {content}, told {answer}"
        findings.ops[number].append(Op(start, end, saw, left, sure=answer is not None, who=name))
        if what == "add" and answer is not None:
            findings.kept[number].append((start, content.split("/")[1]))
            findings.counts["records acknowledged"] += 1


def _effect(what: str, answer: str | None, count: int) -> tuple[bool | None, bool | None]:
    """(whether the answer says that the checksum was there before, what it left)."""
    if what == "add":
        if answer is None:
            return None, True
        if answer.isdigit():  # a batch tells how many were not there: all, none, or nobody knows which
            return {0: True, count: False}.get(int(answer)), True
        return answer not in WINS, True
    if what == "forget":
        return (None if answer is None else answer == "True"), (None if answer == "False" else False)
    return (None if answer is None else answer != "missing"), None
