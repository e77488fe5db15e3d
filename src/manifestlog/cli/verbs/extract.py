"""`extract`: fetch the sources of a configuration, in several processes that share the manifest."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from manifestlog.cli import durations, extraction
from manifestlog.cli.keeping import ConfiguredHistoryOption
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output

if TYPE_CHECKING:
    from manifestlog.extract.config.configuration import ExtractConfig
    from manifestlog.extract.fetchers.dispatch import RemoteFetcher

_Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="PATTERN",
        help="Only sources whose source_id or dataset/source_id matches, such as 'sys*'. Repeatable.",
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
    day: durations.DayOption = None,
    fail_stale: _FailStale = False,
    keep: ConfiguredHistoryOption = None,
    connections: _Connections = None,
) -> int:
    """Fetch changed sources and register them.

    Asks every source whether it has changed since it was recorded. Fetches and hashes each changed source, stores each
    content once, and registers it. Two runs may overlap: only one of them fetches a source. The configuration names the
    manifest; --dir is ignored. Exits with 1 if a source failed.
    """
    found = extraction.load(config, day=day)
    if given := {name: n for name, n in (("jobs", jobs), ("connections", connections)) if n is not None}:
        found = found.model_copy(update={"defaults": found.defaults.model_copy(update=given)})
    if keep is not None:
        found = found.model_copy(update={"history": keep})
    if fail_stale and not any([found.defaults.stale_after, *(source.stale_after for source in found.sources)]):
        message = f"no source has a stale_after; expected one in {config}, in defaults or in a source"
        raise typer.BadParameter(message, param_hint="--fail-stale")
    found = _chosen(found, only or [], force)
    fetcher = extraction.fetcher_of(found, config)
    if dry_run:
        return _plan(settings, found, fetcher)
    return extraction.run(settings, found, fetcher, fail_stale=fail_stale)


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


def _plan(settings: Settings, config: "ExtractConfig", fetcher: "RemoteFetcher") -> int:
    plans = extraction.plans_of(settings, config, fetcher)
    if settings.as_json:
        output.document(extraction.plans_as_json(plans))
    else:
        extraction.show_plans(settings, plans)
    return 1 if any(plan.action == "failed" for plan in plans) else 0
