"""`verify`: look at the data files, in several processes, and say which are not what the ledger says."""

import logging
import math
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Annotated, NamedTuple

import typer

from manifestlog import naming
from manifestlog.cli import output, progress, span, target, texts
from manifestlog.cli.call import INTERRUPTED
from manifestlog.cli.jobs import JobsOption, count_of
from manifestlog.cli.looker import Batch, Finding, Job, Tally, work
from manifestlog.cli.settings import Settings
from manifestlog.cli.verify_report import Report, Summary
from manifestlog.cli.walk import Failure, reason
from manifestlog.pool import Interrupts, Pool
from manifestlog.store import Store
from manifestlog.verified import Verified
from manifestlog.verify import FileState, Level, Plan, files_of

_BATCH_FILES_MAX = 256
_BATCH_BYTES_MAX = 16 << 20
_BATCHES_A_WORKER = 8
"""With fewer, some workers would be done long before the others."""
_SEED_BITS = 32
_UNREGISTERED = "unregistered"


class _Wish(NamedTuple):
    """What the command line asks for; `end_s` is of the monotonic clock."""

    level: Level
    jobs: int
    end_s: float
    sample: str | None
    seed: int | None
    root: str | None
    former: str | None
    extra: tuple[str, ...]


def _checked_sample(value: str | None) -> str | None:
    if value is not None and not _sample_size(value, 1):
        raise typer.BadParameter(f"{value!r} is neither a number of files above 0 nor a percentage up to 100%")
    return value


def _sample_size(text: str, files: int) -> int:
    """How many of so many files; 0 for text that says nothing."""
    try:
        if not text.endswith("%"):
            return max(int(text), 0)
        share = float(text[:-1]) / 100
    except ValueError:
        return 0
    return math.ceil(files * share) if 0 < share <= 1 else 0


_RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        callback=texts.filled,
        help="Where relative paths begin [default: the manifest's root_dir].",
    ),
]
_FormerOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="OLD",
        callback=texts.filled,
        help="With --root: absolute paths below OLD are looked for below --root [default: the manifest's root_dir].",
    ),
]
_ExtraOption = Annotated[
    list[str] | None,
    typer.Option(
        "--extra",
        metavar="DIR",
        callback=texts.all_filled,
        help="Also name files in this folder that no record names.",
    ),
]


def verify(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    level: Annotated[
        Level, typer.Option("--level", help="Are they there; and of their size; and of their checksum.")
    ] = Level.FULL,
    jobs: JobsOption = None,
    max_duration: Annotated[
        str | None,
        typer.Option(
            "--max-duration", metavar="SPAN", help="Begin no file after this time: seconds, or a span (30m, 2h)."
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample", metavar="N|P%", callback=_checked_sample, help="Only so many files, chosen at random."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Choose that sample again.", show_default=False)
    ] = None,
    root: _RootOption = None,
    former: _FormerOption = None,
    extra: _ExtraOption = None,
) -> int:
    """Look whether the files are what the ledger says.

    Files that were never verified come first, then those whose verification is the oldest. A run that ends early (--max-duration, Ctrl-C) is gone on with by the next
    one. Nothing is written to the manifest. Exit code 1 when a file is missing, changed or unreadable.
    """
    if former is not None and root is None:
        raise typer.BadParameter("it goes with --root", param_hint="--from")
    end_s = time.monotonic() + (span.duration(max_duration, "--max-duration") or math.inf)
    wish = _Wish(level, count_of(jobs), end_s, sample, seed, root, former, tuple(extra or ()))
    paths = naming.resolve(target.locate(settings, manifest))
    store = Store(paths, settings.options(), read_only=True)
    with closing(store.session), Verified(paths) as verified:
        ledger = _Ledger(store, wish)
        run = _Run(settings, wish, ledger.plan(wish, verified), verified)
        run.report.begin(paths.canonical)
        try:
            interrupted = run.run()
            if wish.extra and not interrupted:
                run.look_for_extra(ledger.paths(), paths)
        finally:
            run.end()
        if verified.why_not is not None:
            why = reason(verified.why_not)
            output.remark(settings, f"{paths.verified}: {why}; the next run will not know of this one")
    if interrupted:
        output.remark(settings, "interrupted; the next run goes on with the files that are left")
        return INTERRUPTED
    return 1 if run.failed else 0


