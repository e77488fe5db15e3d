"""Finds the holders of claims, as `status` shows them.

A database stores the names of claimed items. For manifests in files, only the claims on names from a configuration can
be found, and only those of processes on this host that the user may see.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manifestlog import names
from manifestlog.cli.configured import Configured
from manifestlog.cli.ui import output
from manifestlog.engines.registry import open_to_read
from manifestlog.errors import ManifestError
from manifestlog.options import ManifestOptions

if TYPE_CHECKING:
    from manifestlog.engines.reports import Holder
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.report import ItemRef

_SHOWN_MAX = 3


class Work(NamedTuple):
    """A source or an item that a worker has claimed."""

    host: str
    pid: int
    since: str | None
    """Text in UTC; None if that is not known."""
    kind: str
    """`source` or `item`."""
    name: str
    """`dataset/source_id` of a source; of an item the path of its input, or the first digits of its checksum."""


def of_holders(holders: "Iterable[Holder]", manifest: str) -> tuple[Work, ...]:
    """Return what these holders work on."""
    items = names.claim_of_items(manifest)
    return tuple(
        Work(one.host, one.pid, one.since, "item", output.short(one.name))
        if one.kind == items
        else Work(one.host, one.pid, one.since, "source", one.name)
        for one in holders
    )


def on_sources(found: Configured) -> tuple[Work, ...]:
    """Return who fetches the sources of a configuration whose manifests are files."""
    from manifestlog.extract.claims import claim_name  # noqa: PLC0415 -- slow to import
    from manifestlog.extract.paths import SourcePaths  # noqa: PLC0415 -- slow to import

    config = found.sources
    labels = {
        claim_name(config.data_dir, SourcePaths.of(config.data_dir, one).part): f"{one.dataset}/{one.source_id}"
        for one in config.sources
    }
    holders = _holders(found, config.manifest, str(config.data_dir), "part", list(labels))
    return tuple(Work(one.host, one.pid, one.since, "source", labels[one.name]) for one in holders)


def on_items(found: Configured, stage: "Stage", items: "Collection[ItemRef]") -> tuple[Work, ...]:
    """Return who works on these pending items of a stage."""
    from manifestlog.stages.items import digest_of  # noqa: PLC0415 -- slow to import

    paths = {digest_of(one.key, is_group=stage.group_by is not None): one.file_path for one in items}
    wanted = list(paths) if is_in_files(found) else None
    holders = _holders(found, stage.manifest, None, names.claim_of_items(stage.manifest), wanted)
    return tuple(
        Work(one.host, one.pid, one.since, "item", paths.get(one.name, output.short(one.name))) for one in holders
    )


def _holders(
    found: Configured, manifest: str, directory: str | None, kind: str, wanted: Sequence[str] | None
) -> "list[Holder]":
    """Return the holders of claims in a directory [default: the manifest's]."""
    path = names.location_in(found.directory, manifest)
    with suppress(ManifestError, OSError), closing(open_to_read(path, ManifestOptions())) as engine:
        return engine.holders(directory or engine.location.directory, kind, wanted)
    return []


def is_in_files(found: Configured) -> bool:
    """Return whether the manifests of a configuration are files."""
    return isinstance(found.directory, Path)


def lines(manifest: str, work: Sequence[Work]) -> list[str]:
    """Return a line for each worker."""
    by_worker: dict[tuple[str, int], list[Work]] = {}
    for one in work:
        by_worker.setdefault((one.host, one.pid), []).append(one)
    return [f"{manifest}: {host} (process {pid}) works on {_shown(some)}" for (host, pid), some in by_worker.items()]


def _shown(work: Sequence[Work]) -> str:
    more = f" and {len(work) - _SHOWN_MAX:,} more" if len(work) > _SHOWN_MAX else ""
    since = min((one.since for one in work if one.since is not None), default=None)
    return (
        ", ".join(one.name for one in work[:_SHOWN_MAX])
        + more
        + (f", since {output.human_time(since)}" if since else "")
    )
