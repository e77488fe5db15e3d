"""Decides which names are safe for a file or directory, and turns any text into a safe name.

Invariants:

- A safe name stays in its directory on every common system: it has no separator and no `..`, and is not hidden or
  reserved.
- A safe name is never that of a working file, so a data file is never mistaken for one.
- A safe name leaves room within NAME_MAX (255 bytes) for 12 checksum digits, a source's key and `.part.json`.
- `sanitize` returns a safe name for every text, always the same for the same text, and leaves safe names unchanged.

It does not know sources or directories, and never accesses the disk.
"""

from __future__ import annotations

import re
import unicodedata

from manifestlog.names import PART, PART_STATE, REJECTED, working_suffix

NAME_BYTES_MAX = 180
NAMELESS = "download"

_FORBIDDEN = frozenset('/\\:*?"<>|\N{REPLACEMENT CHARACTER}')
# Control characters, invisible formatting (it may change the reading direction), surrogates, line separators.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_HEAD = re.compile(r"\A[. -]+")  # hidden files, command-line options, names that are easily misread
_TAIL = re.compile(r"[. ]+\Z")  # Windows removes them
_EDGES = re.compile(f"{_HEAD.pattern}|{_TAIL.pattern}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*:/")
_SUFFIX = re.compile(r"\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,10}\Z")
_WRAPPERS = frozenset(
    {".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzma", ".br", ".z", ".zip", ".asc", ".gpg", ".pgp", ".sig"}
)
_SUFFIXES_MAX = 3


def problem(name: str) -> str | None:
    """Return why a name is unsafe, as a clause that follows "the name"; None for a safe name."""
    if not name:
        return "is empty"
    if _has_forbidden(name):
        return r'contains a slash, one of \ : * ? " < > |, or an invisible character'
    if _HEAD.match(name):
        return "starts with a dot, a dash or a space"
    if _TAIL.search(name):
        return "ends with a dot or a space"
    if _RESERVED.fullmatch(name):
        return "is reserved on Windows"
    if working_suffix(name):
        return f"ends with {PART}, {PART_STATE} or {REJECTED}, which mark working files"
    if len(name.encode()) > NAME_BYTES_MAX:
        return f"is longer than {NAME_BYTES_MAX} bytes"
    return None if unicodedata.is_normalized("NFC", name) else "is not in Unicode normal form C"


def is_address(path: str) -> bool:
    """Return whether a path looks like a URL, such as `s3://bucket`; as a path it would create a directory `s3:`."""
    return _ADDRESS.match(path) is not None


def sanitize(text: str) -> str:
    """Return the safe name closest to this text; `download` for an empty text."""
    name = unicodedata.normalize("NFC", text) or NAMELESS
    if problem(name) is None:
        return name
    name = "".join("_" if _is_forbidden(character) else character for character in name)
    name = _shortened(name, NAME_BYTES_MAX - 1)  # one byte less, for the prefix of a reserved name
    name = _EDGES.sub(lambda found: "_" * len(found[0]), name)
    if ending := working_suffix(name):
        at = len(name) - len(ending)
        name = f"{name[:at]}_{name[at + 1 :]}"
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def split_suffixes(name: str) -> tuple[str, str]:
    """Return stem and suffixes: `("v1.2", ".tar.gz")`, `("data.5", "")`, `(".hidden", "")`.

    A suffix contains a letter. There is one suffix, or more if the last names a compression or signature of the others.
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


def _has_forbidden(name: str) -> bool:
    if name.isascii() and name.isprintable():  # most names: no category of a character to look up
        return not _FORBIDDEN.isdisjoint(name)
    return any(map(_is_forbidden, name))


def _is_forbidden(character: str) -> bool:
    return character in _FORBIDDEN or unicodedata.category(character) in _FORBIDDEN_CATEGORIES


def _shortened(name: str, bytes_max: int) -> str:
    if len(name.encode()) <= bytes_max:
        return name
    stem, suffixes = split_suffixes(name)
    return stem.encode()[: bytes_max - len(suffixes)].decode(errors="ignore") + suffixes
