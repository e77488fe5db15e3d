"""Looking after manifests from Python: what the verbs `status`, `check`, `repair` and `doctor` call.

Invariants:

- Each takes a path or URL and needs no open manifest, so it also works on a damaged one.
- A report is plain data, the same for every engine.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

from manifestlog import names
from manifestlog.corrections import from_the_future
from manifestlog.engines.registry import driver_for
from manifestlog.engines.reports import ProbeResult, ProbeStatus
from manifestlog.errors import ManifestError
from manifestlog.options import ManifestOptions

if TYPE_CHECKING:
    from collections.abc import Generator

    from manifestlog.engines.reports import CheckReport, RepairReport

Manifest = str | os.PathLike[str]
"""The path or URL of a manifest."""


class ManifestStatus(NamedTuple):
    """How much is in a manifest, and whether it can be opened. Sizes in bytes; counts and times are None when it cannot."""

    name: str
    path: str
    canonical_bytes: int
    log_bytes: int
    segments: int
    total_records: int | None = None
    ts_updated: str | None = None
    from_the_future: int | None = None
    """Observations that a clock has stamped in the future."""
    to_merge: bool = False
    """Whether records wait in the log for a compaction."""
    error: ManifestError | OSError | None = None
    """Why it cannot be opened."""


def status(manifest: Manifest, options: ManifestOptions | None = None) -> ManifestStatus:
    """Open a manifest to read, and report how much is in it; one that cannot be opened is reported as well."""
    driver = driver_for(manifest)
    location = driver.locate(os.fspath(manifest))
    try:
        engine = driver.open(location, None, options or ManifestOptions(), read_only=True)
    except (ManifestError, OSError) as error:
        return ManifestStatus(location.name, location.display, *driver.footprint(location), error=error)
    with closing(engine):
        log, metadata, ahead = engine.log_status(), engine.metadata(), from_the_future(engine)
    return ManifestStatus(
        location.name,
        location.display,
        log.canonical_bytes,
        log.log_bytes,
        log.segments,
        metadata["total_records"],
        metadata["ts_updated"],
        len(ahead),
        log.changed_since is not None,
    )


def check(manifest: Manifest) -> CheckReport:
    """Read every byte of a manifest's own files and report what is wrong; nothing is written or locked.

    Writers may go on meanwhile. Raises `ManifestNotFoundError`, `NotAManifestError`, `NewerFormatError`, `OSError`.
    """
    driver = driver_for(manifest)
    return driver.check(driver.locate(os.fspath(manifest)))


def repair(manifest: Manifest, *, dry_run: bool = False, lock_timeout_s: float = 30.0) -> RepairReport:
    """Write a damaged manifest anew from everything that is intact, and set the originals aside; leave a sound one as it is.

    With `dry_run`, report what would be done, without writing. On return the repaired manifest is durable.
    Raises `ManifestNotFoundError`, `NewerFormatError`, `LockTimeoutError`, `OSError`, and `DamagedManifestError` with
    nothing changed when nothing is left to save.
    """
    driver = driver_for(manifest)
    location = driver.locate(os.fspath(manifest))
    return driver.repair(location, dry_run=dry_run, lock_timeout_s=lock_timeout_s)


def diagnose(directory: Manifest, options: ManifestOptions | None = None) -> Generator[ProbeResult]:
    """Test whether a directory is good enough for manifests, one result after the other.

    What is tried is tried in a directory of its own inside this one, which is removed at the end; so let the iterator
    end, or close it. Raises `OSError` when the directory cannot be read.
    """
    place = os.fspath(directory)
    with closing(driver_for(place).diagnose(place)) as results:
        yield from results
    yield _record_times(place, options or ManifestOptions())


def _record_times(place: str, options: ManifestOptions) -> ProbeResult:
    """Whether a record is stamped in the future. A manifest that cannot be opened is left to `check`."""
    ahead = []
    driver = driver_for(place)
    for path in driver.manifests(place):
        with suppress(ManifestError, OSError, ValueError):
            location = driver.locate(path)
            with closing(driver.open(location, None, options, read_only=True)) as engine:
                found = from_the_future(engine)
            if found:
                *_, latest = found[-1]
                ahead.append(
                    f"{names.parse_manifest_name(os.path.basename(path))}: {len(found):,} stamped in the future, up to {latest}Z"
                )
    if not ahead:
        return ProbeResult("record times", ProbeStatus.OK, "no record here is stamped in the future")
    advice = "set the clock by NTP, then run `manifestlog retime` on each"
    return ProbeResult("record times", ProbeStatus.WARNING, "; ".join(ahead), advice)
