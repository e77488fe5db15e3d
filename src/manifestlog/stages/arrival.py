"""Arrivals: items with their outcomes, on their way to be published and recorded.

Plain data for `landing`, `intent`, `register` and `leftovers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.stages.hashing import Content

if TYPE_CHECKING:
    from manifestlog.managers import ProcessedManifestManager
    from manifestlog.stages.claiming import StageClaims
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.items import Item
    from manifestlog.stages.outcome import Outcome
    from manifestlog.stages.report import MadeOutput
    from manifestlog.stages.workspace import Workspace


class Ready(NamedTuple):
    """An output that is complete: hashed, and as durable as its name will be."""

    work: str | None
    """Its path in the working directory; None if the function has put it in its place."""
    path: str
    """The path that it gets: the first choice, or what was chosen."""
    content: Content
    source_id: str
    dataset: str


@dataclass(slots=True, eq=False)
class Arrival:
    """An item with its outcome. Landing adds the outputs that are ready, what was recorded, and what went wrong."""

    item: Item
    outcome: Outcome
    version: str
    code: str | None
    started: str
    """When the attempt began, as text in UTC."""
    seconds: float
    outputs: list[Ready] = field(default_factory=list)
    made: tuple[MadeOutput, ...] = ()
    error: Exception | None = None
    is_deferred: bool = False
    """Whether another worker has claimed a name that the item needs. It then lands alone, after the group."""


@dataclass(slots=True)
class Landing:
    """What a worker needs to land items."""

    stage: Stage
    manifest: ProcessedManifestManager
    claims: StageClaims
    workspace: Workspace
    is_durable: bool
    """Whether outputs survive a power cut before they are recorded."""
    directories: set[str] = field(default_factory=set)
    """Directories that exist, with durable names, inside the output directory."""
