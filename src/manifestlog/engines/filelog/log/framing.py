"""Framing: splits a segment's bytes into valid lines and damage.

Invariants:

- Every byte belongs to one piece: a line with a correct CRC, or damage. Only an unfinished end belongs to none.
- No length or offset is taken from damaged bytes: the next line is found by a newline, or by how every line begins and ends.
- The same bytes give the same lines, however they are cut into blocks, in linear time.

It does no I/O and does not know what a line means (`lines`).
"""

from __future__ import annotations

import re
from collections import deque
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import checksums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LINE_START = b'{"op":"'
LINE_END = re.compile(rb',"crc":"[0-9a-f]{8}"\}')
_ENDS_MAX = 4


class Piece(NamedTuple):
    """A byte range of a segment: a valid line (without its newline), or damage if `line` is None."""

    offset: int
    end: int
    line: bytes | None
    terminated: bool = True


def pieces(blocks: Iterable[bytes], salt: int) -> Iterator[Piece]:
    """Yield every line and every damaged range of a whole segment, given in blocks, but no unfinished end."""
    waiting: list[bytes] = []
    start = 0
    for block in blocks:
        whole = block.rfind(b"\n") + 1
        waiting.append(block[:whole] if whole else block)
        if whole:
            data = b"".join(waiting)
            yield from split(data, start, salt)
            start += len(data)
            waiting = [block[whole:]]
    yield from split(b"".join(waiting), start, salt)


def split(data: bytes, start: int, salt: int) -> Iterator[Piece]:
    """Split `data`, which starts at offset `start` of a segment, into lines and damage.

    An unfinished end is not yielded: it is a line being written, or a torn tail. Junk in which no line ends is one
    damaged range, however many newlines it contains.
    """
    position = 0
    while position < len(data):
        begin = position
        stop = data.find(b"\n", position)
        line = data[position:] if stop < 0 else data[position:stop]
        offset = start + position
        position += len(line) + 1
        if checksums.line_is_intact(line, salt, offset):
            yield Piece(offset, offset + len(line) + (stop >= 0), line, stop >= 0)
        elif (junk := _junk_end(data, begin, stop)) > begin:
            yield Piece(start + begin, start + junk, None)
            position = junk
        else:
            yield from _salvage(line, offset, salt, terminated=stop >= 0)


def _junk_end(data: bytes, begin: int, stop: int) -> int:
    """Return the offset after the last newline before the next possible end of a line; `begin` if that is in this line."""
    if stop < 0:
        return begin
    found = LINE_END.search(data, begin)
    return data.rfind(b"\n", begin, found.start() if found else len(data)) + 1 or begin


def with_damage(known: list[Piece], new: Iterable[Piece]) -> list[Piece]:
    """Return all damage in order, with adjacent ranges joined, so that megabytes of junk are one range."""
    found = list(known)
    for piece in new:
        if piece.line is None:
            if found and found[-1].end == piece.offset:
                found[-1] = found[-1]._replace(end=piece.end, terminated=piece.terminated)
            else:
                found.append(piece)
    return found


def possible_lines(span: bytes) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield each offset at which a whole line may begin, with the offsets at which it may end, the likeliest first.

    The last end before the next beginning is the line's own CRC. A record may have a member of that name, so there are
    a few more; a hostile line has many, so these are not all.
    """
    for start, ends in groupby(_starts_and_ends(span), key=itemgetter(0)):
        yield start, tuple(deque((end for _, end in ends), maxlen=_ENDS_MAX))[::-1]


def _starts_and_ends(span: bytes) -> Iterator[tuple[int, int]]:
    """Yield every possible end with the last possible beginning before it. Each byte is looked at twice at most."""
    start = -1
    done = 0
    for found in LINE_END.finditer(span):
        later = span.rfind(LINE_START, done, found.start())
        start = start if later < 0 else later
        done = found.end()
        if start >= 0:
            yield start, done


def _salvage(span: bytes, offset: int, salt: int, *, terminated: bool) -> Iterator[Piece]:
    """Yield the valid lines inside a damaged span, for example after a lost newline or leading junk."""
    done = 0
    for start, ends in possible_lines(span):
        # Inside a valid line all quotes in texts are escaped, so no line can begin within another.
        end = next((end for end in ends if checksums.line_is_intact(span[start:end], salt, offset + start)), 0)
        if end:
            if start > done:
                yield Piece(offset + done, offset + start, None)
            done = end
            whole = terminated and done == len(span)
            yield Piece(offset + start, offset + done + whole, span[start:done], whole)
    if (done < len(span) and (terminated or done)) or (terminated and not span):
        # An empty line is damage too: a line that was overwritten with newlines must be reported.
        yield Piece(offset + done, offset + len(span) + terminated, None, terminated)
