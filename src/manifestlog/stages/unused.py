"""Finds contents that no later stage needs: they may be forgotten, and their files deleted.

Invariants:

- A content is unused only if no rule of `Reason` applies to it; in doubt, it is kept.
- A file is named only if every content with its path is unused.
- It only reads. Users forget the records before they delete files, so that no record is ever without its file.

A content is identified by its checksum. So a file that a validating stage has passed on is needed as long as a stage
after it needs it.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.errors import ManifestNotFoundError
from manifestlog.locating import is_same, manifests_in
from manifestlog.managers import reader_of
from manifestlog.model import codec
from manifestlog.model.rows import observations, sort_key, source_key, utc_text
from manifestlog.stages import kept_look, opening
from manifestlog.stages.by_hand import ByHand
from manifestlog.stages.errors import StageError
from manifestlog.stages.look import Between
from manifestlog.stages.naming import GroupKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from manifestlog.manager import AbstractManifest
    from manifestlog.model.rows import Order, Row
    from manifestlog.reader import Snapshot
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.look import Look

_HAS_INPUTS = b'"derived_from":['


class Reason(StrEnum):
    """Why a content is kept; the first that holds.

    - `PENDING`: a stage still has to process it, or failed to.
    - `GROUP`: it is a member of a group, and a new member makes the whole group pending.
    - `CURRENT`: it is the latest content of one of its sources.
    - `YOUNG`: it is younger than `older_than` allows.
    """

    PENDING = "pending"
    GROUP = "group"
    CURRENT = "current"
    YOUNG = "young"


class UnusedContent(NamedTuple):
    """A content that nothing needs."""

    checksum: str
    source_id: str
    dataset: str
    file_size: int
    ts_downloaded: str
    paths: tuple[str, ...]
    """The absolute paths of its files, whether they exist or not, without those that a kept content also has."""


@dataclass(slots=True)
class UnusedReport:
    """The contents that no later stage needs, and how many are kept for which reason."""

    manifest: str
    stages: list[str]
    """The stages that were asked."""
    contents: list[UnusedContent] = field(default_factory=list)
    kept: Counter[Reason] = field(default_factory=Counter)

    @property
    def bytes(self) -> int:
        """The size of the unused contents."""
        return sum(one.file_size for one in self.contents)


class Needs(NamedTuple):
    """What keeps a content, apart from its sources."""

    pending: frozenset[str] = frozenset()
    grouped: frozenset[str] = frozenset()
    before: str | None = None
    """The time before which a content is old enough, as text in UTC without the Z."""


def reason_to_keep(row: Row, needs: Needs, is_current: Callable[[Row], bool] | None) -> Reason | None:
    """Return why a content is kept; None if nothing needs it. `is_current` is None if current contents may go."""
    checksum = row["checksum"]
    if checksum in needs.pending:
        return Reason.PENDING
    if checksum in needs.grouped:
        return Reason.GROUP
    if needs.before is not None and any(seen["ts_downloaded"][:-1] >= needs.before for seen in observations(row)):
        return Reason.YOUNG
    if is_current is not None and is_current(row):
        return Reason.CURRENT
    return None


def unused(
    manifest: str,
    directory: str | os.PathLike[str] = "manifests",
    *,
    stages: Sequence[Stage] | None = None,
    older_than: datetime | None = None,
    keep_current: bool = True,
) -> UnusedReport:
    """Return the contents of a manifest that no stage needs any more, sorted by checksum. Changes nothing.

    `stages` are all stages of the pipeline that may read these contents, including those that read a validation
    [default: those that `readers_of` finds]. `older_than`: only contents from before that time. Without `keep_current`,
    also the latest content of each source, which `extract` then fetches again. Raises `StageError` if no stage reads the
    manifest; otherwise raises as `run_stage`.
    """
    asked = readers_of(manifest, directory) if stages is None else list(stages)
    if not asked:
        reason = f"no stage processes {manifest}; name the manifests of those that do"
        raise StageError("", "", reason)
    with reader_of(opening.path_of(manifest, directory)) as found:
        before = None if older_than is None else utc_text(older_than)[:-1]
        pending, grouped = _needed(asked, directory)
        report = UnusedReport(found.location.name, [stage.name for stage in asked])
        now = found.snapshot()
        _decide(report, now, Needs(pending, grouped, before), keep_current=keep_current)
        _leave_out_shared_paths(report, found, now, asked, directory)
        return report


def readers_of(manifest: str, directory: str | os.PathLike[str] = "manifests") -> list[Stage]:
    """Return a stage for each manifest of the directory with a record that was derived from a content of this one.

    This does not find a stage that has processed nothing yet. If there is one, name the stages.
    """
    path = opening.path_of(manifest, directory)
    found: list[Stage] = []
    with reader_of(path) as upstream:
        for other in manifests_in(directory):
            if not is_same(other, path):
                with reader_of(other) as outputs:
                    if _derives_from(outputs, upstream):
                        found.append(ByHand(manifest=other, upstream=path, directory=directory).stage)
    return found


def _derives_from(outputs: AbstractManifest, upstream: AbstractManifest) -> bool:
    inputs = (codec.loads(raw)["derived_from"] for _, raw in outputs.snapshot().records() if _HAS_INPUTS in raw)
    return any(map(upstream.has_checksum, chain.from_iterable(inputs)))


# -- what stages need --------------------------------------------------------------------------------------------------


def _needed(stages: Iterable[Stage], directory: str | os.PathLike[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the checksums that are pending for one of the stages, and those of members of groups."""
    pending: set[str] = set()
    grouped: set[str] = set()
    for stage in stages:
        try:
            with (
                opening.upstream_of(stage, directory) as upstream,
                opening.outputs_to_read(stage, directory) as outputs,
            ):
                between = opening.between_of(stage, upstream, outputs)
                look = kept_look.look_at(between)
                pending |= look.pending
                if stage.group_by is not None:
                    grouped.update(_members(between, look, GroupKey(stage.name, stage.group_by)))
        except ManifestNotFoundError:
            continue  # the stage before it has made nothing yet, so its own inputs are pending
    return frozenset(pending), frozenset(grouped)


