"""`add`: hash files and register them, in several worker processes that share the manifest."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer

from manifestlog import ingest
from manifestlog.cli import target, validators
from manifestlog.cli.invoke import INTERRUPTED, CommandError
from manifestlog.cli.jobs import JobsOption
from manifestlog.cli.keeping import HistoryOption
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output, progress
from manifestlog.cli.verbs.init import VersionOption
from manifestlog.errors import ManifestError
from manifestlog.factory import UnrecordableFolderError
from manifestlog.ingest import EmptyFiles, ListedFile, SkipReason
from manifestlog.ingest.index_file import facts_of
from manifestlog.workers.interrupts import Interrupts

_SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="ID",
        callback=validators.recordable,
        help="Source of all files [default: each file's path below the given directory].",
    ),
]
_DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        callback=validators.recordable,
        help="Dataset of all files [default: the directory's name].",
    ),
]
_EtagOption = Annotated[
    str | None,
    typer.Option("--etag", metavar="ETAG", help="ETag of a single file, as its server sent it, with quotes."),
]
_LastModifiedOption = Annotated[
    str | None,
    typer.Option("--last-modified", metavar="TEXT", help="Last-Modified of a single file, as its server sent it."),
]
_TimeOption = Annotated[
    str | None,
    typer.Option("--time", metavar="TIME", help="Download time of a single file [default: its modification time]."),
]
_IndexOption = Annotated[
    str | None,
    typer.Option("--index", metavar="FILE", help="CSV or JSON Lines file that lists files and their metadata."),
]
_EmptyOption = Annotated[
    EmptyFiles, typer.Option("--empty", help="Skip empty files, or report each as failed.", show_default=True)
]
_RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        callback=validators.recordable,
        help="Set the manifest's root directory. Files below it are recorded with relative paths, so the tree can move.",
    ),
]


def add(
    settings: Settings,
    manifest: target.ManifestArgument,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            callback=validators.all_filled,
            help="Files, and directories to add recursively.",
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
    empty: _EmptyOption = EmptyFiles.SKIP,
    root: _RootOption = None,
    etl_version: VersionOption = None,
    jobs: JobsOption = None,
    keep: HistoryOption = None,
) -> int:
    """Hash files and register them.

    Creates the manifest if needed. Adding an unchanged file again gives the verdict duplicate and writes nothing. Follows links to files, not to
    directories. Skips pipes, sockets, devices, empty files and the working files of extract (.part, .part.json, .rejected, .manifestlog.claims, .manifestlog.seen). Exits with 1 if a file could not be registered.
    """
    path = target.locate(settings, manifest)
    listed = _listed(paths or [], index, etag, last_modified, moment)
    given = [] if listed and index is None else paths or []  # the one file is listed itself
    view = _View(settings)
    try:
        with view:
            report = ingest.run(
                path,
                given,
                listed=listed,
                source_id=source,
                dataset=dataset,
                etl_version=etl_version,
                root_dir=root,
                empty=empty,
                jobs=jobs,
                options=settings.options(keep),
                on_event=view.show,
                asked_to_stop=view.interrupts.asked,
                initializer=partial(output.configure_worker_logging, settings),
            )
    except UnrecordableFolderError as error:
        raise CommandError(str(error)) from None
    except (ManifestError, OSError):
        if view.report is not None and view.report.files:
            _print_summary(settings, view.report)  # the records added before the error are kept; only this line says so
        raise
    return _end(settings, report)


def _end(settings: Settings, report: ingest.IngestReport) -> int:
    """Print the result of the run and return its exit code."""
    _print_summary(settings, report)
    if report.interrupted:
        output.notice(settings, "interrupted; the files counted above are registered")
        return INTERRUPTED
    return 1 if report.failures else 0


def _listed(
    paths: Sequence[str], index: str | None, etag: str | None, last_modified: str | None, moment: str | None
) -> list[ListedFile]:
    """Return the files that come with metadata: those of an index, or the single file that the options describe."""
    if not any((etag, last_modified, moment)):
        if index is None and not paths:
            raise typer.BadParameter("give at least one file or folder, or an --index", param_hint="PATH")
        return [] if index is None else _read_index(index)
    if index is not None or len(paths) != 1 or os.path.isdir(paths[0]):
        raise typer.BadParameter(
            "--etag, --last-modified and --time describe a single file: give one file, or use --index for several",
            param_hint="PATH",
        )
    try:
        facts = facts_of(etag or None, last_modified or None, moment or None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return [ListedFile(paths[0], facts=facts)]


def _read_index(index: str) -> list[ListedFile]:
    try:
        return ingest.read_index(index)
    except OSError as error:
        raise typer.BadParameter(output.reason(error), param_hint="--index") from None
    except ingest.IndexFileError as error:
        raise typer.BadParameter(str(error), param_hint="--index") from None


class _View:
    """Show a run's progress: failures, skipped files with `--verbose`, and a progress bar on a terminal."""

    def __init__(self, settings: Settings) -> None:
        self.report: ingest.IngestReport | None = None
        """The report of the started run; None before the run starts."""
        self._settings = settings
        self._bar: progress.Bar = progress.NoBar()
        self.interrupts = Interrupts()
        """Counts Ctrl-C once the run has started. Before that, Ctrl-C ends a wait for a lock."""
        self._shown = ExitStack()

    def __enter__(self) -> "_View":
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def show(self, event: ingest.Event) -> None:
        match event:
            case ingest.Progress():
                self._bar.advance(event.bytes_read)
            case ingest.Failure():
                self._bar.say(f"{event.path}: {event.reason}")
            case ingest.Skipped():
                output.detail(self._settings, f"{event.path}: skipped: {event.why}")
            case ingest.WorkersStarted():
                self._bar = self._shown.enter_context(progress.shown(self._settings, event.total_bytes))
            case ingest.Began():
                self.report = event.report
                self._shown.enter_context(self.interrupts)
                if event.report.created:
                    output.detail(self._settings, f"created {event.manifest}")


def _print_summary(settings: Settings, report: ingest.IngestReport) -> None:
    """Print the summary, and one line that counts the skipped files."""
    if kinds := ", ".join(why.counted(report.skipped[why]) for why in SkipReason if report.skipped[why]):
        output.notice(settings, f"skipped: {kinds} (--verbose lists them)")
    output.report(settings, _sentence(report), report.as_json())


def _sentence(report: ingest.IngestReport) -> str:
    """Return the summary as one line."""
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in report.verdicts.items())
    return (
        f"{counts}, {len(report.failures):,} failed, {sum(report.skipped.values()):,} skipped; "
        f"{output.human_bytes(report.bytes)} in {report.seconds:.1f} s ({report.files / report.seconds:,.0f} files/s)"
    )
