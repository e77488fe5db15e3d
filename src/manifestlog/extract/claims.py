"""Claims on sources, contents and paths, shared by all processes that use one data directory.

Invariants:

- A path is claimed relative to the real data directory: the claim is the same through every symbolic link.
- Each worker has its own object, since the threads of one object share its claims.
- Where many hosts share the manifest, a source is also claimed by its name: their data directories may have other paths.

The manifest's engine keeps the claims, and only the engine knows how.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.writing_files import make_directory
from manifestlog.manager import AbstractManifest, Claims as EngineClaims
from manifestlog.model.url_paths import UrlPath
from manifestlog.names import claim_of_sources

_WAIT_S = 60.0


def claim_name(data_dir: Path, path: Path) -> str:
    """Return the name under which a file of the data directory is claimed, with symbolic links resolved."""
    directory = os.path.relpath(os.path.realpath(path.parent), os.path.realpath(data_dir))
    return os.path.join(directory, path.name)


def may_be_lost(manifest: AbstractManifest) -> bool:
    """Return whether a worker of another host can take a claim over while its holder still works."""
    return manifest.is_shared and not manifest.is_in_files


class Claims:
    """The claims of one worker in a data directory; a context manager."""

    def __init__(self, manifest: AbstractManifest, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._directories: dict[Path, str] = {}
        """The directories seen so far, as claims name them."""
        if not isinstance(data_dir, UrlPath):
            make_directory(data_dir)
        self.inner = manifest.claims(data_dir)
        """As the engine has them."""
        self._kind = claim_of_sources(manifest.location.name)
        self._sources = manifest.claims(manifest.location.directory) if may_be_lost(manifest) else None

    @property
    def all(self) -> tuple[EngineClaims, ...]:
        """Every object of the engine that keeps these claims."""
        return (self.inner,) if self._sources is None else (self.inner, self._sources)

    def name_of(self, path: Path) -> str:
        """Return the name under which a file of the data directory is claimed; of an object, its URL."""
        if isinstance(path, UrlPath):
            return str(path)
        if (directory := self._directories.get(path.parent)) is None:
            directory = self._directories[path.parent] = os.path.dirname(claim_name(self._data_dir, path))
        return os.path.join(directory, path.name)

    def trying(self, kind: str, name: str) -> AbstractContextManager[bool]:
        """Claim a name if it is free; the block receives whether the claim succeeded."""
        return self.inner.claim(kind, name)

    @contextmanager
    def trying_source(self, source: ETLSource, part: Path) -> Iterator[bool]:
        """Claim a source, and its part, if they are free; the block receives whether that succeeded."""
        with ExitStack() as held:
            ours = held.enter_context(self.trying("part", self.name_of(part)))
            if ours and self._sources is not None:
                ours = held.enter_context(self._sources.claim(self._kind, f"{source.dataset}/{source.source_id}"))
            yield ours

    @contextmanager
    def waiting(self, kind: str, name: str) -> Iterator[None]:
        """Claim a name, waiting for its current holder; raises `ExtractError` after a minute."""
        with self.inner.claim(kind, name, wait_s=_WAIT_S) as ours:
            if not ours:
                where = self.inner.display
                raise ExtractError(f"{kind} {name} is claimed by another process; run extract again later", where)
            yield

    def fence(self, *others: Self) -> AbstractContextManager[None]:
        """In this block, writes of this thread raise `ClaimLostError`, with nothing written, if a claim was lost.

        That is one of this object, or of the `others`, whose threads wait meanwhile.
        """
        own, *rest = chain(self.all, *(one.all for one in others))
        return own.fence(*rest)

    def ensure_held(self, *others: Self) -> None:
        """Raise `ClaimLostError` if a claim was lost, as `fence` does."""
        own, *rest = chain(self.all, *(one.all for one in others))
        own.ensure_held(*rest)

    def record_skip(self, name: str) -> list[str]:
        """Note that this run skips a claimed name; return the times of the runs in a row that have skipped it."""
        return self.inner.record_skip(name)

    def clear_skips(self, name: str) -> None:
        """Delete the note of runs that skipped this name, since this run has the claim."""
        self.inner.clear_skips(name)

    def close(self) -> None:
        for one in self.all:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
