"""Builders for sources and configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from manifestlog.extract.config.configuration import load_config
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ConfigError

Write = Callable[[Any], Path]

CHECKSUM = "0a4d12345678" + "9" * 52


def source(url: str = "https://host/dumps/systems.json.gz", **more: Any) -> ETLSource:
    """Return a valid source with these fields changed."""
    return ETLSource(**{"source_id": "spansh_systems", "dataset": "star_systems", "url": url} | more)


def raw_source(**more: Any) -> dict[str, Any]:
    """Return a source as in a configuration file."""
    return {"source_id": "spansh_systems", "dataset": "star_systems", "url": "https://host/systems.json"} | more


def raw_config(*sources: Any, **more: Any) -> dict[str, Any]:
    """Return a configuration as in a file."""
    head = {"etl_version": "1.0.0", "manifests_dir": "manifests", "data_dir": "data/raw"}
    return head | {"manifest": "systems_download", "sources": list(sources) or [raw_source()]} | more


def config_error(path: Path, environ: Mapping[str, str] | None = None) -> ConfigError:
    """Return the error of a configuration that is refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {})
    return caught.value
