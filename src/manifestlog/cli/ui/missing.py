"""Suggests what to do about a missing manifest: new users often misspell its name or are in another directory.

It opens no manifest.
"""

import os

from manifestlog.names import SUFFIX, is_url, parse_manifest_name

_NAMES_MAX = 5
_TYPING_ERROR = 0.85
"""How similar names must be where a new name is usual: stages of one domain have similar names."""
_CREATE = "create it with `manifestlog init`"


def sentence(path: str) -> str:
    """Return the message for a manifest that is missing: the name that was meant, or the manifests that are there."""
    if is_url(path):
        return f"{path}: no such manifest; correct the name, or {_CREATE}"
    names = _names_beside(path)
    if names is None:
        return f"{path}: no such manifest; change to the directory of your pipeline, name its manifests with --dir, or {_CREATE}"
    return f"{path}: no such manifest; {_advice(path, names)}"


def not_yet(path: str) -> str:
    """Return the message for a stage's manifest that is missing: the stage has done nothing yet, or it is misspelt."""
    close = None if is_url(path) else _close(path, _names_beside(path) or [], _TYPING_ERROR)
    question = f"; did you mean {close}?" if close else ""
    return f"{path}: no such manifest yet, so everything is pending for its stage{question}"


def _names_beside(path: str) -> list[str] | None:
    """Return the names of the manifests in the directory of this one; None if it cannot be listed."""
    try:
        return sorted(filter(None, map(parse_manifest_name, os.listdir(os.path.dirname(path)))))
    except OSError:
        return None


def _close(path: str, names: list[str], cutoff: float = 0.6) -> str | None:
    """Return the name that was probably meant."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only for a mistake

    return next(iter(get_close_matches(os.path.basename(path).removesuffix(SUFFIX), names, n=1, cutoff=cutoff)), None)


def _advice(path: str, names: list[str]) -> str:
    if not names:
        return f"none is in this directory: name another one with --dir, or {_CREATE}"
    if close := _close(path, names):
        return f"did you mean {close}? Otherwise {_CREATE}"
    more = f" and {len(names) - _NAMES_MAX:,} more" if len(names) > _NAMES_MAX else ""
    return f"the directory has {', '.join(names[:_NAMES_MAX])}{more}: name one of them, or {_CREATE}"
