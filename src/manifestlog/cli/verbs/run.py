"""`run`: fetch the sources of a configuration, then run its stages on new records."""

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifestlog.cli import configured, durations, extraction, validators
from manifestlog.cli.configured import Configured
from manifestlog.cli.invoke import INTERRUPTED
from manifestlog.cli.settings import Settings
from manifestlog.cli.stage_passes import Passes
from manifestlog.cli.ui import output, stage_view
from manifestlog.workers.interrupts import Interrupts

if TYPE_CHECKING:
    from manifestlog.extract.config.configuration import ExtractConfig
    from manifestlog.extract.report import RunReport
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.report import ItemRef, StageEvent, StageReport

EXTRACT = "extract"
_COLUMNS = ("stage", "items", "done", "failed", "claimed", "time", "results")
_NUMBERS = ("items", "done", "failed", "claimed", "time")
_LEAST = ("claimed", "time", "done")


@dataclass
class _Chosen:
    """What a run is to do."""

    found: Configured
    stages: "list[Stage]"
    extracts: bool
    only: str | None = None
    retry_failed: bool = False
    on_event: "Callable[[StageEvent], None] | None" = None


@dataclass
class _Result:
    """What a run came to."""

    chosen: _Chosen
    began: float = field(default_factory=time.monotonic)
    extracted: "RunReport | None" = None
    staged: "list[StageReport]" = field(default_factory=list)


def run(
    settings: Settings,
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="Configuration file, .json or .toml.", show_default=False)
    ],
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STAGE", help="Stages to run, or extract [default: extract and all stages].", show_default=False
        ),
    ] = None,
    *,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", min=1, max=1024, help="Worker processes of each step [default: as configured].", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; do and write nothing.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep running and process new records, until SIGTERM or Ctrl-C.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="PATTERN", help="Only items whose source_id, dataset or path matches, such as 'bodies*'.", show_default=False),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try inputs that a stage has given up (give_up_after).")
    ] = False,
    day: durations.DayOption = None,
    lineage: Annotated[
        str | None,
        typer.Option("--openlineage", metavar="FILE|URL", callback=validators.filled, help="Also send the runs of stages to OpenLineage: append them to a file, or post them to a server.", show_default=False),
    ] = None,
) -> int:  # fmt: skip
    """Fetch changed sources, then run the stages on what is new.

    Each stage processes the records of its upstream manifest that it has not processed yet, and records the results in
    its own manifest. Two runs may overlap: only one of them works on an item. The configuration names the manifests;
    --dir is ignored. Exits with 1 if anything failed.
    """
    found = configured.load(config, day=day)
    chosen = _choose(found, stages or [], jobs)
    if chosen.extracts:
        extraction.refuse_unknown_schemes(found.sources, found.path)
    chosen.only, chosen.retry_failed = only, retry_failed
    _import_from(Path(config))
    _check(chosen.stages)
    if dry_run:
        return _plan(settings, chosen)
    with _lineage(chosen, lineage) as chosen.on_event:
        return _run(settings, chosen, watch=watch)


def _lineage(chosen: _Chosen, target: str | None) -> "AbstractContextManager[Callable[[StageEvent], None] | None]":
    """Return what receives the events of stages for OpenLineage, if that is wanted."""
    if target is None:
        return nullcontext()
    from manifestlog.stages.openlineage import OpenLineage  # noqa: PLC0415 -- slow to import, and of an extra

    return OpenLineage(target, chosen.stages, chosen.found.directory)


def _choose(found: Configured, names: Sequence[str], jobs: int | None) -> _Chosen:
    known = (
        [EXTRACT, *(stage.name for stage in found.stages)] if found.sources.sources else [s.name for s in found.stages]
    )
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            one = f"{close[0]}, or another" if close else "one"
            message = f"{name!r} is no stage of {found.path}; expected {one} of {', '.join(known)}"
            raise typer.BadParameter(message, param_hint="STAGE")
    stages = [stage for stage in found.stages if stage.name in names or not names]
    extracts = bool(found.sources.sources) and (EXTRACT in names or not names)
    if jobs is not None:
        stages = [replace(stage, jobs=jobs) for stage in stages]
        defaults = found.sources.defaults.model_copy(update={"jobs": jobs})
        found = found._replace(sources=found.sources.model_copy(update={"defaults": defaults}))
    return _Chosen(found, stages, extracts)


def _import_from(config: Path) -> None:
    """Find the functions of stages beside the configuration first."""
    sys.path.insert(0, str(config.resolve().parent))


def _check(stages: "Sequence[Stage]") -> None:
    """Raise `StageError` if a stage cannot run, before anything is fetched."""
    if stages:
        from manifestlog.stages import opening  # noqa: PLC0415 -- slow to import

        for stage in stages:
            opening.check(stage)


def _sources(chosen: _Chosen) -> "ExtractConfig":
    """Return the configuration with the sources that `--only` names."""
    config = chosen.found.sources
    if (pattern := chosen.only) is None:
        return config
    sources = [one for one in config.sources if any(fnmatchcase(n, pattern) for n in (one.source_id, one.dataset))]
    return config.model_copy(update={"sources": tuple(sources)})


