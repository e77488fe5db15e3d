"""The published JSON schema of OpenLineage, where a checkout of its repository is at hand.

`OPENLINEAGE_SPEC` names the directory `spec` of a checkout of https://github.com/OpenLineage/OpenLineage (Apache License
2.0), and the package jsonschema is installed. The schema is not a part of the Python package, nor of this repository.
A facet is compared with its schema in the checkout, whatever version of it the event names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "OPENLINEAGE_SPEC"
_RUN_EVENT = "https://openlineage.io/spec/OpenLineage.json"


def violations(event: Any) -> list[str]:
    """Return what an event has against the published schema. Skips the test without a checkout."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} does not name the directory spec of a checkout of OpenLineage")
    return [*_against(_RUN_EVENT, event), *(text for facet in _facets(event) for text in _against(*facet))]


def _against(schema: str, value: Any) -> Iterator[str]:
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    registry = referencing.Registry(retrieve=lambda url: referencing.Resource.from_contents(_read(url)))
    validator = jsonschema.Draft202012Validator(
        {"$ref": schema}, registry=registry, format_checker=jsonschema.FormatChecker()
    )
    for error in validator.iter_errors(value):
        yield f"{schema}: {error.json_path}: {error.message}"


def _read(url: str) -> Any:
    """Return the schema of this name, for any version."""
    spec, name = Path(os.environ[VARIABLE]), url.rpartition("/")[2]
    path = spec / name if (spec / name).exists() else spec / "facets" / name
    return json.loads(path.read_text(encoding="utf-8"))


def _facets(event: Any) -> Iterator[tuple[str, Any]]:
    """Yield every facet of an event, with the URL of its schema."""
    owners = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    for owner in owners:
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield from ((facet["_schemaURL"], facet) for facet in owner.get(kind, {}).values())
