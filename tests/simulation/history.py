"""What simulated processes asked and were told, and what that wrote: the material of the checker.

Invariants:

- Times are logical: one more at every start and end of a call of the API, line of the log and publication of a canonical.
- A line of the log belongs to the call that was running in the process that wrote it. It is seen in the kernel, not in the
  engine, and counts when its closing brace is there: from then on a reader may take it.
- Watching changes nothing and makes no system call.

It also looks, whenever a process has been answered, that this process holds no lock; and at each new canonical, that it is one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from .disk import Inode
from .kernel import Crash
from .scenario import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from .disk import SimDisk
    from .kernel import Description
    from .machine import Machine

Row = dict[str, Any]

CHANGES = frozenset({"put", "batch", "forget"})
_SEGMENT = re.compile(r"\.wal-(\d+)\.jsonl(\.tmp-|$)")
_CRC_TAIL = len(b',"crc":"00000000"}')
_SALT = re.compile(rb'"salt":"([0-9a-f]{8})"')
_IS_OUR_LOCK = re.compile(r"\.lock$")


@dataclass(slots=True, eq=False)
class Call:
    """One call of the API by one process; `ended` is None when it was never answered."""

    pid: int
    kind: str
    args: tuple[Any, ...]
    began: int
    ended: int | None = None
    result: Any = None
    lines: list[Line] = field(default_factory=list)

    def __str__(self) -> str:
        answer = "unanswered" if self.ended is None else repr(self.result)
        return f"[{self.began}, {self.ended}] {self.pid} {self.kind}{self.args} → {answer}"


class Line(NamedTuple):
    """One line of the log that says of a change, who wrote it and when."""

    segment: int
    offset: int
    at: int
    call: Call | None
    op: Row


class Published(NamedTuple):
    """A canonical that got its name at a time."""

    at: int
    rows: dict[str, Row]


class History:
    """The recorder of one run; `earlier` is the history of what lies on its disk already."""

    def __init__(self, machine: Machine, earlier: History | None = None) -> None:
        self.machine = machine
        self.now: int = earlier.now if earlier else 0
        self.calls: list[Call] = list(earlier.calls) if earlier else []
        self.lines: list[Line] = list(earlier.lines) if earlier else []
        self.published: list[Published] = list(earlier.published) if earlier else []
        self.not_ours: dict[int, frozenset[int]] = {}
        """By process: descriptors that it has of its parent's stack, as it was forked off in the middle of something."""
        self._inside: dict[int, Call] = {}
        self._taken: dict[int, int] = dict(earlier._taken) if earlier else {}
        machine.after = self.after

    def tick(self) -> int:
        self.now += 1
        return self.now

    def call(self, kind: str, args: tuple[Any, ...], do: Callable[[], Any]) -> Any:
        """Ask, and note question and answer; an error is an answer as well, unless the process is killed."""
        process = self.machine.current
        assert process is not None
        made = Call(process.pid, kind, args, self.tick())
        self.calls.append(made)
        self._inside[process.pid] = made
        try:
            result = do()
        except Crash:
            raise
        except BaseException as error:
            made.result = type(error)  # not itself: its traceback keeps managers alive
            raise
        finally:
            if not process.dead:
                made.ended = self.tick()
                del self._inside[process.pid]
        if kind != "open":  # a manager is no answer, and must not live on here
            made.result = result
        ours = [d for fd, d in process.fds.items() if fd not in self.not_ours.get(process.pid, ())]
        held = [d.path for d in ours if _IS_OUR_LOCK.search(d.path) and holds(d)]
        assert process.dead or held == [], f"process {process.pid} has its answer to {made}, and still holds {held}"
        return result

    # -- seen in the kernel --------------------------------------------------------------------------------------------

    def after(self, _number: int, name: str, args: tuple[Any, ...]) -> None:
        """The kernel's hook behind each call."""
        if name == "write":
            self._after_write(args[0])
        elif name in ("rename", "link") and args[1] == PATH:
            self.published.append(Published(self.tick(), canonical_rows(self.machine.disk)))
        elif name == "unlink":
            assert args[0] != PATH, "somebody removes the canonical"

    def _after_write(self, fd: int) -> None:
        process = self.machine.current
        assert process is not None
        description = process.fds[fd]
        found = _SEGMENT.search(description.path)
        if found is None or not isinstance(description.node, Inode):
            return
        number, data = description.node.number, description.node.data
        start = self._taken.get(number, 0)
        while (line := _line_at(data, start)) is not None:
            op = json.loads(line)
            if op["op"] in CHANGES:
                call = self._inside.get(process.pid)
                made = Line(int(found[1]), start, self.tick(), call, op)
                self.lines.append(made)
                if call is not None:
                    call.lines.append(made)
            start += len(line) + 1
            self._taken[number] = start


def canonical_rows(disk: SimDisk) -> dict[str, Row]:
    """The records of the canonical, which must be one."""
    node = disk.find(PATH)
    assert isinstance(node, Inode)
    document = json.loads(node.data)
    assert list(document) == ["metadata", "records"]
    rows: dict[str, Row] = document["records"]
    assert document["metadata"]["total_records"] == len(rows)
    assert list(rows) == sorted(rows)
    return rows


def holds(description: Description) -> bool:
    """Whether a lock is held through this open file."""
    return isinstance(description.node, Inode) and description in description.node.locks


def _line_at(data: bytes, start: int) -> bytes | None:
    """The line from `start` on, without its newline, if it is whole and its CRC is right."""
    if start >= len(data):
        return None
    stop = data.find(b"\n", start)
    line = data[start:] if stop < 0 else data[start:stop]
    salt = _SALT.search(data)
    if salt is None:
        return None
    body, tail = line[:-_CRC_TAIL], line[-_CRC_TAIL:]
    if tail != b',"crc":"%08x"}' % crc32(body, crc32(start.to_bytes(8, "little"), int(salt[1], 16))):
        return None
    return line
