"""`status`: print one row per manifest with its records, log and state, and on request one line about all of them."""

import os
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer

from manifestlog import maintenance
from manifestlog.cli import configured, durations, target, working
from manifestlog.cli.invoke import worst
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.cli.working import Work
from manifestlog.errors import DamagedManifestError, ManifestError, ManifestNotFoundError, NotAManifestError
from manifestlog.maintenance import ManifestStatus
from manifestlog.model.rows import utc_text
from manifestlog.names import files_of, is_url, location_in, name_of

_COLUMNS = ("manifest", "records", "canonical", "log", "segments", "history", "updated", "newest", "failed", "state")
_COLUMNS_OF_STAGES = ("manifest", "records", "pending", *_COLUMNS[2:])
"""The columns if what is pending is known of a manifest."""
_COLUMNS_OF_STEPS = ("step", "manifest", "records", "pending", "failed", "newest", "updated", "state")
"""The columns with `--config`."""
_COLUMNS_THEN = ("manifest", "records", "updated", "newest", "failed", "state")
"""The columns with `--as-of`: nobody knows how large the files were then."""
_SIZES = ("canonical_bytes", "log_bytes", "segments", "history_bytes")
_WORDS = ("manifest", "state")
_LEAST = ("history", "failed", "segments", "canonical", "updated", "newest", "log")
"""Columns that a narrow terminal drops, in this order."""
_NUMBERS = ("records", "canonical", "log", "segments", "history", "newest", "failed", "pending")


class _Status(NamedTuple):
    """A row. Sizes are in bytes; `total_records` and `ts_updated` are None if the manifest cannot be opened."""

    name: str
    path: str
    total_records: int | None
    canonical_bytes: int
    log_bytes: int
    segments: int
    history_bytes: int
    ts_updated: str | None
    state: str
    reason: str | None = None
    exit_code: int = 0
    from_the_future: int | None = None
    """Number of observations with a time in the future; None if the manifest cannot be opened."""
    failed_sources: int | None = None
    """Number of sources that are failing, or with `--config` of a stage's pending items; None if that cannot be read."""
    newest: str | None = None
    """When the newest record was downloaded; None if there is none."""
    age_s: float | None = None
    """How long ago that was."""
    stale: bool | None = None
    """Whether that is longer ago than `--max-age`; None without it, and if the manifest cannot be opened."""
    step: str | None = None
    """`extract` or the stage that writes it, with `--config`; None for what other programs write."""
    pending: int | None = None
    """How many items that stage has still to do, without `--config` as it last ran; None if that is not known."""
    working: tuple[Work, ...] = ()
    """Who works on its sources or items, as far as that can be seen from here."""
    replica: dict[str, object] | None = None
    """For a replica: its source, as of when it was complete, and how long ago that is; else None."""


_MaxAgeOption = Annotated[
    str | None,
    typer.Option(
        "--max-age",
        metavar="DURATION",
        help="Call a manifest stale if its newest record is older (26h, 7d), and exit with 1 if one is.",
    ),
]
_ExitCodeOption = Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if a source is failing.")]
_ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="CONFIG",
        help="Show the manifests of this configuration's sources and stages, and what is pending.",
        show_default=False,
    ),
]


