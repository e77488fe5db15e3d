"""`verify`: compare data files with the manifest, in several processes, and report the differences."""

from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer

from manifestlog import audit
from manifestlog.audit import Level, VerifyOptions
from manifestlog.audit.report import sample_size
from manifestlog.cli import durations, target, validators
from manifestlog.cli.invoke import INTERRUPTED
from manifestlog.cli.jobs import JobsOption
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output, progress
from manifestlog.cli.ui.verify_report import Report
from manifestlog.workers.interrupts import Interrupts


def _checked_sample(value: str | None) -> str | None:
    if value is not None and not sample_size(value, 1):
        raise typer.BadParameter(f"{value!r} must be a number of files above 0, or a percentage up to 100%")
    return value


_RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        callback=validators.there,
        help="Base directory for relative paths [default: the manifest's root_dir].",
    ),
]
_FormerOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="OLD",
        callback=validators.filled,
        help="With --root: look for absolute paths below OLD in --root instead [default: the manifest's root_dir].",
    ),
]
_UntrackedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--untracked",
        "--extra",
        metavar="DIR",
        callback=validators.all_there,
        help="Also report files in this directory that no record names. Repeatable.",
    ),
]
_JournalOption = Annotated[
    str | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        callback=validators.filled,
        help="File with the time at which each file was verified [default: beside the manifest; for a database, in ~/.cache/manifestlog].",
    ),
]


def verify(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    level: Annotated[
        Level, typer.Option("--level", help="What to compare: presence, size, or full content.")
    ] = Level.FULL,
    jobs: JobsOption = None,
    max_duration: Annotated[
        str | None,
        typer.Option(
            "--max-duration", metavar="DURATION", help="Start no file after this time, in seconds or as 30m, 2h."
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="N|P%",
            callback=_checked_sample,
            help="Verify only N files, or P percent, chosen at random.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Random seed, to repeat a sample.", show_default=False)
    ] = None,
    root: _RootOption = None,
    former: _FormerOption = None,
    untracked: _UntrackedOption = None,
    journal: _JournalOption = None,
) -> int:
    """Verify data files against the manifest.

    Starts with files that were never verified, then those verified longest ago. The next run continues after an interrupted one (--max-duration,
    Ctrl-C). Writes nothing to the manifest. Exits with 1 if a file is missing, changed or unreadable.
    """
    if former is not None and root is None:
        raise typer.BadParameter("requires --root", param_hint="--from")
    wanted = VerifyOptions(
        level=level,
        max_duration_s=durations.duration(max_duration, "--max-duration"),
        sample=sample,
        seed=seed,
        root=root or None,
        former=former or None,
        untracked=tuple(untracked or ()),
        journal=journal,
    )
    return _run(settings, target.locate(settings, manifest), wanted, jobs)


def _run(settings: Settings, path: str, wanted: VerifyOptions, jobs: int | None) -> int:
    view = _View(settings)
    with view:
        report = audit.run(
            path,
            wanted,
            jobs=jobs,
            options=settings.options(),
            keep_findings=False,
            on_event=view.show,
            asked_to_stop=view.interrupts.asked,
            initializer=partial(output.configure_worker_logging, settings),
        )
    if report.journal_error is not None:
        output.notice(settings, f"{report.journal_error}; the next run will verify these files again")
    if report.interrupted:
        output.notice(settings, "interrupted; the next run continues with the remaining files")
        return INTERRUPTED
    return 1 if report.failed else 0


class _View:
    """Show a run: findings, a progress bar, and the summary, also after an error."""

    def __init__(self, settings: Settings) -> None:
        self.interrupts = Interrupts()
        """Counts Ctrl-C once the run has started. Before that, Ctrl-C ends a wait for a lock."""
        self._settings = settings
        self._output = Report(settings)
        self._bar: progress.Bar = progress.NoBar()
        self._shown = ExitStack()

    def __enter__(self) -> "_View":
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def show(self, event: audit.Event) -> None:
        match event:
            case audit.Progress():
                self._bar.advance(event.bytes_read)
            case audit.FileFinding():
                self._output.found(event)
            case audit.WorkersStarted():
                self._show_bar(event)
            case audit.Began():
                self._begin(event.manifest, event.report)

    def _begin(self, manifest: str, report: audit.AuditReport) -> None:
        if report.seed is not None:
            chosen = f"{report.planned:,} of {report.files:,} files, chosen with --seed {report.seed}"
            output.notice(self._settings, chosen)
        self._output.begin(manifest)
        self._level = report.level
        self._shown.callback(self._output.end, report)
        self._shown.enter_context(self.interrupts)

    def _show_bar(self, event: audit.WorkersStarted) -> None:
        if self._level is Level.FULL:  # the other levels finish too fast for a bar
            self._bar = self._shown.enter_context(progress.shown(self._settings, event.total_bytes))
