"""What a worker works with: its manifest, its fetcher, its claims, and whom it tells."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from manifestlog.extract import place
from manifestlog.extract.claims import Claims
from manifestlog.extract.config import Defaults
from manifestlog.extract.fetch import Fetcher
from manifestlog.extract.report import Event, Outcome, Result
from manifestlog.extract.secrets import Redactor, in_reach
from manifestlog.extract.source import ETLSource
from manifestlog.extract.stopping import Stop
from manifestlog.manager import DownloadManifestManager

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def _nobody(_: Event) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker works with; `data_dir` is absolute."""

    manifest: DownloadManifestManager
    fetcher: Fetcher
    data_dir: Path
    claims: Claims
    defaults: Defaults
    secrets: frozenset[str] = frozenset()
    tell: Callable[[Event], None] = _nobody
    stop: Stop = field(default_factory=Stop)

    def redacted(self, source: ETLSource, error: BaseException) -> str:
        """What an error says, without any secret of this source.

        The paths of its files lose only what came from the environment. They are recorded anyway, and whoever is told to
        look for a file has to find it: `?format=json` makes a secret of the word, and would take it out of every path.
        """
        hidden = Redactor.of(source, self.defaults.headers, [*self.secrets, *in_reach(self.defaults)]).redact
        hidden_in_path = Redactor.hiding(self.secrets).without_secrets
        pieces = re.split(place.pattern(self.data_dir, source), _text(error))
        # Every second piece is a path.
        return "".join(hidden_in_path(piece) if n % 2 else hidden(piece) for n, piece in enumerate(pieces))

    def failed(self, source: ETLSource, error: BaseException) -> Outcome:
        """The outcome of a source that could not be fetched."""
        return Outcome(source.source_id, source.dataset, Result.FAILED, error=self.redacted(source, error))


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        advice = "free some space" if error.errno in _FULL else "mend that"
        return f"{error.filename}: {error.strerror}: {advice}, then run it again"
    return str(error) or type(error).__name__