def status(
    settings: Settings,
    manifests: target.ManifestsArgument = None,
    *,
    max_age: _MaxAgeOption = None,
    fail: _ExitCodeOption = False,
    as_of: durations.AsOfOption = None,
    config: _ConfigOption = None,
) -> int:
    """Show the state of the manifests.

    Shows the named manifests [default: all of the directory]; with --config, in the order of its steps; with --as-of,
    without sizes. Newest: the age of the newest record, by its download time. Pending: how many items the stage of the
    manifest still has to process. Without --config, that is the stage as it last ran, or `-` if no note of that run is
    beside the manifest. Failed: how many sources failed in the last 30 days and have not succeeded since (at most 100);
    `failures` names them. States: ok, to merge (the log holds records that compact would merge), stale, damaged, not a
    manifest. Exits with 12 if a file is damaged or is not a manifest. With --max-age or --exit-code, prints one line
    about the health of the manifests to stderr.
    """
    moment = durations.as_of(as_of, datetime.now(UTC))
    max_age_s = durations.duration(max_age, "--max-age")
    columns: tuple[str, ...] = _COLUMNS if moment is None else _COLUMNS_THEN
    if config is not None:
        if manifests or moment is not None:
            raise typer.BadParameter("cannot be combined with MANIFEST or --as-of", param_hint="--config")
        rows, columns = _steps(settings, configured.load(config), max_age_s), _COLUMNS_OF_STEPS
    else:
        paths = target.locate_all(settings, manifests)
        rows = [_read_status(settings, path, moment, max_age_s) for path in paths]
        if moment is None:
            rows = [row._replace(pending=_pending(row)) for row in rows]
        if any(row.pending is not None for row in rows):
            columns = _COLUMNS_OF_STAGES
    if settings.as_json:
        output.document([_as_json(row, moment) for row in rows])
    elif rows:
        _print_table(rows, columns)
        for line in [line for row in rows for line in working.lines(row.name, row.working)]:
            output.line(output.clean(line))
    for row in rows:
        if row.from_the_future:
            output.error(ahead_of_time(row.path, row.from_the_future))
    if max_age_s is not None or fail:
        return _health(settings, rows, fail=fail)
    if not rows:
        output.notice(settings, target.none_found(settings))
    return worst(row.exit_code for row in rows)


def _pending(row: _Status) -> int | None:
    """Return what is pending for the stage that writes a manifest, as it last ran; None if that is not known."""
    if row.exit_code or is_url(row.path) or not os.path.exists(files_of(row.path).pending):
        return None
    from manifestlog.stages.last_run import pending_count  # noqa: PLC0415 -- slow to import

    return pending_count(row.path)


def _steps(settings: Settings, found: configured.Configured, max_age_s: float | None) -> list[_Status]:
    """Return the state of what each step writes, in their order; before them, that of what other programs write."""
    written = [stage.manifest for stage in found.stages]
    own = found.sources.manifest
    foreign = dict.fromkeys(stage.upstream for stage in found.stages if stage.upstream not in (own, *written))

    def read(name: str, *, is_step: bool = True) -> _Status:
        path = location_in(found.directory, name)
        return _read_status(settings, path, None, max_age_s, may_be_missing=is_step)

    rows = [read(name, is_step=False) for name in foreign]
    if own:
        row = read(own)._replace(step="extract")
        rows.append(row._replace(working=working.on_sources(found)) if working.is_in_files(found) else row)
    for stage in found.stages:
        row = read(stage.manifest)._replace(step=stage.name)
        if (left := configured.left(found, stage)) is not None:
            row = row._replace(pending=left.pending, failed_sources=left.failed)
            row = row._replace(working=working.on_items(found, stage, left.items))
        rows.append(row)
    return [row if row.state != "missing" or row.step is None else _not_yet(row) for row in rows]


def _not_yet(row: _Status) -> _Status:
    """Return the state of a step that has never done anything, which is no error."""
    return row._replace(state="not yet", exit_code=0)


def _health(settings: Settings, rows: list[_Status], *, fail: bool) -> int:
    """Say in one line how the manifests are, and return the exit code."""
    if not rows:
        output.error(target.none_found(settings))
        return 1
    stale = [row.name for row in rows if row.stale]
    failing = sum(row.failed_sources or 0 for row in rows) if fail else 0
    unread = [row.name for row in rows if row.exit_code]
    wrong = [f"stale: {', '.join(stale)}"] if stale else []
    wrong += [f"failing sources: {failing:,}"] if failing else []
    wrong += [f"cannot be read: {', '.join(unread)}"] if unread else []
    if not wrong:
        output.notice(settings, f"healthy manifests: {len(rows):,} of {len(rows):,}")
        return 0
    output.error("; ".join(wrong))
    return worst([1 if stale or failing else 0, *(row.exit_code for row in rows)])


