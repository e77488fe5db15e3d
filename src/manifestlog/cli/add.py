"""`add`: hash files and register them, in several processes that share the manifest directly."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from manifestlog import naming, roots
from manifestlog.cli import listed, output, progress, reading, target, texts
from manifestlog.cli.call import INTERRUPTED, CommandError
from manifestlog.cli.init import VersionOption, create, fresh_metadata
from manifestlog.cli.jobs import JobsOption, count_of
from manifestlog.cli.settings import Settings
from manifestlog.cli.walk import Failure, FileTask, Found, Naming, Skipped, Why, find, find_listed
from manifestlog.cli.worker import Batch, Job, Tally, work
from manifestlog.errors import ManifestError, ManifestNotFoundError, MetadataConflictError
from manifestlog.manager import AbstractManifest
from manifestlog.models import paths_of
from manifestlog.pool import Interrupts, Pool

_BATCH_FILES_MAX = 32
"""Files whose records share one line and one sync; few enough that a small tree still keeps every process busy."""
_BATCH_BYTES_MAX = 16 << 20


class Empty(StrEnum):
    """What becomes of empty files, which no record can be of."""

    SKIP = "skip"
    ERROR = "error"


_SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="ID",
        callback=texts.recordable,
        help="Source of all of them; without it each file's path below the folder given.",
    ),
]
_DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        callback=texts.recordable,
        help="Dataset of all of them; without it the folder's name.",
    ),
]
_EtagOption = Annotated[
    str | None,
    typer.Option("--etag", metavar="ETAG", help="ETag of the one file, as its server sent it, quotes included."),
]
_LastModifiedOption = Annotated[
    str | None,
    typer.Option("--last-modified", metavar="TEXT", help="Last-Modified of the one file, as its server sent it."),
]
_TimeOption = Annotated[
    str | None,
    typer.Option("--time", metavar="TIME", help="When the one file was downloaded; without it, its modification time."),
]
_IndexOption = Annotated[
    str | None,
    typer.Option("--index", metavar="FILE", help="CSV or JSON lines that name files and what is known of each."),
]
_EmptyOption = Annotated[
    Empty, typer.Option("--empty", help="Skip empty files, or count each as failed.", show_default=True)
]
_RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        callback=texts.recordable,
        help="State this folder as the manifest's root: files below it are recorded relative to it, so that they can move.",
    ),
]


def add(
    settings: Settings,
    manifest: target.ManifestArgument,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            callback=texts.all_filled,
            help="Files, and folders with all that is in them.",
            show_default=False,
        ),
    ] = None,
    *,
    source: _SourceOption = None,
    dataset: _DatasetOption = None,
    etag: _EtagOption = None,
    last_modified: _LastModifiedOption = None,
    moment: _TimeOption = None,
    index: _IndexOption = None,
    empty: _EmptyOption = Empty.SKIP,
    root: _RootOption = None,
    etl_version: VersionOption = None,
    jobs: JobsOption = None,
) -> int:
    """Hash files and register them.

    The manifest is made if it is missing. Adding a file again that has not changed gives the verdict duplicate and writes nothing. Links to files are followed,
    links to folders are not. Pipes, sockets, devices, empty files and the working files of extract (.part, .part.json, .rejected, .manifestlog.claims, .manifestlog.seen) are skipped. Exit code 1 when a file could not be registered.
    """
    path = target.locate(settings, manifest)
    entries = _entries(paths or [], index, etag, last_modified, moment)
    job = _prepare(settings, path, etl_version, root)
    names, own = Naming(source, dataset), naming.resolve(path)
    given = [] if entries and index is None else paths or []  # the one file is an entry of its own
    run = _Run(settings, lambda: chain(find(given, names, own), find_listed(entries, names, own)), empty)
    try:
        interrupted = run.run(job, count_of(jobs))
    except (ManifestError, CommandError, OSError):
        if run.total.files:
            run.report()  # what landed before is kept, and nobody else will say so
        raise
    run.report()
    if interrupted:
        output.remark(settings, "interrupted; what is counted above is registered")
        return INTERRUPTED
    return 1 if run.total.failures else 0


def _entries(
    paths: Sequence[str], index: str | None, etag: str | None, last_modified: str | None, moment: str | None
) -> list[listed.Entry]:
    """The files of which more is known than where they are: those of an index, or the one that the options are about."""
    if not any((etag, last_modified, moment)):
        if index is None and not paths:
            raise typer.BadParameter("give at least one file or folder, or an --index", param_hint="PATH")
        return [] if index is None else listed.read(index)
    if index is not None or len(paths) != 1 or os.path.isdir(paths[0]):
        raise typer.BadParameter(
            "--etag, --last-modified and --time are about one file: give one, or an --index of several",
            param_hint="PATH",
        )
    try:
        facts = listed.facts_of(etag or None, last_modified or None, moment or None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return [listed.Entry(paths[0], None, None, facts)]


def _prepare(settings: Settings, path: Path, etl_version: str | None, root: str | None) -> Job:
    root_dir = None if root is None else roots.rooted(os.path.abspath(root), naming.resolve(path).directory)
    try:
        with reading.open_to_read(settings, path) as found:
            stored = found.metadata
            if root is not None:
                _check_root(found, os.path.abspath(root))
    except ManifestNotFoundError:
        stored = create(settings, path, fresh_metadata(path, etl_version=etl_version, root_dir=root_dir))
        output.detail(settings, f"created {path}")
    metadata = None
    if etl_version is not None or root_dir is not None:
        changes = {"etl_version": etl_version or stored.etl_version, "root_dir": Path(root_dir or stored.root_dir)}
        metadata = stored.model_copy(update=changes)
    # What the library warned of on opening was said just now; N workers need not say it again.
    level = logging.INFO if settings.verbose else logging.ERROR
    return Job(str(path.absolute()), metadata, etl_version or stored.etl_version, settings, level)


def _check_root(found: AbstractManifest, root: str) -> None:
    """Raise when relative paths begin at another folder already."""
    if str(found.root) != root and any(
        not seen.is_absolute() for record in found.records.values() for seen in paths_of(record)
    ):
        raise MetadataConflictError(str(found.path), "root_dir", str(found.root), root)


class _Run:
    """One run over the files: what was found and what came of it."""

    def __init__(self, settings: Settings, find: Callable[[], Iterator[Found]], empty: Empty) -> None:
        self.total = Tally()
        self.skipped: Counter[Why] = Counter()
        self._settings, self._empty = settings, empty
        self._find = find
        self._bar: progress.Bar = progress.NoBar()
        self._began = time.perf_counter()

    def run(self, job: Job, jobs: int) -> bool:
        """Register everything; gives whether somebody interrupted it."""
        with Interrupts() as interrupts:
            with (
                Pool(work, job, self._batches(self._find()), jobs, name="manifestlog-add") as pool,
                progress.shown(self._settings, self._count) as bar,
            ):
                self._bar = bar
                pool.run(self, interrupts.asked)
            return interrupts.count > 0

    def _count(self, enough: threading.Event) -> int:
        total = 0
        for found in self._find():
            if enough.is_set():
                break
            total += found.size if isinstance(found, FileTask) else 0
        return total

    def _batches(self, found: Iterator[Found]) -> Iterator[Batch]:
        batch: Batch = []
        waiting = 0
        for one in found:
            if isinstance(one, FileTask):
                batch.append(one)
                waiting += one.size
            else:
                self._set_aside(one)
            if len(batch) >= _BATCH_FILES_MAX or waiting >= _BATCH_BYTES_MAX:
                yield batch
                batch, waiting = [], 0
        if batch:
            yield batch

    def _set_aside(self, one: Failure | Skipped) -> None:
        if isinstance(one, Failure):
            self._fail(one)
        elif one.why is Why.EMPTY and self._empty is Empty.ERROR:
            self._fail(Failure(one.path, "empty, not registered"))
        else:
            self.skipped[one.why] += 1
            output.detail(self._settings, f"{one.path}: skipped: {one.why}")

    def _fail(self, failure: Failure) -> None:
        self.total.failures.append(failure)
        self._bar.say(f"{failure.path}: {failure.reason}")

    # -- what the pool tells ---------------------------------------------------------------------------------------

    def heard(self, news: int) -> None:
        """So many bytes more were hashed."""
        self._bar.advance(news)

    def done(self, result: Tally) -> None:
        """A batch is done."""
        for verdict, number in result.verdicts.items():
            self.total.verdicts[verdict] += number
        self.total.bytes += result.bytes
        for failure in result.failures:
            self._fail(failure)

    def lost(self, task: Batch, how: str) -> bool:
        """A worker died: its files are told, and not given to another one that might die of them, too."""
        for file in task:
            self._fail(Failure(file.path, f"not registered: the worker that had it {how}; add it again"))
        return False

    # -- what is reported ------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Say what came of it, and once what was left out."""
        if self.skipped:
            kinds = ", ".join(why.counted(number) for why in Why if (number := self.skipped[why]))
            output.remark(self._settings, f"skipped: {kinds} (--verbose names each)")
        output.report(self._settings, self.sentence(), self.as_json())

    def sentence(self) -> str:
        """The summary in one line."""
        counts = ", ".join(f"{count:,} {verdict}" for verdict, count in self.total.verdicts.items())
        seconds = time.perf_counter() - self._began
        return (
            f"{counts}, {len(self.total.failures):,} failed, {self.skipped.total():,} skipped; "
            f"{output.human_bytes(self.total.bytes)} in {seconds:.1f} s ({self.total.files / seconds:,.0f} files/s)"
        )

    def as_json(self) -> dict[str, Any]:
        """The summary as data."""
        verdicts = {verdict.value: count for verdict, count in self.total.verdicts.items()}
        return verdicts | {
            "failed": len(self.total.failures),
            "skipped": self.skipped.total(),
            "bytes": self.total.bytes,
            "seconds": round(time.perf_counter() - self._began, 3),
        }
