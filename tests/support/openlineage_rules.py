"""What the OpenLineage specification (2-0-2) requires of a run event, as rules of our own.

Its JSON schema is published on a web site, and is not part of the Python package. These are its required members, types,
formats and enumerations, for everything that an event of ours has. A member that no rule knows is a violation, too.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Check = Callable[[Any], bool]

EVENT_TYPES = {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}
_SCHEMA = "https://openlineage.io/spec/"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_uri(value: Any) -> bool:
    return _is_text(value) and bool(urlsplit(value).scheme and urlsplit(value).netloc)


def _is_time(value: Any) -> bool:
    return _is_text(value) and "T" in value and datetime.fromisoformat(value).tzinfo is not None


def _is_uuid(value: Any) -> bool:
    return _is_text(value) and str(uuid.UUID(value)) == value


def _is_schema(value: Any) -> bool:
    return _is_text(value) and value.startswith(_SCHEMA) and bool(re.search(r"\.json#/\$defs/\w+$", value))


def _is_tag(value: Any) -> bool:
    return isinstance(value, dict) and {"key", "value"} <= value.keys() and all(map(_is_text, value.values()))


_FACET: dict[str, Check] = {"_producer": _is_uri, "_schemaURL": _is_schema}
_FACETS: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "processing_engine": ({"version": _is_text}, {"name": _is_text}),
    "errorMessage": ({"message": _is_text, "programmingLanguage": _is_text}, {"stackTrace": _is_text}),
    "tags": ({"tags": lambda value: isinstance(value, list) and all(map(_is_tag, value))}, {}),
    "jobType": ({"processingType": _is_text, "integration": _is_text}, {"jobType": _is_text}),
    "outputStatistics": ({}, {"rowCount": _is_number, "size": _is_number, "fileCount": _is_number}),
}
"""The required and the other members of each facet."""


def violations(event: Mapping[str, Any]) -> list[str]:
    """What an event of a run has against the specification."""
    required: dict[str, Check] = {
        "run": _is_object,
        "job": _is_object,
        "eventTime": _is_time,
        "producer": _is_uri,
        "schemaURL": lambda value: _is_schema(value) and value.endswith("/RunEvent"),
    }
    optional: dict[str, Check] = {"eventType": EVENT_TYPES.__contains__, "inputs": _is_list, "outputs": _is_list}
    found = list(_members("event", event, required, optional))
    found += _members("run", event["run"], {"runId": _is_uuid}, {"facets": _is_object})
    found += _facets("run", event["run"].get("facets", {}))
    found += _members("job", event["job"], {"namespace": _is_text, "name": _is_text}, {"facets": _is_object})
    found += _facets("job", event["job"].get("facets", {}))
    for side, own in (("inputs", "inputFacets"), ("outputs", "outputFacets")):
        for dataset in event.get(side, []):
            optional = {"facets": _is_object, own: _is_object}
            found += _members(side, dataset, {"namespace": _is_text, "name": _is_text}, optional)
            found += _facets(side, dataset.get(own, {}))
    return found


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _members(
    where: str, value: Mapping[str, Any], required: Mapping[str, Check], optional: Mapping[str, Check]
) -> Iterator[str]:
    yield from (f"{where} lacks {name}" for name in required if name not in value)
    for name, found in value.items():
        check = required.get(name) or optional.get(name)
        if check is None:
            yield f"{where} has an unknown {name}"
        elif not check(found):
            yield f"{where}.{name} is {found!r}"


def _facets(where: str, facets: Mapping[str, Any]) -> Iterator[str]:
    for name, facet in facets.items():
        if name not in _FACETS:
            yield f"{where} has an unknown facet {name}"
            continue
        required, optional = _FACETS[name]
        yield from _members(f"{where}.{name}", facet, {**_FACET, **required}, optional)
