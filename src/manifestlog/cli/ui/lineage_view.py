"""Draws a lineage: as indented text, for Mermaid, or for Graphviz.

Invariants:

- Each content is described once; further occurrences say `(above)`. So a cycle ends.
- Text from records cannot control a terminal, and cannot leave its label in a drawing.
"""

import os
from collections.abc import Callable, Iterator, Sequence

from manifestlog.cli.ui.output import clean, human_time, short
from manifestlog.model.lineage import Delivery, Derivation, Lineage

_INDENT = "  "


def text(found: Lineage, *, up: bool, down: bool) -> Iterator[str]:
    """Yield the lines of the text: each beginning, then what it was made from, then what was made of it."""
    described: set[str] = set()
    for start in found.starts:
        yield from _content(found, start, 0, described)
        if up:
            yield from _tree(found, start, _steps_up(found), described)
        if down:
            yield from _tree(found, start, _steps_down(found), described)


_Steps = Callable[[str], list[tuple[str, tuple[str, ...]]]]
"""Return the derivations next to a content: a line about each, and the contents beyond it."""


def _steps_up(found: Lineage) -> _Steps:
    return lambda checksum: [(f"made {_how(one)}, from", one.inputs) for one in found.made_by(checksum)]


def _steps_down(found: Lineage) -> _Steps:
    return lambda checksum: [
        (f"used {_how(one)}, for", (one.output,)) for one in found.derivations if checksum in one.inputs
    ]


def _tree(found: Lineage, start: str, steps: _Steps, described: set[str]) -> Iterator[str]:
    """Yield the lines below a content, each content once."""
    expanded = {start}
    waiting: list[tuple[int, str, str | None]] = _next(start, steps, 1)
    while waiting:
        depth, said, checksum = waiting.pop()
        if checksum is None:
            yield _INDENT * depth + said
            continue
        yield from _content(found, checksum, depth, described)
        if checksum not in expanded:
            expanded.add(checksum)
            waiting += _next(checksum, steps, depth + 1)


def _next(checksum: str, steps: _Steps, depth: int) -> list[tuple[int, str, str | None]]:
    """Return what comes below a content, the last first."""
    found: list[tuple[int, str, str | None]] = []
    for said, beyond in steps(checksum):
        found.append((depth, said, None))
        found += [(depth + 1, "", one) for one in beyond]
    return found[::-1]


def _content(found: Lineage, checksum: str, depth: int, described: set[str]) -> Iterator[str]:
    deliveries = found.contents.get(checksum, ())
    first = f"{_INDENT * depth}{short(checksum)}  {_paths(deliveries)}"
    if checksum in described:
        yield f"{first} (above)"
        return
    described.add(checksum)
    yield first
    for one in deliveries:
        yield f"{_INDENT * (depth + 2)}{_delivered(one)}"


def _paths(deliveries: Sequence[Delivery]) -> str:
    return clean(deliveries[0].file_path) if deliveries else "not recorded here"


def _delivered(one: Delivery) -> str:
    etag = None if one.etag is None else f"ETag {one.etag}"
    source = f"{one.manifest}: {one.dataset}/{one.source_id}"
    said = [source, human_time(one.ts_downloaded), f"version {one.version}", one.url, etag]
    return clean(", ".join([*filter(None, said), *([] if one.recorded else ["no longer recorded"])]))


def _how(one: Derivation) -> str:
    by = f" by {_stage(one)}" if _stage(one) else ""
    return clean(f"in {one.manifest}{by}, {human_time(one.ts)}")


def _stage(one: Derivation) -> str:
    return " ".join(filter(None, [one.stage, one.version]))


# -- drawings ----------------------------------------------------------------------------------------------------------


def mermaid(found: Lineage) -> Iterator[str]:
    """Yield the lines of a Mermaid flow chart."""
    yield "flowchart LR"
    node = {checksum: f"c{number}" for number, checksum in enumerate(found.contents)}
    for checksum, name in node.items():
        label = "<br>".join(map(_mermaid_text, _label(found, checksum)))
        yield f'  {name}["{label}"]'
    for source, target, label in _edges(found):
        yield f'  {node[source]} -->|"{_mermaid_text(label)}"| {node[target]}'


def _mermaid_text(said: str) -> str:
    for character, name in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        said = said.replace(character, name)
    return clean(said)


def dot(found: Lineage) -> Iterator[str]:
    """Yield the lines of a Graphviz graph."""
    yield "digraph lineage {"
    yield "  rankdir=LR;"
    yield "  node [shape=box];"
    for checksum in found.contents:
        label = "\\n".join(map(_dot_text, _label(found, checksum)))
        yield f'  "{short(checksum)}" [label="{label}"];'
    for source, target, label in _edges(found):
        yield f'  "{short(source)}" -> "{short(target)}" [label="{_dot_text(label)}"];'
    yield "}"


def _dot_text(said: str) -> str:
    return clean(said).replace("\\", "\\\\").replace('"', '\\"')


def _label(found: Lineage, checksum: str) -> list[str]:
    deliveries = found.contents[checksum]
    names = [os.path.basename(deliveries[0].file_path)] if deliveries else []
    urls = [one.url for one in deliveries if one.url is not None]
    return [*names, short(checksum), *dict.fromkeys(urls)]


def _edges(found: Lineage) -> Iterator[tuple[str, str, str]]:
    """Yield (input, output, label) of each edge between contents that were met."""
    for one in found.derivations:
        for source in one.inputs:
            if source in found.contents and one.output in found.contents:
                yield source, one.output, _stage(one) or one.manifest
