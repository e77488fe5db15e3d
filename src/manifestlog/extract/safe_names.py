"""Which names are safe for a file or a folder, and how any text becomes such a name.

Invariants:

- A safe name stays in its folder, on every common system: no separator, no `..`, nothing hidden, nothing reserved.
- A safe name is never one of a working file, so no data file is ever taken for one.
- A safe name leaves room in NAME_MAX (255 bytes) for 12 checksum digits, a source's key and `.part.json`.
- `sanitize` gives a safe name whatever the text, the same for the same text, and changes no safe name.

It does not know sources or folders, and looks at no disk.
"""

from __future__ import annotations

import re
import unicodedata

from manifestlog.names import PART, PART_STATE, REJECTED, working_suffix

NAME_BYTES_MAX = 180
NAMELESS = "download"

_FORBIDDEN = frozenset('/\\:*?"<>|\N{REPLACEMENT CHARACTER}')
# Controls, invisible formatting (it can turn the reading direction), half characters, separators of lines.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_HEAD = re.compile(r"\A[. -]+")  # hidden files, options of commands, names that are easily misread
_TAIL = re.compile(r"[. ]+\Z")  # Windows drops them
_EDGES = re.compile(f"{_HEAD.pattern}|{_TAIL.pattern}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*:/")
_SUFFIX = re.compile(r"\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,10}\Z")
_WRAPPERS = frozenset(
    {".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzma", ".br", ".z", ".zip", ".asc", ".gpg", ".pgp", ".sig"}
)
_SUFFIXES_MAX = 3


def problem(name: str) -> str | None:
    """What makes this name unsafe, in words that go on from "the name"; None for a safe one."""
    if not name:
        return "is empty"
    if any(map(_is_forbidden, name)):
        return r'holds a slash, one of \ : * ? " < > |, or a character that cannot be seen'
    if _HEAD.match(name):
        return "begins with a dot, a dash or a space"
    if _TAIL.search(name):
        return "ends in a dot or a space"
    if _RESERVED.fullmatch(name):
        return "is reserved on Windows"
    if working_suffix(name):
        return f"ends in {PART}, {PART_STATE} or {REJECTED}, as working files do"
    if len(name.encode()) > NAME_BYTES_MAX:
        return f"is longer than {NAME_BYTES_MAX} bytes"
    return None if unicodedata.is_normalized("NFC", name) else "is not in Unicode normal form C"


def is_address(path: str) -> bool:
    """Whether a path is meant as an address, such as `s3://bucket`: as a path it would make a folder called `s3:`."""
    return _ADDRESS.match(path) is not None


def sanitize(text: str) -> str:
    """A safe name as close to this text as can be; `download` for an empty one."""
    name = unicodedata.normalize("NFC", text) or NAMELESS
    if problem(name) is None:
        return name
    name = "".join("_" if _is_forbidden(character) else character for character in name)
    name = _shortened(name, NAME_BYTES_MAX - 1)  # one byte less: a reserved name gets one in front
    name = _EDGES.sub(lambda found: "_" * len(found[0]), name)
    if ending := working_suffix(name):
        at = len(name) - len(ending)
        name = f"{name[:at]}_{name[at + 1 :]}"
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def split_suffixes(name: str) -> tuple[str, str]:
    """Stem and suffixes: `("v1.2", ".tar.gz")`, `("data.5", "")`, `(".hidden", "")`.

    A suffix holds a letter, and there is one, or more where the last says how the others are wrapped.
    """
    stem, suffixes = name, ""
    for _ in range(_SUFFIXES_MAX):
        found = _SUFFIX.search(stem)
        if found is None or found.start() == 0:
            break
        stem, suffixes = stem[: found.start()], found[0] + suffixes
        if found[0].lower() not in _WRAPPERS:
            break
    return stem, suffixes


def _is_forbidden(character: str) -> bool:
    return character in _FORBIDDEN or unicodedata.category(character) in _FORBIDDEN_CATEGORIES


def _shortened(name: str, bytes_max: int) -> str:
    if len(name.encode()) <= bytes_max:
        return name
    stem, suffixes = split_suffixes(name)
    return stem.encode()[: bytes_max - len(suffixes)].decode(errors="ignore") + suffixes
