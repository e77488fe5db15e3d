"""Maintains manifests from Python: the functions behind the verbs `status`, `check`, `repair` and `doctor`.

Invariants:

- Each function takes a path or URL and needs no open manifest, so it also works on a damaged one.
- A report is plain data, the same for every engine.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog import history, names
from manifestlog.corrections import from_the_future
from manifestlog.engines.protocol import Capability
from manifestlog.engines.registry import driver_for, open_to_read
from manifestlog.engines.reports import ProbeResult, ProbeStatus
from manifestlog.errors import ManifestError
from manifestlog.mirroring import ReplicaState, replica_state
from manifestlog.model.retiming import horizon
from manifestlog.model.writes import future_observations
from manifestlog.names import PathOrUrl
from manifestlog.options import ManifestOptions
from manifestlog.queries import Moment, past_time

if TYPE_CHECKING:
    from collections.abc import Generator

    from manifestlog.engines.protocol import Engine
    from manifestlog.engines.reports import CheckReport, Holder, RepairReport


class ManifestStatus(NamedTuple):
    """The state and size of a manifest, in bytes and records. Counts and times are None if it cannot be opened."""

    name: str
    path: str
    canonical_bytes: int
    log_bytes: int
    segments: int
    history_bytes: int
    total_records: int | None = None
    ts_updated: str | None = None
    from_the_future: int | None = None
    """Number of observations with a time in the future."""
    to_merge: bool = False
    """Whether the log holds records that a compaction would merge."""
    error: ManifestError | OSError | None = None
    """The error that prevents opening it."""
    failing: int | None = None
    """Number of sources that failed in the last 30 days and have not succeeded since, at most 100.

    None if it cannot be opened, and if its history is damaged, which `check` reports.
    """
    newest: str | None = None
    """When the newest record was downloaded, as ISO-8601 text in UTC; times in the future do not count.

    None if it cannot be opened, and if it has no record.
    """
    working: tuple[Holder, ...] = ()
    """The workers of all hosts that are working on its sources or items, if it is in a database."""
    replica: ReplicaState | None = None
    """For a replica: which manifest it follows, and when it was last complete."""


def status(
    manifest: PathOrUrl, options: ManifestOptions | None = None, *, as_of: Moment | None = None
) -> ManifestStatus:
    """Open a manifest read-only and report its size; report the error if it cannot be opened.

    With `as_of`, the records and times are those of that time; the sizes in bytes are always the present ones.
    Raises `ValueError` for a time in the future.
    """
    moment = None if as_of is None else past_time(as_of)
    driver = driver_for(manifest)
    location = driver.locate(os.fspath(manifest))
    replica = replica_state(manifest)
    try:
        engine = driver.open(location, None, options or ManifestOptions(), read_only=True)
    except (ManifestError, OSError) as error:
        found = ManifestStatus(location.name, location.display, *driver.footprint(location), error=error)
        return found._replace(replica=replica)
    with closing(engine):
        log = engine.log_status()
        try:
            asked = engine if moment is None else engine.as_of(moment)
        except (ManifestError, OSError) as error:
            return ManifestStatus(location.name, location.display, *driver.footprint(location), error=error)
        metadata = asked.metadata()
        now = datetime.now(UTC) if moment is None else datetime.fromisoformat(moment)
        snapshot = asked.snapshot()
        ahead, newest = future_observations(snapshot, now), snapshot.newest(horizon(now))
        failing, working = _failing(engine, now), _working(engine)
    return ManifestStatus(
        location.name,
        location.display,
        log.canonical_bytes,
        log.log_bytes,
        log.segments,
        driver.footprint(location).history_bytes,
        metadata["total_records"],
        metadata["ts_updated"],
        len(ahead),
        moment is None and log.changed_since is not None,
        failing=failing,
        newest=None if newest is None else f"{newest}Z",
        working=() if moment is not None else working,
        replica=replica,
    )


def _failing(engine: Engine, now: datetime) -> int | None:
    with suppress(ManifestError, OSError):
        if Capability.HISTORY in engine.capabilities:
            return history.failing(engine, now)
    return None


def _working(engine: Engine) -> tuple[Holder, ...]:
    name, directory = engine.location.name, engine.location.directory
    with suppress(ManifestError, OSError):
        kinds = (names.claim_of_sources(name), names.claim_of_items(name))
        return tuple(one for kind in kinds for one in engine.holders(directory, kind))
    return ()


def check(manifest: PathOrUrl) -> CheckReport:
    """Check a manifest's own files for corruption. Reads every byte, writes nothing and takes no lock.

    Writers can continue. Raises `ManifestNotFoundError`, `NotAManifestError`, `NewerFormatError`, `OSError`.
    """
    driver = driver_for(manifest)
    return driver.check(driver.locate(os.fspath(manifest)))


def repair(manifest: PathOrUrl, *, dry_run: bool = False, lock_timeout_s: float = 30.0) -> RepairReport:
    """Rebuild a damaged manifest from its intact parts, and move the originals to quarantine. Leaves a sound one unchanged.

    With `dry_run`, reports what would be done and writes nothing. On return the repaired manifest is durable.
    Raises `ManifestNotFoundError`, `NewerFormatError`, `LockTimeoutError`, `OSError`, and `DamagedManifestError`, with
    nothing changed, if no record can be saved.
    """
    driver = driver_for(manifest)
    location = driver.locate(os.fspath(manifest))
    return driver.repair(location, dry_run=dry_run, lock_timeout_s=lock_timeout_s)


def diagnose(directory: PathOrUrl, options: ManifestOptions | None = None) -> Generator[ProbeResult]:
    """Check that a directory, or the database at a URL, can hold manifests safely, and yield one result per test.

    The tests of a directory run in a temporary one inside it. The end of the iterator removes it, so exhaust or close the
    iterator. Raises `OSError` if the directory cannot be read. A database that cannot be reached is a failed test.
    """
    place = os.fspath(directory)
    with closing(driver_for(place).diagnose(place)) as results:
        yield from results
    if not names.is_url(place):
        yield _record_times(place, options or ManifestOptions())


def _record_times(place: str, options: ManifestOptions) -> ProbeResult:
    """Report records with a time in the future. Skips a manifest that cannot be opened; `check` reports it."""
    ahead = []
    for path in driver_for(place).manifests(place):
        with suppress(ManifestError, OSError, ValueError):
            with closing(open_to_read(path, options)) as engine:
                found = from_the_future(engine)
            if found:
                *_, latest = found[-1]
                ahead.append(
                    f"{names.parse_manifest_name(os.path.basename(path))}: {len(found):,} times in the future, the latest {latest}Z"
                )
    if not ahead:
        return ProbeResult("record times", ProbeStatus.OK, "no record here has a time in the future")
    advice = "synchronise the clock by NTP, then run `manifestlog retime` on each"
    return ProbeResult("record times", ProbeStatus.WARNING, "; ".join(ahead), advice)
