"""What an IDE shows: the constructor's parameters, the models' fields with their units, and no method that nobody calls.

And what a program hears that listens to `manifestlog`.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import manifestlog
from manifestlog import (
    AbstractManifest,
    DownloadManifestManager,
    ManifestFactory,
    ManifestMetadata,
    ManifestNotFoundError,
    ManifestRecord,
    Observation,
    ProcessedManifestManager,
    ReadOnlyError,
)
from manifestlog.extract import DownloadEvent, ETLSource
from manifestlog.extract.config.configuration import Defaults, ExtractConfig
from manifestlog.extract.config.source import SourceState

from .builders import META, QUIET, meta, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic import BaseModel

    from .conftest import Opener

    Told = Callable[[str], list[tuple[str, str]]]

MANAGERS = [AbstractManifest, DownloadManifestManager, ProcessedManifestManager]
MODELS = [
    ManifestRecord,
    Observation,
    ManifestMetadata,
    ETLSource,
    DownloadEvent,
    SourceState,
    Defaults,
    ExtractConfig,
]
MODULES = [
    found.name for found in pkgutil.walk_packages(manifestlog.__path__, "manifestlog.") if "__main__" not in found.name
]


# -- the constructor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("show", [lambda cls: cls, lambda cls: cls.__new__, lambda cls: cls.__init__])
def test_the_constructor_shows_its_parameters(
    manager: type[AbstractManifest], show: Callable[[type], Callable[..., object]]
) -> None:
    """To `help`, and to an editor, whether it looks at the class, at `__new__` or at `__init__`."""
    shown = inspect.signature(show(manager)).parameters
    assert [name for name in shown if name not in ("cls", "self")] == ["path", "metadata", "options", "read_only"]
    assert {shown[name].kind for name in ("options", "read_only")} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("manager", MANAGERS)
def test_the_constructor_says_what_it_does_and_raises(manager: type[AbstractManifest]) -> None:
    assert "ManifestNotFoundError" in (inspect.getdoc(manager.__init__) or "")


def test_a_subclass_may_pass_its_arguments_on(path: Path) -> None:
    """As every other class lets it."""

    class Mine(DownloadManifestManager):
        def __init__(self, path: Path, metadata: ManifestMetadata | None = None) -> None:
            super().__init__(path, metadata)
            self.mine = True

    with Mine(path, META) as manager:
        assert (manager.mine, manager.add(record("a")).verdict) == (True, "new")


# -- methods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manager", MANAGERS)
def test_no_public_method_exists_for_the_registry_only(manager: type[AbstractManifest]) -> None:
    assert [name for name in dir(manager) if re.search("fork|check_same", name) and not name.startswith("_")] == []


@pytest.mark.parametrize("manager", MANAGERS)
def test_every_public_method_says_what_it_is_for(manager: type[AbstractManifest]) -> None:
    public = [name for name in dir(manager) if not name.startswith("_")]
    assert [name for name in public if not inspect.getdoc(getattr(manager, name))] == []


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_every_field_has_a_description(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("model", MODELS)
def test_sizes_and_times_have_their_unit(model: type[BaseModel]) -> None:
    """In the name or in the description."""
    units = {"size|bytes": "bytes?", "^ts_": "UTC", "_s$": "seconds"}
    for name, field in model.model_fields.items():
        for kind, unit in units.items():
            if re.search(kind, name):
                assert re.search(unit, f"{name} {field.description}"), name


# -- the factory -------------------------------------------------------------------------------------------------------


def test_the_factory_takes_options(path: Path) -> None:
    with (
        ManifestFactory.get_manifest_manager("downloads", path, META, options=QUIET) as manager,
        DownloadManifestManager(path, options=QUIET) as again,
    ):
        assert again is manager


def test_the_factory_opens_read_only(opener: Opener, path: Path) -> None:
    opener().close()
    with (
        ManifestFactory.get_manifest_manager("downloads", path, read_only=True) as manager,
        pytest.raises(ReadOnlyError),
    ):
        manager.add(record("a"))


def test_the_factory_creates_nothing_read_only(path: Path) -> None:
    with pytest.raises(ManifestNotFoundError):
        ManifestFactory.get_manifest_manager("downloads", path, meta(), read_only=True)


def test_the_factory_takes_what_the_constructor_takes() -> None:
    def shown(function: Callable[..., object]) -> list[tuple[str, object, object]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert shown(ManifestFactory.get_manifest_manager)[1:] == shown(DownloadManifestManager)


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """(level, text) of what a module said so far at INFO and above."""
    caplog.set_level(logging.INFO, "manifestlog")

    def of(module: str) -> list[tuple[str, str]]:
        return [(r.levelname, r.getMessage()) for r in caplog.records if r.name == f"manifestlog.{module}"]

    return of


def test_opening_and_closing_are_logged(opener: Opener, path: Path, told: Told) -> None:
    """With the file, the kind and the version that stamps records."""
    opener().close()
    assert told("engines.filelog.driver") == [("INFO", f"{path}: created")]
    assert told("manager") == [
        ("INFO", f"{path}: opened, by DownloadManifestManager 1.0.0"),
        ("INFO", f"{path}: closed"),
    ]


def test_a_reader_is_logged_as_one(opener: Opener, path: Path, told: Told) -> None:
    opener().close()
    opener(None, read_only=True)
    assert told("manager")[-1] == ("INFO", f"{path}: opened to read, by DownloadManifestManager 1.0.0")


def test_an_open_manifest_is_not_opened_again(opener: Opener, told: Told) -> None:
    opener()
    before = told("manager")
    opener()
    assert told("manager") == before


def test_closing_again_is_not_logged_again(opener: Opener, told: Told) -> None:
    manager = opener()
    manager.close()
    before = told("manager")
    manager.close()
    assert told("manager") == before


def test_a_compaction_is_logged_with_its_counts(opener: Opener, path: Path, told: Told) -> None:
    manager = opener()
    manager.add_many(record(str(number)) for number in range(3))
    report = manager.compact()
    ((level, text),) = told("engines.filelog.compaction.steps")
    assert level == "INFO"
    assert text.startswith(f"{path}: compacted: 3 records merged, 3 in all, {report.bytes_written} bytes written")


def test_a_compaction_with_nothing_to_do_is_logged_at_debug_only(opener: Opener, told: Told) -> None:
    opener().compact()
    assert told("engines.filelog.compaction.steps") == []


def test_debug_logs_more(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "manifestlog")
    opener().compact()
    opener()
    debug = [r.getMessage().rpartition(": ")[2] for r in caplog.records if r.levelno == logging.DEBUG]
    assert debug == ["nothing to compact", "open already"]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_logs_under_its_own_name(module: str) -> None:
    """So that a program can hear one part, or all of it."""
    log = getattr(importlib.import_module(module), "log", None)
    assert not isinstance(log, logging.Logger) or log.name == module


def test_an_import_adds_nothing_but_a_handler_that_does_nothing() -> None:
    """And sets no level: that is the program's."""
    code = """
import logging, manifestlog
from manifestlog import DownloadManifestManager
from manifestlog.extract import PipelineOrchestrator
ours = logging.getLogger("manifestlog")
print([type(h).__name__ for h in ours.handlers], ours.level, logging.root.handlers, logging.root.level)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"['NullHandler'] 0 [] {logging.WARNING}\n"
