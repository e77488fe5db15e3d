"""Which columns of a table a terminal has room for, and how wide they are.

Invariants:

- A figure is shown whole with its unit, or its column is not shown.
- Columns that matter are there at any width; what is in words is wrapped, never cut.
"""

from collections.abc import Collection, Mapping, Sequence

_WORDS_MIN = 24
"""Columns that matter less give way before words are wrapped below this width."""
_WORDS_LEAST = 8


def fit(
    widths: Mapping[str, int], available: int, *, gap: int, words: Collection[str], least: Sequence[str]
) -> dict[str, int]:
    """The columns that are shown and their widths, so that they fit into `available` with `gap` between two.

    `least` are left out where there is no room, the first one first. Columns of `words` share what the others leave.
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


def shortened(text: str, width: int) -> str:
    """The text in so many characters: its beginning and its end, as names that are alike differ there."""
    if len(text) <= width:
        return text
    end = (width - 1) // 3
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
