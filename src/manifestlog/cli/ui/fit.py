"""Fits the columns of a table to the width of a terminal.

Invariants:

- A number is shown completely with its unit, or its column is dropped.
- Important columns appear at any width. Text is wrapped, never cut.
- Text below a row is broken only between words, so that a path in it can be copied.
"""

import textwrap
from collections.abc import Collection, Mapping, Sequence

_WORDS_MIN = 24
"""Less important columns are dropped before text is wrapped below this width."""
_WORDS_LEAST = 8


def fit(
    widths: Mapping[str, int], available: int, *, gap: int, words: Collection[str], least: Sequence[str]
) -> dict[str, int]:
    """Return the shown columns and their widths, to fit into `available` with `gap` between two columns.

    Drops the columns `least`, in their order, until the rest fits. The columns `words` share the remaining width.
    """
    shown = dict(widths)
    for name in least:
        if _needed(shown, gap, words) <= available:
            break
        shown.pop(name, None)
    wrapped = [name for name in shown if name in words]
    fixed = sum(width for name, width in shown.items() if name not in words) + gap * (len(shown) - 1)
    left = max(available - fixed, _WORDS_LEAST * len(wrapped))
    given = dict.fromkeys(wrapped, 0)
    while left and (hungry := [name for name in wrapped if given[name] < shown[name]]):
        for name in hungry[:left]:
            given[name] += 1
        left -= min(left, len(hungry))
    return shown | given


def _needed(widths: Mapping[str, int], gap: int, words: Collection[str]) -> int:
    total = sum(min(width, _WORDS_MIN) if name in words else width for name, width in widths.items())
    return total + gap * (len(widths) - 1)


def fits(widths: Mapping[str, int], available: int, *, gap: int) -> bool:
    """Return whether all columns fit at their full widths."""
    return _needed(widths, gap, ()) <= available


def below(name: str, text: str, available: int) -> list[str]:
    """Return the lines below a row for a cell that has no room in it."""
    return textwrap.wrap(
        f"{name}: {text}",
        available,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def shortened(text: str, width: int) -> str:
    """Shorten the text to `width` characters. Keeps its start and its end, where similar names differ."""
    if len(text) <= width:
        return text
    end = (width - 1) // 3
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
