"""The order of several stages: each after the stage whose manifest it reads.

It opens no manifest: whether an upstream manifest exists is found out when its stage runs.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from manifestlog.stages.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.stages.definition import Stage


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages in the order of their upstreams, otherwise as given.

    Raises `StageError` if two stages have the same name or write the same manifest, or if the upstreams form a circle.
    """
    by_manifest: dict[str, Stage] = {}
    names: set[str] = set()
    for stage in stages:
        if stage.name in names:
            raise StageError(stage.name, "name", "another stage has this name; choose one that is unique")
        names.add(stage.name)
        other = by_manifest.setdefault(stage.manifest, stage)
        if other is not stage:
            reason = f"stage {other.name} writes {stage.manifest}, too; give each stage a manifest of its own"
            raise StageError(stage.name, "manifest", reason)
    graph = TopologicalSorter({stage.manifest: [stage.upstream] for stage in stages})
    try:
        order = list(graph.static_order())
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        first = by_manifest[error.args[1][0]]
        raise StageError(first.name, "upstream", f"the stages form a circle: {circle}; begin with a download") from None
    return [by_manifest[manifest] for manifest in order if manifest in by_manifest]
