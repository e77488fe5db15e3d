"""Fixtures of every test: a checked directory, managers that are closed, children that are gone."""

from __future__ import annotations

import logging
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from manifestlog import DownloadManifestManager, ManifestOptions
from support.children import children, time_limit
from support.counts import Counts
from support.integrity import checked
from support.postgres import Server, serving
from support.records import NAME, QUICK, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.children import Start
    from support.counts import Count

_COUNTS = pytest.StashKey[Counts]()


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Who runs what: the tests of a file share what it has built, so one worker has them; the simulation's share nothing.

    They fill the gaps. `--dist loadgroup` would say so with marks, but does not group with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if "/simulation/" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Take the place of xdist's own for `--dist loadfile`."""
    return _Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what is to run behind it (`make test &`) without Ctrl-C, and so would we our children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_COUNTS] = Counts()
    config.pluginmanager.register(config.stash[_COUNTS], "counts")


@pytest.fixture(scope="session")
def count(pytestconfig: pytest.Config) -> Count:
    """Count what is tried: `count("kills", 2_500)`; summed over the run and said at its end."""
    return pytestconfig.stash[_COUNTS].add


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server for the tests of this worker, each of which takes a manifest or database of its own."""
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_hang(request: pytest.FixtureRequest) -> Iterator[None]:
    slow = request.node.get_closest_marker("slow") is not None
    with time_limit(900 if slow else 60):
        yield


@pytest.fixture(autouse=True)
def _working_directory() -> Iterator[None]:
    """A test that leaves another working directory behind makes later ones fail."""
    before = Path.cwd()
    yield
    assert Path.cwd() == before


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A test that calls the command line in this process sets the level: later tests would miss their warnings."""
    logger = logging.getLogger("manifestlog")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers = handlers


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory for manifests, checked when the test is over."""
    with checked(tmp_path / "manifests") as path:
        yield path


@pytest.fixture
def path(directory: Path) -> Path:
    """Where a test's manifest goes."""
    return directory / NAME


@pytest.fixture
def open_manifest(path: Path) -> Iterator[Callable[..., DownloadManifestManager]]:
    """Open or create the test's manifest with these options; closed before the directory is checked."""
    with ExitStack() as opened:

        def open_it(options: ManifestOptions = QUICK, **kwargs: Any) -> DownloadManifestManager:
            given = None if kwargs.get("read_only") else metadata()
            return opened.enter_context(DownloadManifestManager(path, given, options=options, **kwargs))

        yield open_it


@pytest.fixture
def manifest(open_manifest: Callable[..., DownloadManifestManager]) -> DownloadManifestManager:
    """A new manifest that nothing compacts by itself."""
    return open_manifest()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a child process: `start(function, *args)` runs `function(link, *args)` there."""
    with children() as start_one:
        yield start_one
