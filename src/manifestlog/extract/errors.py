"""The errors of the extract step and their exit codes.

::

    ManifestError
    └── ExtractError             1
        └── ConfigError          2

Invariants:

- Every message says what failed, where, and what to do; typed arguments survive pickling.
- `path` is never part of `detail`: secrets are removed from the detail, and the message is formatted last.
- No message of a `ConfigError` contains a configured value, since any value may be a secret: it names the field
  instead.

It does not know what a configuration contains.
"""

from __future__ import annotations

from typing import Any, ClassVar

from manifestlog.errors import ManifestError


class ExtractError(ManifestError):
    """Base of all errors of the extract step; `path` is the file or directory concerned, or ""."""

    _fields: ClassVar[tuple[str, ...]] = ("detail",)

    def __init__(self, detail: str, path: str = "") -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.detail = detail
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        # `path` travels as state: a subclass of the user may take the message alone.
        return *super().__reduce__(), vars(self)


class ConfigError(ExtractError):
    """A configuration is invalid; `field` is its place, such as `sources[3].url`, or "" for the whole file."""

    exit_code = 2
    _fields = ("path", "field", "reason")

    def __init__(self, path: str, field: str, reason: str) -> None:
        super().__init__(": ".join(filter(None, (field, reason))), path)
        self.field = field
        self.reason = reason