def _run(settings: Settings, chosen: _Chosen, *, watch: bool) -> int:
    result = _Result(chosen)
    with Interrupts() as interrupts:
        try:
            _extract(settings, result, interrupts)
            if watch and result.extracted is not None:
                _stream(settings, {"extract": result.extracted.as_json()})
            _run_stages(settings, result, interrupts, watch=watch)
        finally:
            if not (watch and settings.as_json):
                _report(settings, result)
    if interrupts.asked():
        if watch and interrupts.heard[0] == signal.SIGTERM:
            return 0
        output.notice(settings, "interrupted: the next run does the rest")
        return INTERRUPTED
    return int(_has_failed(result))


def _has_failed(result: _Result) -> bool:
    return bool(result.extracted and result.extracted.failures) or not all(one.is_ok for one in result.staged)


def _extract(settings: Settings, result: _Result, interrupts: Interrupts) -> None:
    def keep(report: "RunReport") -> None:
        result.extracted = report

    config = _sources(result.chosen)
    if result.chosen.extracts and config.sources:
        fetcher = extraction.fetcher_of(config, result.chosen.found.path)
        keep(extraction.fetch(settings, config, fetcher, interrupts.asked, keep))


def _run_stages(settings: Settings, result: _Result, interrupts: Interrupts, *, watch: bool) -> None:
    found = result.chosen.found
    with stage_view.shown(settings) as view:
        passes = Passes(
            settings,
            found.directory,
            result.chosen.stages,
            frozenset(configured.written(found)),
            view,
            interrupts.asked,
            only=result.chosen.only,
            retry_failed=result.chosen.retry_failed,
            history=found.sources.history,
            on_event=result.chosen.on_event,
        )
        try:
            if watch:
                passes.watch(lambda report: _stream(settings, report.as_json()))
            else:
                passes.run()
        finally:
            result.staged = list(passes.reports.values())


def _stream(settings: Settings, value: dict[str, Any]) -> None:
    """Print what a pass of `--watch --json` came to, as a line. If the pipe is closed, the run continues."""
    if settings.as_json:
        output.line(output.json_text(json.dumps(value, ensure_ascii=False)))
        with suppress(BrokenPipeError):
            output.flush()


# -- reports -----------------------------------------------------------------------------------------------------------


def _report(settings: Settings, result: _Result) -> None:
    if result.extracted is not None:
        extraction.show_stale(result.extracted)
    if settings.as_json:
        output.document(_as_json(result))
        return
    if settings.quiet:
        return
    if result.extracted is not None:
        extraction.show_report(settings, result.extracted)
    if result.staged:
        output.table(_COLUMNS, map(_cells, result.staged), numbers=_NUMBERS, least=_LEAST)


def _cells(report: "StageReport") -> tuple[str, ...]:
    from manifestlog.stages.report import Result  # noqa: PLC0415 -- loaded by now, and by this verb only

    counts = [f"{count:,} {word.replace('_', ' ')}" for word in Result if (count := report.counts[word])]
    rows = [f"rows: {report.rows:,}"] if report.rows else []
    return (
        report.stage,
        f"{report.counts.total():,}",
        f"{report.done:,}",
        f"{report.counts[Result.FAILED]:,}",
        f"{report.counts[Result.CLAIMED]:,}",
        output.human_seconds(report.seconds),
        ", ".join(counts + rows) or "nothing is pending",
    )


def _as_json(result: _Result) -> dict[str, Any]:
    return {
        "extract": None if result.extracted is None else result.extracted.as_json(),
        "stages": [report.as_json() for report in result.staged],
        "seconds": round(time.monotonic() - result.began, 3),
    }


# -- dry run -----------------------------------------------------------------------------------------------------------


def _plan(settings: Settings, chosen: _Chosen) -> int:
    config = _sources(chosen)
    plans = None
    if chosen.extracts and config.sources:
        plans = extraction.plans_of(settings, config, extraction.fetcher_of(config, chosen.found.path))
    items = [
        (stage, list(configured.pending(chosen.found, stage, only=chosen.only, retry_failed=chosen.retry_failed)))
        for stage in chosen.stages
    ]
    if settings.as_json:
        extracted = None if plans is None else extraction.plans_as_json(plans)
        output.document({"extract": extracted, "stages": [_plan_as_json(stage, some) for stage, some in items]})
    else:
        if plans is not None:
            extraction.show_plans(settings, plans)
        _show_items(items)
    return int(any(plan.action == "failed" for plan in plans or ()))


def _show_items(items: "Sequence[tuple[Stage, Sequence[ItemRef]]]") -> None:
    rows = [(stage.name, ref.source_id, ref.dataset, ref.file_path) for stage, some in items for ref in some]
    if rows:
        output.table(("stage", "source", "dataset", "path"), rows, words=("source",), least=("dataset",), whole="path")
    for stage, some in items:
        output.line(f"{stage.name}: {len(some):,} pending now")


def _plan_as_json(stage: "Stage", items: "Sequence[ItemRef]") -> dict[str, Any]:
    return {"stage": stage.name, "pending": len(items), "items": [item._asdict() for item in items]}
