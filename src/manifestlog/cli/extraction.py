"""Fetches the sources of a configuration; shared by `extract` and `run`.

Invariants:

- The configuration names the manifest, which is created if it is missing.
- Records that were added before an error are kept, so they are reported.

`run` handles signals. The caller of `fetch` says when to stop. Nothing here needs typer (`fast_path`).
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from manifestlog import names
from manifestlog.cli import startup
from manifestlog.cli.creating import fresh_metadata
from manifestlog.cli.invoke import INTERRUPTED, CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import extract_view, output
from manifestlog.errors import ManifestError, ManifestNotFoundError
from manifestlog.managers import DownloadManifestManager
from manifestlog.model import roots
from manifestlog.model.url_paths import UrlPath
from manifestlog.workers.interrupts import Interrupts

if TYPE_CHECKING:
    from manifestlog.extract.config.configuration import ExtractConfig
    from manifestlog.extract.fetchers.dispatch import RemoteFetcher
    from manifestlog.extract.report import Plan, RunReport


def load(path: str, *, day: str | None = None) -> "ExtractConfig":
    """Return the configuration in a file, which must have sources. Raises `ConfigError`."""
    with startup.loading():
        from manifestlog.extract.config.configuration import config_error, load_config  # noqa: PLC0415 -- slow to import

        found = load_config(path, os.environ, day=day)
    if not found.sources:
        raise config_error(path, [(("sources",), "the key is missing; add it, or run the stages: `manifestlog run`")])
    refuse_unknown_schemes(found, path)
    return found


def refuse_unknown_schemes(config: "ExtractConfig", path: str) -> None:
    """Raise `ConfigError` for a source with a scheme that no fetcher knows."""
    with startup.loading():
        from manifestlog.extract.config.configuration import config_error  # noqa: PLC0415 -- slow to import
        from manifestlog.extract.fetchers.dispatch import unknown_scheme  # noqa: PLC0415 -- slow to import

        unknown = [(number, unknown_scheme(source.url)) for number, source in enumerate(config.sources)]
    advice = "expected http, https, or one that fsspec knows, such as s3, sftp or file; correct it"
    if problems := [(("sources", number, "url"), f"unknown scheme {one}; {advice}") for number, one in unknown if one]:
        raise config_error(path, problems)


def fetch_all(settings: Settings, path: str) -> int:
    """Fetch all sources of a configuration, show what came of it, and return the exit code."""
    found = load(path)
    return run(settings, found, fetcher_of(found, path))


def fetcher_of(config: "ExtractConfig", path: str) -> "RemoteFetcher":
    """Return the fetcher for these sources. Raises an error if one cannot be fetched; creates no file."""
    with startup.loading():
        from manifestlog.extract.fetchers.dispatch import RemoteFetcher  # noqa: PLC0415 -- slow to import

        fetcher = RemoteFetcher(config.defaults)
        for source in {urlsplit(source.url).scheme: source for source in config.sources}.values():
            fetcher.check(source)
    if not is_remote(config) and config.data_dir.exists() and not config.data_dir.is_dir():
        raise CommandError(f"{config.data_dir}: not a directory; name a directory as data_dir in {path}")
    return fetcher


def run(settings: Settings, config: "ExtractConfig", fetcher: "RemoteFetcher", *, fail_stale: bool = False) -> int:
    """Fetch and register what has changed, until Ctrl-C or SIGTERM; show what came of it, and return the exit code."""
    show = partial(show_report, settings)
    with Interrupts() as interrupts:
        report = fetch(settings, config, fetcher, interrupts.asked, show)
    show(report)
    if report.interrupted:
        finished = f"{len(report.outcomes):,} of {len(config.sources):,} sources are finished"
        output.notice(settings, f"interrupted: {finished}; the next run resumes the rest, including partial downloads")
        return INTERRUPTED
    return 1 if report.failures or (fail_stale and report.stale) else 0


def fetch(
    settings: Settings,
    config: "ExtractConfig",
    fetcher: "RemoteFetcher",
    asked_to_stop: Callable[[], int],
    show_partial: "Callable[[RunReport], None]",
) -> "RunReport":
    """Fetch and register what has changed, and show it meanwhile. Before an error, `show_partial` gets what was done."""
    from manifestlog.extract.orchestrator import PipelineOrchestrator  # noqa: PLC0415 -- slow to import

    with _open(settings, config) as manifest, extract_view.shown(settings, config) as view:
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
            return orchestrator.run(config.sources, asked_to_stop=asked_to_stop)
        except ManifestError:
            if orchestrator.report.outcomes:
                show_partial(orchestrator.report)  # sources registered before the error are kept
            raise


def _open(settings: Settings, config: "ExtractConfig") -> DownloadManifestManager:
    path = config.manifest_location
    options = settings.options(config.history)
    try:
        with startup.loading(), DownloadManifestManager(path, options=options, read_only=True) as found:
            root = found.root
            metadata = found.metadata.model_copy(update={"etl_version": config.etl_version})
        if not is_remote(config) and not config.data_dir.is_relative_to(root):
            metadata.root_dir = Path(_root_dir(config))
    except ManifestNotFoundError:
        from manifestlog.extract.writing_files import make_directory  # noqa: PLC0415

        if isinstance(config.manifests_dir, Path):
            make_directory(config.manifests_dir)
        metadata = fresh_metadata(path, etl_version=config.etl_version, root_dir=_root_dir(config))
    return DownloadManifestManager(path, metadata, options=options)


def _root_dir(config: "ExtractConfig") -> str:
    """Return the root for the manifest: the directory that holds both it and the data, so that both can move together.

    That of a manifest in a database is the data directory, which every host has under the same path.
    """
    if is_remote(config):
        return os.curdir
    data_dir = os.path.normpath(config.data_dir)
    if not isinstance(config.manifests_dir, Path):
        return data_dir
    return roots.shared(names.resolve(config.manifest_location).directory, data_dir, os.path.realpath(data_dir))


def is_remote(config: "ExtractConfig") -> bool:
    """Return whether the data files go to an object store."""
    return isinstance(config.data_dir, UrlPath)


def show_report(settings: Settings, report: "RunReport") -> None:
    """Show what a run came to: as JSON, or as a table."""
    show_stale(report)
    if settings.as_json:
        output.document(report.as_json())
    elif not settings.quiet:
        counts = [(result.value, f"{count:,}") for result, count in report.counts.items()]
        output.table(("result", "sources"), counts, numbers=("sources",))
        fetched, saved = output.human_bytes(report.bytes_fetched), output.human_bytes(report.bytes_saved)
        output.line(f"{fetched} fetched, {saved} saved by not fetching, in {output.human_seconds(report.seconds)}")


def show_stale(report: "RunReport") -> None:
    """Name every source that was not confirmed in its time."""
    for stale in report.stale:
        output.error(str(stale))


def plans_of(settings: Settings, config: "ExtractConfig", fetcher: "RemoteFetcher") -> "list[Plan]":
    """Return what a run would do with each source; nothing is written."""
    from manifestlog.extract.orchestrator import plan_all  # noqa: PLC0415 -- slow to import

    manifest = None
    try:
        manifest = DownloadManifestManager(config.manifest_location, options=settings.options(), read_only=True)
    except ManifestNotFoundError:
        output.notice(settings, f"{config.manifest_location}: no such manifest yet; a run would create it")
    try:
        return list(
            plan_all(
                manifest, config.sources, fetcher=fetcher, defaults=config.defaults, secrets=config.from_environment
            )
        )
    finally:
        if manifest is not None:
            manifest.close()


def show_plans(settings: Settings, plans: "Sequence[Plan]") -> None:
    """Print a table of what would be fetched, and why."""
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


def plans_as_json(plans: "Sequence[Plan]") -> dict[str, Any]:
    """Return the plans as JSON data."""
    counts = {action: sum(plan.action == action for plan in plans) for action in ("fetch", "unchanged", "failed")}
    return {"sources": len(plans), **counts, "plans": [plan._asdict() for plan in plans]}
