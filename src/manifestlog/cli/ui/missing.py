"""Suggests what to do about a missing manifest: new users often misspell its name or are in another directory.

It opens no manifest.
"""

import os

from manifestlog.names import SUFFIX, is_url, parse_manifest_name

_NAMES_MAX = 5
_CREATE = "create it with `manifestlog init`"


def sentence(path: str) -> str:
    """Return the message for a manifest that is missing: the name that was meant, or the manifests that are there."""
    if is_url(path):
        return f"{path}: no such manifest; correct the name, or {_CREATE}"
    directory = os.path.dirname(path)
    try:
        files = os.listdir(directory)
    except OSError:
        return f"{path}: no such manifest; change to the directory of your pipeline, name its manifests with --dir, or {_CREATE}"
    names = sorted(filter(None, map(parse_manifest_name, files)))
    return f"{path}: no such manifest; {_advice(os.path.basename(path).removesuffix(SUFFIX), names)}"


def _advice(name: str, names: list[str]) -> str:
    if not names:
        return f"none is in this directory: name another one with --dir, or {_CREATE}"
    from difflib import get_close_matches  # noqa: PLC0415 -- only for a mistake

    if close := get_close_matches(name, names, n=1):
        return f"did you mean {close[0]}? Otherwise {_CREATE}"
    more = f" and {len(names) - _NAMES_MAX:,} more" if len(names) > _NAMES_MAX else ""
    return f"the directory has {', '.join(names[:_NAMES_MAX])}{more}: name one of them, or {_CREATE}"