def ahead_of_time(path: str, count: int) -> str:
    """Return the warning that a manifest has observations in the future."""
    many = f"{count:,} observations have" if count > 1 else "1 observation has"
    return f"{path}: {many} a time in the future (a clock was ahead); correct with `manifestlog retime`"


def _read_status(
    settings: Settings, path: str, moment: datetime | None, max_age_s: float | None, *, may_be_missing: bool = False
) -> _Status:
    found = maintenance.status(path, settings.options(), as_of=moment)
    age_s = _age_s(found, moment or datetime.now(UTC))
    stale = None if max_age_s is None or found.error else age_s is None or age_s > max_age_s
    state, reason = ("stale", None) if stale else _state_of(found)
    if state != "failed" and isinstance(found.error, ManifestError) and not (may_be_missing and state == "missing"):
        output.error(output.reason(found.error))
    return _Status(
        name_of(path),
        found.path,
        found.total_records,
        found.canonical_bytes,
        found.log_bytes,
        found.segments,
        found.history_bytes,
        found.ts_updated,
        state,
        reason,
        0 if found.error is None else getattr(found.error, "exit_code", 1),
        found.from_the_future,
        found.failing,
        found.newest,
        age_s,
        stale,
        working=working.of_holders(found.working, found.name),
        replica=_replica(found),
    )


def _replica(found: ManifestStatus) -> dict[str, object] | None:
    state = found.replica
    if state is None:
        return None
    age_s = None if state.age_s is None else round(state.age_s, 1)
    return {"source": state.source, "as_of": state.as_of, "age_s": age_s}


def _age_s(found: ManifestStatus, now: datetime) -> float | None:
    """Return how long ago the newest record was downloaded; None if there is none."""
    if found.newest is None:
        return None
    return round(max(0.0, (now - datetime.fromisoformat(found.newest)).total_seconds()), 3)


def _state_of(found: ManifestStatus) -> tuple[str, str | None]:
    """Return the state, and the reason why the manifest cannot be opened."""
    match found.error:
        case None:
            return "to merge" if found.to_merge else "ok", None
        case ManifestNotFoundError():
            return "missing", None
        case NotAManifestError() as error:
            return "not a manifest", error.shape
        case DamagedManifestError() as error:
            return "damaged", f"{os.path.basename(error.path)} at byte {error.offset}: {error.reason}"
    return "failed", output.reason(found.error)


def _as_json(row: _Status, moment: datetime | None) -> dict[str, object]:
    shown = row._asdict() | {"working": [one._asdict() for one in row.working]}
    del shown["exit_code"], shown["age_s"]  # an age would differ from call to call
    if moment is not None:
        shown = shown | dict.fromkeys(_SIZES) | {"as_of": utc_text(moment)}
    return shown


def _print_table(rows: list[_Status], columns: tuple[str, ...]) -> None:
    cells = [[_cells(row)[name] for name in columns] for row in rows]
    numbers, least = ([name for name in names if name in columns] for names in (_NUMBERS, _LEAST))
    output.table(columns, cells, numbers=numbers, words=_WORDS, least=least)


def _cells(row: _Status) -> dict[str, str]:
    return {
        "manifest": row.name,
        "records": "-" if row.total_records is None else f"{row.total_records:,}",
        "canonical": output.human_bytes(row.canonical_bytes),
        "log": output.human_bytes(row.log_bytes),
        "segments": str(row.segments),
        "history": output.human_bytes(row.history_bytes),
        "updated": output.human_time(row.ts_updated),
        "newest": "-" if row.age_s is None else output.human_age(row.age_s),
        "failed": "-" if row.failed_sources is None else f"{row.failed_sources:,}",
        "step": row.step or "-",
        "pending": "-" if row.pending is None else f"{row.pending:,}",
        "state": _state(row),
    }


def _state(row: _Status) -> str:
    if row.replica is not None:
        age_s = row.replica["age_s"]
        old = "never complete" if age_s is None else f"{age_s} s old"
        return f"{row.state}: replica of {row.replica['source']}, {old}"
    return row.state if row.reason is None else f"{row.state}: {row.reason}"