def _members(between: Between, look: Look, key_of: GroupKey) -> Iterator[str]:
    """Yield the latest content of each source in each group."""
    latest: dict[tuple[str, str, str], tuple[Order, str]] = {}
    for row in between.upstream.snapshot().rows():
        key = key_of.of(row)
        if key is None or not between.where.admits(row) or not look.accepts(between.where, row["checksum"]):
            continue
        for seen in observations(row):
            of_source = (key, *source_key(seen))
            one = (sort_key(seen), row["checksum"])
            latest[of_source] = max(one, latest.get(of_source, one))
    return (checksum for _, checksum in latest.values())


# -- the decision, for all records -------------------------------------------------------------------------------------


def _decide(report: UnusedReport, now: Snapshot, needs: Needs, *, keep_current: bool) -> None:
    def is_current(row: Row) -> bool:
        return any(_latest_of(now, source_key(seen)) == row["checksum"] for seen in observations(row))

    for row in now.rows():
        reason = reason_to_keep(row, needs, is_current if keep_current else None)
        if reason is not None:
            report.kept[reason] += 1
        else:
            own = (row["source_id"], row["dataset"], row["file_size"], row["ts_downloaded"])
            report.contents.append(UnusedContent(row["checksum"], *own, paths=_paths(row)))


def _latest_of(now: Snapshot, source: tuple[str, str]) -> str | None:
    row = now.latest(*source)
    return None if row is None else str(row["checksum"])


def _paths(row: Row) -> tuple[str, ...]:
    return tuple(dict.fromkeys(seen["file_path"] for seen in observations(row)))


def _leave_out_shared_paths(
    report: UnusedReport,
    found: AbstractManifest,
    now: Snapshot,
    stages: Iterable[Stage],
    directory: str | os.PathLike[str],
) -> None:
    """Make paths absolute, and leave out those that a content that is kept has, here or in a manifest of a stage."""
    root = found.root
    gone = {one.checksum for one in report.contents}
    wanted = {os.path.normpath(os.path.join(root, path)) for one in report.contents for path in one.paths}
    shared = _paths_of_others(now, str(root), gone, wanted)
    for stage in stages if wanted else ():
        with opening.outputs_to_read(stage, directory) as outputs:
            shared |= _paths_of_others(outputs.snapshot(), str(outputs.root), gone, wanted)
    for number, one in enumerate(report.contents):
        paths = (os.path.normpath(os.path.join(root, path)) for path in one.paths)
        report.contents[number] = one._replace(paths=tuple(path for path in paths if path not in shared))


def _paths_of_others(now: Snapshot, root: str, gone: set[str], wanted: set[str]) -> set[str]:
    """Return the wanted paths that contents have which are not among those."""
    return {
        path
        for row in now.rows()
        if row["checksum"] not in gone
        for seen in observations(row)
        if (path := os.path.normpath(os.path.join(root, seen["file_path"]))) in wanted
    }
