"""The initializer that each worker process of a run calls first, and its former name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from manifestlog.extract import Defaults, ETLSource, FetchRequest, PipelineOrchestrator, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from manifestlog import DownloadManifestManager


class Body(NamedTuple):
    head: ResponseHead

    def blocks(self) -> Iterator[bytes]:
        yield b"content"


class Local:
    """A fetcher without a server."""

    def probe(self, _source: ETLSource, _ask: FetchRequest) -> ResponseHead:
        return ResponseHead(200)

    @contextmanager
    def open(self, source: ETLSource, ask: FetchRequest) -> Iterator[Body]:
        yield Body(self.probe(source, ask))


def leave_a_trace(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def run(manifest: DownloadManifestManager, tmp_path: Path, **initializer: Any) -> list[str]:
    """Return the results of one source, fetched by a worker process."""
    orchestrator = PipelineOrchestrator(
        manifest, Local(), data_dir=tmp_path / "data", defaults=Defaults(jobs=2), **initializer
    )
    source = ETLSource(source_id="s", dataset="d", url="local://s/file")
    return [outcome.result for outcome in orchestrator.run([source]).outcomes]


def test_a_worker_calls_its_initializer(open_manifest: Callable[..., DownloadManifestManager], tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    assert run(open_manifest(), tmp_path, initializer=partial(leave_a_trace, traces)) == ["new"]
    (pid,) = traces.iterdir()
    assert pid.name != str(os.getpid())


def test_its_former_name_is_deprecated_and_works(
    open_manifest: Callable[..., DownloadManifestManager], tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    with pytest.warns(DeprecationWarning, match="initializer"):
        assert run(open_manifest(), tmp_path, begin_worker=partial(leave_a_trace, traces)) == ["new"]
    assert len(list(traces.iterdir())) == 1
