"""`extract`: fetch the sources of a configuration, in several processes that share the manifest."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifestlog import names
from manifestlog.cli import startup
from manifestlog.cli.invoke import INTERRUPTED, CommandError
from manifestlog.cli.keeping import ConfiguredHistoryOption
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import extract_view, output
from manifestlog.cli.verbs.init import fresh_metadata
from manifestlog.errors import ManifestError, ManifestNotFoundError
from manifestlog.managers import DownloadManifestManager
from manifestlog.model import roots
from manifestlog.model.url_paths import UrlPath
from manifestlog.names import SUFFIX
from manifestlog.workers.interrupts import Interrupts

if TYPE_CHECKING:
    from manifestlog.extract.config.configuration import ExtractConfig
    from manifestlog.extract.fetchers.dispatch import RemoteFetcher
    from manifestlog.extract.report import Plan, RunReport


_Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="PATTERN",
        help="Only sources whose source_id or dataset/source_id matches, such as 'sys*'. Repeatable.",
        show_default=False,
    ),
]
_Day = Annotated[
    str | None,
    typer.Option(
        "--day",
        metavar="DAY",
        help="Day for ${DAY} and {date:…}: 2024-05-01, today or yesterday [default: today].",
        show_default=False,
    ),
]
_Force = Annotated[bool, typer.Option("--force", help="Fetch unchanged sources too, with unconditional requests.")]

_FailStale = Annotated[
    bool, typer.Option("--fail-stale", help="Exit with 1 if a source has not answered within its stale_after.")
]
_Connections = Annotated[
    int | None,
    typer.Option(
        "--connections",
        metavar="N",
        min=1,
        max=1024,
        help="Transfers at once, in all workers together [default: as configured].",
        show_default=False,
    ),
]


def extract(
    settings: Settings,
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="Configuration file, .json or .toml.", show_default=False),
    ],
    *,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            max=1024,
            help="Worker processes [default: as configured].",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be fetched and why; fetch and write nothing.")
    ] = False,
    only: _Only = None,
    force: _Force = False,
    day: _Day = None,
    fail_stale: _FailStale = False,
    keep: ConfiguredHistoryOption = None,
    connections: _Connections = None,
) -> int:
    """Fetch changed sources and register them.

    Asks every source whether it has changed since it was recorded. Fetches and hashes each changed source, stores each
    content once, and registers it. Two runs may overlap: only one of them fetches a source. The configuration names the
    manifest; --dir is ignored. Exits with 1 if a source failed.
    """
    with startup.loading():
        # Only this verb needs them, and they are slow to import.
        from manifestlog.extract.config.configuration import load_config  # noqa: PLC0415
        from manifestlog.extract.fetchers.dispatch import RemoteFetcher  # noqa: PLC0415

        found = load_config(config, os.environ, day=day)
    if given := {name: n for name, n in (("jobs", jobs), ("connections", connections)) if n is not None}:
        found = found.model_copy(update={"defaults": found.defaults.model_copy(update=given)})
    if keep is not None:
        found = found.model_copy(update={"history": keep})
    if fail_stale and not any([found.defaults.stale_after, *(source.stale_after for source in found.sources)]):
        message = f"no source has a stale_after; expected one in {config}, in defaults or in a source"
        raise typer.BadParameter(message, param_hint="--fail-stale")
    found = _chosen(found, only or [], force)
    fetcher = RemoteFetcher(found.defaults)
    with startup.loading():
        for source in found.sources:
            fetcher.check(source)  # before any file is created
    if not _is_remote(found) and found.data_dir.exists() and not found.data_dir.is_dir():
        raise CommandError(f"{found.data_dir}: not a directory; name a directory as data_dir in {config}")
    return _plan(settings, found, fetcher) if dry_run else _run(settings, found, fetcher, fail_stale)


def _chosen(config: "ExtractConfig", only: Sequence[str], force: bool) -> "ExtractConfig":
    """Return the configuration with the sources that `--only` names, unconditional with `--force`."""
    from manifestlog.extract.config.source import Conditions  # noqa: PLC0415

    labels = [(source.source_id, f"{source.dataset}/{source.source_id}") for source in config.sources]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for pair in labels for name in pair):
            message = f"{pattern!r} matches no source; expected a source_id, a dataset/source_id, or a pattern"
            raise typer.BadParameter(message, param_hint="--only")
    wanted = [any(fnmatchcase(name, pattern) for name in pair for pattern in only) or not only for pair in labels]
    sources = tuple(source for source, is_wanted in zip(config.sources, wanted, strict=True) if is_wanted)
    if force:
        sources = tuple(source.model_copy(update={"conditions": Conditions.NEVER}) for source in sources)
    return config.model_copy(update={"sources": sources})


def _run(settings: Settings, config: "ExtractConfig", fetcher: "RemoteFetcher", fail_stale: bool) -> int:
    from manifestlog.extract.orchestrator import PipelineOrchestrator  # noqa: PLC0415

    with _open(settings, config) as manifest, Interrupts() as interrupts, extract_view.shown(settings, config) as view:
        orchestrator = PipelineOrchestrator(
            manifest,
            fetcher,
            data_dir=config.data_dir,
            defaults=config.defaults,
            on_event=view.show,
            shows_progress=view.shows_progress,
            secrets=config.from_environment,
            initializer=partial(output.configure_logging_if_spawned, settings),
        )
        try:
            report = orchestrator.run(config.sources, asked_to_stop=interrupts.asked)
        except ManifestError:
            if orchestrator.report.outcomes:
                _report(settings, orchestrator.report)  # sources registered before the error are kept
            raise
    _report(settings, report)
    if report.interrupted:
        finished = f"{len(report.outcomes):,} of {len(config.sources):,} sources are finished"
        output.notice(settings, f"interrupted: {finished}; the next run resumes the rest, including partial downloads")
        return INTERRUPTED
    return 1 if report.failures or (fail_stale and report.stale) else 0


def _open(settings: Settings, config: "ExtractConfig") -> DownloadManifestManager:
    path = _path(config)
    options = settings.options(config.history)
    try:
        with startup.loading(), DownloadManifestManager(path, options=options, read_only=True) as found:
            root = found.root
            metadata = found.metadata.model_copy(update={"etl_version": config.etl_version})
        if not _is_remote(config) and not config.data_dir.is_relative_to(root):
            metadata.root_dir = Path(_root_dir(config))
    except ManifestNotFoundError:
        from manifestlog.extract.part_file import make_directory  # noqa: PLC0415

        make_directory(path.parent)
        metadata = fresh_metadata(str(path), etl_version=config.etl_version, root_dir=_root_dir(config))
    return DownloadManifestManager(path, metadata, options=options)


def _root_dir(config: "ExtractConfig") -> str:
    """Return the root for the manifest: the directory that holds both it and the data, so that both can move together."""
    if _is_remote(config):
        return os.curdir
    data_dir = os.path.normpath(config.data_dir)
    return roots.shared(names.resolve(_path(config)).directory, data_dir, os.path.realpath(data_dir))


def _is_remote(config: "ExtractConfig") -> bool:
    return isinstance(config.data_dir, UrlPath)


def _path(config: "ExtractConfig") -> Path:
    return config.manifests_dir / f"{config.manifest}{SUFFIX}"


def _report(settings: Settings, report: "RunReport") -> None:
    for stale in report.stale:
        output.error(str(stale))
    if settings.as_json:
        output.document(report.as_json())
    elif not settings.quiet:
        counts = [(result.value, f"{count:,}") for result, count in report.counts.items()]
        output.table(("result", "sources"), counts, numbers=("sources",))
        fetched, saved = output.human_bytes(report.bytes_fetched), output.human_bytes(report.bytes_saved)
        output.line(f"{fetched} fetched, {saved} saved by not fetching, in {output.human_seconds(report.seconds)}")


def _plan(settings: Settings, config: "ExtractConfig", fetcher: "RemoteFetcher") -> int:
    from manifestlog.extract.orchestrator import plan_all  # noqa: PLC0415

    manifest = None
    try:
        manifest = DownloadManifestManager(_path(config), options=settings.options(), read_only=True)
    except ManifestNotFoundError:
        output.notice(settings, f"{_path(config)}: no such manifest yet; a run would create it")
    try:
        plans = list(
            plan_all(
                manifest, config.sources, fetcher=fetcher, defaults=config.defaults, secrets=config.from_environment
            )
        )
    finally:
        if manifest is not None:
            manifest.close()
    _show_plans(settings, plans)
    return 1 if any(plan.action == "failed" for plan in plans) else 0


def _show_plans(settings: Settings, plans: "Sequence[Plan]") -> None:
    if settings.as_json:
        output.document(_plans_as_json(plans))
        return
    rows = [
        (plan.action, plan.source_id, plan.dataset, _size(plan.length_bytes), plan.why)
        for plan in plans
        if plan.action != "unchanged" or settings.verbose
    ]
    if rows:
        output.table(
            ("action", "source", "dataset", "size", "why"),
            rows,
            numbers=("size",),
            words=("source", "dataset", "why"),
            least=("dataset",),
        )
    fetch = [plan for plan in plans if plan.action == "fetch"]
    size = output.human_bytes(sum(plan.length_bytes or 0 for plan in fetch))
    output.line(f"{len(fetch):,} of {len(plans):,} sources would be fetched; known size: {size}")


def _size(count: int | None) -> str:
    return "?" if count is None else output.human_bytes(count)


def _plans_as_json(plans: "Sequence[Plan]") -> dict[str, Any]:
    counts = {action: sum(plan.action == action for plan in plans) for action in ("fetch", "unchanged", "failed")}
    return {"sources": len(plans), **counts, "plans": [plan._asdict() for plan in plans]}
