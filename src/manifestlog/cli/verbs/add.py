"""`add`: hash files and register them, in several processes that share the manifest directly."""

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
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output, progress
from manifestlog.cli.verbs.init import VersionOption
from manifestlog.errors import ManifestError
from manifestlog.factory import UnrecordableFolderError
from manifestlog.ingest import EmptyFiles, ListedFile, SkipReason
from manifestlog.ingest.index_file import facts_of
from manifestlog.workers.pool import Interrupts

_SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="ID",
        callback=validators.recordable,
        help="Source of all of them; without it each file's path below the folder given.",
    ),
]
_DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        callback=validators.recordable,
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
    EmptyFiles, typer.Option("--empty", help="Skip empty files, or count each as failed.", show_default=True)
]
_RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        callback=validators.recordable,
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
            callback=validators.all_filled,
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
    empty: _EmptyOption = EmptyFiles.SKIP,
    root: _RootOption = None,
    etl_version: VersionOption = None,
    jobs: JobsOption = None,
) -> int:
    """Hash files and register them.

    The manifest is made if it is missing. Adding a file again that has not changed gives the verdict duplicate and writes nothing. Links to files are followed,
    links to folders are not. Pipes, sockets, devices, empty files and the working files of extract (.part, .part.json, .rejected, .manifestlog.claims, .manifestlog.seen) are skipped. Exit code 1 when a file could not be registered.
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
                options=settings.options(),
                on_event=view.hear,
                asked_to_stop=view.interrupts.asked,
                initializer=partial(output.hear_library_again, settings),
            )
    except UnrecordableFolderError as error:
        raise CommandError(str(error)) from None
    except (ManifestError, OSError):
        if view.report is not None and view.report.files:
            _tell(settings, view.report)  # what landed before is kept, and nobody else will say so
        raise
    return _end(settings, report)


def _end(settings: Settings, report: ingest.IngestReport) -> int:
    """Say what came of the run; gives its exit code."""
    _tell(settings, report)
    if report.interrupted:
        output.remark(settings, "interrupted; what is counted above is registered")
        return INTERRUPTED
    return 1 if report.failures else 0


def _listed(
    paths: Sequence[str], index: str | None, etag: str | None, last_modified: str | None, moment: str | None
) -> list[ListedFile]:
    """The files of which more is known than where they are: those of an index, or the one that the options are about."""
    if not any((etag, last_modified, moment)):
        if index is None and not paths:
            raise typer.BadParameter("give at least one file or folder, or an --index", param_hint="PATH")
        return [] if index is None else _read_index(index)
    if index is not None or len(paths) != 1 or os.path.isdir(paths[0]):
        raise typer.BadParameter(
            "--etag, --last-modified and --time are about one file: give one, or an --index of several",
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
        raise typer.BadParameter(f"{index}: {error.strerror}", param_hint="--index") from None
    except ingest.IndexFileError as error:
        raise typer.BadParameter(str(error), param_hint="--index") from None


class _View:
    """What is shown of a run while it goes on: failures, with `--verbose` what is skipped, on a terminal a bar."""

    def __init__(self, settings: Settings) -> None:
        self.report: ingest.IngestReport | None = None
        """Of the run that has begun."""
        self._settings = settings
        self._bar: progress.Bar = progress.NoBar()
        self.interrupts = Interrupts()
        """Counted from the beginning of the run on; before that, Ctrl-C ends what waits for a lock."""
        self._shown = ExitStack()

    def __enter__(self) -> "_View":
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def hear(self, event: ingest.Event) -> None:
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


def _tell(settings: Settings, report: ingest.IngestReport) -> None:
    """Say what came of it, and once what was left out."""
    if kinds := ", ".join(why.counted(report.skipped[why]) for why in SkipReason if report.skipped[why]):
        output.remark(settings, f"skipped: {kinds} (--verbose names each)")
    output.report(settings, _sentence(report), report.as_json())


def _sentence(report: ingest.IngestReport) -> str:
    """The summary in one line."""
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in report.verdicts.items())
    return (
        f"{counts}, {len(report.failures):,} failed, {sum(report.skipped.values()):,} skipped; "
        f"{output.human_bytes(report.bytes)} in {report.seconds:.1f} s ({report.files / report.seconds:,.0f} files/s)"
    )
