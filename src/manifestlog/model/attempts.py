"""Turns a program's statements about a download, a failure or a run into an event's details.

Invariants:

- Every reader accepts the result: `writable` refuses everything else before it is written.
- Credentials and query values in URLs and errors are hidden.

It does no I/O.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from manifestlog.model import codec
from manifestlog.model.details import check_details, is_valid
from manifestlog.model.events import last_lines, one_line, utf8
from manifestlog.model.safe_urls import safe_text, safe_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifestlog.model.events import Details

_DOWNLOAD = ("url", "status", "bytes", "seconds", "inputs")
_STAGE = ("version", "code", "started", "outcome", "judgement", "reason", "rows", "target", "exit_code", "stderr")
_ATTEMPT = frozenset(_DOWNLOAD + _STAGE)
_PLAIN = frozenset({bool, int, float, str, list, tuple})


def attempt_details(given: Mapping[str, Any]) -> Details:
    """Return what a caller says of an attempt, as an event keeps it. Raises `ValueError` for an unknown member."""
    return writable(_said(given)) if given else {}


def _said(given: Mapping[str, Any]) -> Details:
    """Return what a caller says of an attempt, not checked yet. Raises `ValueError` for an unknown member."""
    if not given.keys() <= _ATTEMPT:
        unknown = sorted(given.keys() - _ATTEMPT)
        raise ValueError(f"an attempt has no {', '.join(unknown)}: expected {', '.join(sorted(_ATTEMPT))}")
    found: Details = {name: _plain(value) for name, value in given.items() if value is not None}
    if "url" in found:
        found["url"] = utf8(safe_url(str(found["url"])))
    if "inputs" in found:
        found["inputs"] = list(found["inputs"])
    if "stderr" in found:
        found["stderr"] = last_lines(safe_text(str(found["stderr"])))
    for name in ("reason", "target"):
        if name in found:
            found[name] = one_line(safe_text(str(found[name])))
    return found


_DERIVATION = ("source_id", "dataset", "version", "inputs")


def derivation_details(given: Mapping[str, Any]) -> Details:
    """Return what a caller says of a derivation without a new record. Raises `ValueError`, which names what is wrong."""
    if missing := [name for name in _DERIVATION if not given.get(name)]:
        raise ValueError(f"a derivation needs {', '.join(missing)}")
    own = {name: given[name] for name in ("source_id", "dataset", "checksum") if given.get(name) is not None}
    said = _said({name: value for name, value in given.items() if name not in own})
    return writable({**own, **said})


def is_attempt(name: str, value: object) -> bool:
    """Return whether an attempt can have this value under this name; an object of another program may mean something else."""
    return value is not None and (name == "url" or is_valid(name, _plain(value)))


def _plain(value: object) -> object:
    """Return a number as a plain one, such as an `HTTPStatus` or one of NumPy's; anything else unchanged."""
    if type(value) in _PLAIN:  # asking whether a text is a number takes longer than all the rest
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def writable(found: Details) -> Details:
    """Return an event's details, which every reader will accept; raises `ValueError` for any other."""
    check_details(found)
    try:
        codec.dumps(found)
    except TypeError as error:
        raise ValueError(f"an event is not writable as JSON ({error})") from None
    return found


def failure_text(error: BaseException | str) -> str:
    """Return the text of an error, with credentials and query values in its URLs hidden."""
    text = error if isinstance(error, str) else str(error) or type(error).__name__
    return one_line(safe_text(text))
