"""What an IDE shows: the constructor's parameters, the models' fields with their units, and no method that nobody calls."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import pytest

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
from manifestlog.extract.config import Defaults, ExtractConfig
from manifestlog.extract.source import SourceState

from .builders import META, QUIET, meta, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic import BaseModel

    from .conftest import Opener

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


def test_a_subclass_may_hand_its_arguments_on(path: Path) -> None:
    """As every other class lets it."""

    class Mine(DownloadManifestManager):
        def __init__(self, path: Path, metadata: ManifestMetadata | None = None) -> None:
            super().__init__(path, metadata)
            self.mine = True

    with Mine(path, META) as manager:
        assert (manager.mine, manager.add(record("a")).verdict) == (True, "new")


# -- methods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manager", MANAGERS)
def test_no_public_method_is_there_for_the_registry_only(manager: type[AbstractManifest]) -> None:
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
    with ManifestFactory.get_manifest_manager("downloads", path, META, options=QUIET) as manager:
        assert DownloadManifestManager(path, options=QUIET) is manager


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
