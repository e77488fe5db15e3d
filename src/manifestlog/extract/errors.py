"""What can go wrong in the extract step, and which exit code it has.

::

    ManifestError
    └── ExtractError             1
        └── ConfigError          2

Invariants:

- As everywhere: a message says what happened, where, and what to do next; typed arguments survive pickling.
- No message holds a value that could be a secret: it names the place of the value instead.

It does not know what is in a configuration.
"""

from __future__ import annotations

from manifestlog.errors import ManifestError


class ExtractError(ManifestError):
    """Base of everything the extract step raises on purpose."""


class ConfigError(ExtractError):
    """A configuration cannot be used; `field` is the place in it, such as `sources[3].url`, or "" for the whole file."""

    exit_code = 2
    _fields = ("path", "field", "reason")

    def __init__(self, path: str, field: str, reason: str) -> None:
        super().__init__(": ".join(part for part in (path, field, reason) if part))
        self.path = path
        self.field = field
        self.reason = reason