class _Ledger:
    """What the manifest holds."""

    def __init__(self, store: Store, wish: _Wish) -> None:
        self._store = store
        stored = store.root()
        self._root = os.path.abspath(wish.root) if wish.root else stored
        self._former = None
        if wish.root:
            self._former = os.path.abspath(wish.former) if wish.former else stored

    def plan(self, wish: _Wish, verified: Verified) -> Plan:
        frozen, checksums = self._store.frozen()
        plan = Plan(frozen.row, self._root, self._former)
        plan.fill(checksums, lambda expected: verified.when(expected, wish.level))
        verified.forget()
        return plan

    def paths(self) -> Iterator[str]:
        """Every path that a record names, as of now: with what was registered while we looked at files."""
        frozen, checksums = self._store.frozen()
        for checksum in checksums:
            row = frozen.row(checksum)
            assert row is not None
            yield from (expected.path for _, expected in files_of(row, self._root, self._former))


class _Run:
    """One run over the planned files: what came of them."""

    def __init__(self, settings: Settings, wish: _Wish, plan: Plan, verified: Verified) -> None:
        self.report = Report(settings)
        self._settings, self._wish, self._plan, self._verified = settings, wish, plan, verified
        self._total = Tally()
        self._not_looked_into = 0
        self._unregistered: int | None = None
        self._files = len(plan)
        self._seed: int | None = None
        self._bar: progress.Bar = progress.NoBar()
        self._began = time.perf_counter()
        if wish.sample is not None:
            self._draw(wish.sample)

    def _draw(self, sample: str) -> None:
        self._seed = secrets.randbits(_SEED_BITS) if self._wish.seed is None else self._wish.seed
        self._plan.sample(_sample_size(sample, self._files), self._seed)
        output.remark(self._settings, f"{len(self._plan):,} of {self._files:,} files, chosen by --seed {self._seed}")

    def run(self) -> bool:
        """Look at everything; gives whether somebody interrupted it."""
        log_level = logging.INFO if self._settings.verbose else logging.ERROR
        job = Job(self._wish.level, self._wish.end_s, self._settings, log_level)
        with Interrupts() as interrupts:
            with (
                Pool(work, job, self._batches(), self._wish.jobs, name="manifestlog-verify") as pool,
                self._shown() as bar,
            ):
                self._bar = bar
                pool.run(self, interrupts.asked)
            return interrupts.count > 0

    def _shown(self) -> AbstractContextManager[progress.Bar]:
        if self._wish.level is not Level.FULL:
            return nullcontext(progress.NoBar())  # it would be gone before anybody has seen it
        return progress.shown(self._settings, lambda _: self._plan.total_bytes)

    def _batches(self) -> Iterator[Batch]:
        most = max(1, min(_BATCH_FILES_MAX, len(self._plan) // (self._wish.jobs * _BATCHES_A_WORKER)))
        batch: Batch = []
        waiting = 0
        for expected in self._plan:
            if time.monotonic() >= self._wish.end_s:
                return
            batch.append(expected)
            waiting += expected.size
            if len(batch) >= most or (waiting >= _BATCH_BYTES_MAX and self._wish.level is Level.FULL):
                yield batch
                batch, waiting = [], 0
        if batch:
            yield batch

    def look_for_extra(self, paths: Iterator[str], own: naming.ManifestPaths) -> None:
        """Name the files that no record names."""
        from manifestlog.cli.extra import Known, unregistered  # noqa: PLC0415 -- knows `extract`, which is slow to import

        self._unregistered = 0
        for one in unregistered(self._wish.extra, Known(paths), own):
            if isinstance(one, Failure):
                self._not_looked_into += 1
                self.report.found(Finding(FileState.UNREADABLE.value, one.path, None, one.reason))
            else:
                self._unregistered += 1
                self.report.found(Finding(_UNREGISTERED, one, None, "no record names it"))

    # -- what the pool tells ---------------------------------------------------------------------------------------

    def heard(self, news: int) -> None:
        """So many bytes more were looked at."""
        self._bar.advance(news)

    def done(self, result: Tally) -> None:
        """A batch is done, or as much of it as there was time for."""
        self._verified.keep(result.lines)
        self._total.bytes += result.bytes
        for state, number in result.states.items():
            self._total.states[state] += number
        for finding in result.findings:
            self.report.found(finding)

    def lost(self, task: Batch, how: str) -> bool:
        """A worker died: its files are told, and not given to another one that might die of them, too."""
        self._total.states[FileState.UNREADABLE] += len(task)
        for file in task:
            why = f"not looked at: the worker that had it {how}; run it again"
            self.report.found(Finding(FileState.UNREADABLE.value, file.path, file.checksum, why))
        return False

    # -- what is reported ------------------------------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        """Whether a file is not what the ledger says, or something could not be looked at."""
        return self._total.files > self._total.states[FileState.OK] or self._not_looked_into > 0

    def end(self) -> None:
        """Say what came of it."""
        self.report.end(
            Summary(
                self._wish.level,
                self._files,
                self._total,
                self._unregistered,
                self._plan.superseded,
                len(self._plan) - self._total.files,
                None if self._seed is None else len(self._plan),
                self._seed,
                time.perf_counter() - self._began,
            )
        )
