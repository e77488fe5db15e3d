"""The error of an object store.

Invariants:

- The message says what the store refused, where, and what to do. It contains no credential, and no text of a library,
  because that may contain one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from manifestlog.errors import ManifestError


class ObjectStoreError(ManifestError):
    """An object store does not do what it is asked; `path` is the URL concerned."""

    _fields: ClassVar[tuple[str, ...]] = ("detail", "path")

    def __init__(self, detail: str, path: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.detail = detail
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.detail, self.path)
