"""Stages run by other programs: a shell pipeline, Make or Snakemake asks what is pending, and records the results.

Invariants:

- A record made by hand counts for every stage of the manifest as if the stage had made it.
- An output is hashed and synced before it is recorded, like those of `run_stage`. It stays where it is.
- An input must be known upstream: its record determines the output's source, dataset and time.

It claims nothing: the caller must make sure that no two programs process the same input.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog.errors import ManifestNotFoundError, RecordRejectedError, UnknownContentError
from manifestlog.files import disk
from manifestlog.locating import is_same, manifests_in
from manifestlog.managers import reader_of
from manifestlog.model import codec
from manifestlog.model.events import EventKind
from manifestlog.model.rows import moment_text, normal_checksum, sort_key
from manifestlog.stages import opening, register
from manifestlog.stages.arrival import Arrival, Ready
from manifestlog.stages.claiming import StageClaims
from manifestlog.stages.definition import Stage
from manifestlog.stages.hashing import content_of, why_no_file
from manifestlog.stages.items import Item, ItemTask, Naming
from manifestlog.stages.outcome import Failed, Made, Output
from manifestlog.stages.report import ItemOutcome, Result
from manifestlog.stages.runner import pending_items
from manifestlog.stages.worker import result_of
from manifestlog.stages.working import landing_of
from manifestlog.stages.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manifestlog.manager import AbstractManifest
    from manifestlog.managers import ProcessedManifestManager
    from manifestlog.model.rows import Row
    from manifestlog.options import ManifestOptions
    from manifestlog.stages.arrival import Landing
    from manifestlog.stages.outcome import Outcome
    from manifestlog.stages.report import ItemRef
    from manifestlog.stages.where import Where


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """A stage that another program runs.

    `manifest` and `upstream` are names in `directory`, which may be the URL of a database, or paths. Every call opens what it needs. Raises
    `ManifestNotFoundError` for a missing upstream manifest, `DamagedManifestError`, `NewerFormatError`, `LockTimeoutError`.
    """

    manifest: str
    upstream: str | None = None
    """The manifest with the inputs; `pending` requires it. [default: the one in the directory that knows them]"""
    directory: str | os.PathLike[str] = "manifests"
    version: str | None = None
    """[default: that of the manifest, `1.0.0` for a new one]"""
    options: ManifestOptions | None = None
    where: Where | None = field(default=None)
    """Which upstream records are pending. [default: all that were not judged invalid]"""

    def pending(self, *, only: str | None = None) -> list[ItemRef]:
        """Return what this version has not processed, sorted by checksum, and write nothing.

        `only` is a pattern (the shell's wildcards) for the path, source_id or dataset.
        """
        return pending_items(self.stage, self.directory, only=only)

    def record(
        self,
        inputs: Sequence[str | os.PathLike[str]],
        outputs: Sequence[str | os.PathLike[str]] = (),
        *,
        outcome: Outcome | None = None,
        source_id: str | None = None,
        dataset: str | None = None,
    ) -> ItemOutcome:
        """Record that these outputs were made from these inputs; or, without outputs, another `outcome` of the inputs.

        An input is a checksum, or a file, which is hashed. Creates the manifest if needed. `source_id` and `dataset` of
        the outputs are by default those of the input; outputs of several inputs need a `source_id`. Durable on return.
        Raises `UnknownContentError` for an input that no manifest knows, `OSError` for a file that cannot be read, and
        `RecordRejectedError`, with nothing written.
        """
        if (outcome is None) == (not outputs):
            raise ValueError("give outputs, or an outcome without outputs")
        made = tuple(Output(Path(path), dataset=dataset, source_id=source_id) for path in outputs)
        with self._opened(inputs, source_id) as (stage, item, manifest), StageClaims(manifest) as claims:
            landing = landing_of(stage, manifest, claims, Workspace(stage, manifest.location.name))
            arrival = _arrival(stage, item, outcome or Made(made))
            arrival.outputs = [_ready(landing, item, one, len(made)) for one in made]
            register.record(landing, [arrival])
        if isinstance(arrival.error, RecordRejectedError):
            raise arrival.error
        if arrival.error is not None:
            raise RecordRejectedError(str(arrival.error)) from arrival.error
        return ItemOutcome(item.ref, result_of(arrival.outcome), arrival.made)

    def fail(
        self,
        inputs: Sequence[str | os.PathLike[str]],
        error: str,
        *,
        exit_code: int | None = None,
        stderr: str | None = None,
    ) -> ItemOutcome:
        """Record that processing these inputs failed. They stay pending. Otherwise as `record`."""
        with self._opened(inputs, None) as (stage, item, manifest):
            about = {"version": stage.version, "exit_code": exit_code, "stderr": stderr}
            manifest.fail(item, error, inputs=[one.checksum for one in item.inputs], **about)
        return ItemOutcome(item.ref, Result.FAILED, error=error, exit_code=exit_code, stderr=stderr)

    @property
    def stage(self) -> Stage:
        """The stage with this upstream manifest, as its own manifest knows it: its name and its version."""
        return self._stage(self.upstream or "")

    def _stage(self, upstream: str) -> Stage:
        """Return the stage as the manifest knows it: the name of the stage that has written it, and its version."""
        found = Stage(upstream, self.manifest)
        with opening.outputs_to_read(found, self.directory) as manifest:
            version = self.version or manifest.version
            names = (event.stage for event in manifest.history(kinds=[EventKind.BEGUN], reverse=True))
            return Stage(upstream, self.manifest, name=next(filter(None, names), found.name), version=version)

    @contextmanager
    def _opened(
        self, inputs: Sequence[str | os.PathLike[str]], source_id: str | None
    ) -> Iterator[tuple[Stage, Item, ProcessedManifestManager]]:
        """Find the upstream records of these inputs; yield the stage, the inputs as one item, and the open manifest."""
        wanted = {_checksum_of(one): os.fspath(one) for one in inputs}
        if not wanted:
            raise ValueError("give at least one input")
        rows: dict[str, Row] = {}
        upstream: AbstractManifest | None = None
        with ExitStack() as opened:
            for path in self._upstreams():
                manifest = opened.enter_context(reader_of(path))
                found = _rows(manifest, [checksum for checksum in wanted if checksum not in rows])
                if upstream is None and found:
                    upstream = manifest
                rows |= found
                if len(rows) == len(wanted):
                    break
            unknown = [given for checksum, given in wanted.items() if checksum not in rows]
            if unknown or upstream is None:
                raise UnknownContentError(unknown[0])
            stage = self._stage(upstream.location.name)
            item = _item_of(stage, list(rows.values()), source_id)
            yield stage, item, opened.enter_context(opening.outputs_of(stage, upstream, self.directory, self.options))

    def _upstreams(self) -> Iterator[str]:
        """Yield the paths of the manifests that may know the inputs."""
        if self.upstream is not None:
            yield opening.path_of(self.upstream, self.directory)
            return
        own = opening.path_of(self.manifest, self.directory)
        try:
            found = manifests_in(self.directory)
        except FileNotFoundError:
            raise ManifestNotFoundError(os.fspath(self.directory)) from None
        yield from (path for path in found if not is_same(path, own))


def _checksum_of(given: str | os.PathLike[str]) -> str:
    """Return the checksum that an input is, or that its file has."""
    text = os.fspath(given)
    return normal_checksum(text) or content_of(os.path.realpath(text)).checksum


def _rows(manifest: AbstractManifest, checksums: Sequence[str]) -> dict[str, Row]:
    """Return the rows of these contents, as far as the manifest has them, with absolute paths."""
    now = manifest.snapshot()
    found: dict[str, Row] = {}
    for checksum in checksums:
        raw = now.encoded(checksum)
        if raw is not None:
            row = codec.loads(raw)
            found[checksum] = {**row, "file_path": os.path.join(manifest.root, row["file_path"])}
    return found


def _item_of(stage: Stage, rows: list[Row], source_id: str | None) -> Item:
    rows.sort(key=sort_key)
    key = rows[0]["checksum"] if len(rows) == 1 else source_id or stage.name
    task = ItemTask(key, tuple(map(codec.dumps, rows)))
    return Item(task, Naming("/", stage.name, is_grouped=len(rows) > 1), Workspace(stage, stage.manifest))


def _arrival(stage: Stage, item: Item, outcome: Outcome) -> Arrival:
    if isinstance(outcome, Failed):
        raise ValueError("use fail() for a failure")
    return Arrival(item, outcome, stage.version, None, moment_text(datetime.now(UTC)), 0.0)


def _ready(landing: Landing, item: Item, output: Output, count: int) -> Ready:
    """Hash an output where it is, and make it durable with its name."""
    path = os.path.abspath(output.path or "")
    try:
        content = content_of(path, sync=landing.is_durable)
    except OSError:
        if (reason := why_no_file(path)) is None:
            raise
        raise RecordRejectedError(f"{path} {reason}") from None
    if not content.size:
        raise RecordRejectedError(f"{path} is empty; if there is nothing to record, say so (`--nothing`)")
    if landing.is_durable:
        disk.sync_directory(os.path.dirname(path))
    source_id = output.source_id or (str(landing.manifest.stated(path)) if item.is_group else item.source_id)
    if count > 1 and not (item.is_group and output.source_id is None):
        source_id = f"{source_id}/{os.path.basename(path)}"
    return Ready(None, path, content, source_id, output.dataset or item.dataset)
