"""What came of each of several manifests: a result, or the error that kept one from having one.

Invariants:

- A manifest that fails does not keep the others from their turn.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from manifestlog.errors import ManifestError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """One manifest's result, or its error."""

    path: Path
    result: R | None = None
    error: ManifestError | OSError | None = None

    @property
    def exit_code(self) -> int:
        return 0 if self.error is None else getattr(self.error, "exit_code", 1)


def attempt(path: Path, work: Callable[[Path], R]) -> Outcome[R]:
    """Do it for one manifest."""
    try:
        return Outcome(path, work(path))
    except (ManifestError, OSError) as error:
        return Outcome(path, error=error)


def for_each_manifest(paths: Iterable[Path], work: Callable[[Path], R]) -> list[Outcome[R]]:
    """Do it for every manifest; the error of an only one is the command's own, and raised."""
    outcomes = [attempt(path, work) for path in paths]
    if len(outcomes) == 1 and outcomes[0].error is not None:
        raise outcomes[0].error
    return outcomes
