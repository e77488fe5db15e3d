"""Runs an operation on several manifests, and collects a result or an error for each.

Invariants:

- An error in one manifest does not stop the others.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from manifestlog.errors import ManifestError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """One manifest's result, or its error."""

    path: str
    result: R | None = None
    error: ManifestError | OSError | None = None

    @property
    def exit_code(self) -> int:
        return 0 if self.error is None else getattr(self.error, "exit_code", 1)


def attempt(path: str, work: Callable[[str], R]) -> Outcome[R]:
    """Run `work` on one manifest, and return its result or its error."""
    try:
        return Outcome(path, work(path))
    except (ManifestError, OSError) as error:
        return Outcome(path, error=error)


def for_each_manifest(paths: Iterable[str], work: Callable[[str], R]) -> list[Outcome[R]]:
    """Run `work` on every manifest. Raise the error if there is only one manifest."""
    outcomes = [attempt(path, work) for path in paths]
    if len(outcomes) == 1 and outcomes[0].error is not None:
        raise outcomes[0].error
    return outcomes
