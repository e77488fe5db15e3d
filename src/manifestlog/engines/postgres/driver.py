"""The driver of the PostgreSQL engine: finds, opens, creates and checks manifests.

Invariants:

- Only an opening with metadata creates a schema and a manifest. If several do so at once, one creates it and the others
  open it.
- If the server cannot be reached, opening fails at once; later calls wait for the server.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg

from manifestlog import names
from manifestlog.engines import no_replicas
from manifestlog.engines.postgres import catalog, checking, doctor, loading, location as locations, schema
from manifestlog.engines.postgres.catalog import Stored
from manifestlog.engines.postgres.connections import Pool
from manifestlog.engines.postgres.engine import CAPABILITIES, PostgresEngine
from manifestlog.engines.postgres.limits import OFF
from manifestlog.engines.reports import Footprint, RepairReport
from manifestlog.errors import ManifestError, ManifestNotFoundError
from manifestlog.options import ManifestOptions

if TYPE_CHECKING:
    from collections.abc import Generator

    from manifestlog.engines.postgres.slots import Slot
    from manifestlog.engines.protocol import Image, Location
    from manifestlog.engines.reports import CheckReport, ProbeResult
    from manifestlog.model.rows import Row

log = logging.getLogger(__name__)

capabilities = CAPABILITIES


def locate(text: str) -> Location:
    """Return the location of this URL. Raises `ValueError` for a bad manifest name and for a password."""
    return locations.locate(text)


def open(  # noqa: A001 -- called as `driver.open`, as the protocol has it
    location: Location, metadata: Row | None, options: ManifestOptions, *, read_only: bool
) -> PostgresEngine:
    """Open the manifest, or create it with `metadata`, and the schema if it is missing.

    Raises `ManifestNotFoundError`, `NewerFormatError`, `ServerError`.
    """
    pool = Pool(location, options.lock_timeout_s)
    try:
        new = None if read_only else metadata
        stored = pool.open(lambda slot: _stored(slot, location, new, pool.commit_level(options.durability)))
        return PostgresEngine(pool, stored, options, read_only=read_only)
    except BaseException:
        pool.close()
        raise


def _stored(slot: Slot, location: Location, metadata: Row | None = None, level: str = OFF) -> Stored:
    """Return what is stored of the manifest, after creating what is missing if there is metadata.

    `level` is what the creation waits for.
    """
    if metadata is not None:
        schema.make(slot, location)
    elif found := schema.version(slot, location):
        schema.check_version(found, location)
    else:
        raise ManifestNotFoundError(location.display)
    stored = catalog.find(slot, location.name)
    if stored is None:
        if metadata is None:
            raise ManifestNotFoundError(location.display)
        _create(slot, location, metadata, level)
        stored = catalog.find(slot, location.name)
    assert stored is not None
    return stored


def _create(slot: Slot, location: Location, metadata: Row, level: str) -> None:
    while True:
        try:
            catalog.create(slot, location.name, metadata, level)
            log.info("%s: created", location.display)
        except psycopg.errors.UniqueViolation:  # another program has created this one, or one with the same number
            slot.recover()
            if catalog.find(slot, location.name) is not None:
                return
        else:
            return


def load(location: Location, image: Image, options: ManifestOptions) -> PostgresEngine:
    """Make a manifest of an image, and the schema if it is missing, or nothing; and open it.

    Raises `ManifestExistsError`, `NewerFormatError`, `ServerError`.
    """
    pool = Pool(location, options.lock_timeout_s)
    try:
        pool.open(lambda slot: schema.make(slot, location))
        return PostgresEngine(pool, loading.load(pool, image), options, read_only=False)
    except BaseException:
        pool.close()
        raise


replica, set_replica, open_replica = no_replicas.replica, no_replicas.set_replica, no_replicas.open_replica


def prepare(location: Location) -> None:
    """Make the tables, or bring those of an older version up to date."""
    pool = Pool(location, ManifestOptions().lock_timeout_s)
    try:
        pool.open(lambda slot: schema.create(slot, location))
    finally:
        pool.close()


def check(location: Location) -> CheckReport:
    """Read every table of the manifest and report what does not fit together; change and lock nothing."""
    with_options = ManifestOptions()
    pool = Pool(location, with_options.lock_timeout_s)
    try:
        stored = pool.open(lambda slot: _stored(slot, location))
        return checking.check(pool, stored.manifest_id)
    finally:
        pool.close()


def repair(location: Location, *, dry_run: bool, lock_timeout_s: float) -> RepairReport:
    """Refuse: the server's own backups and standbys are what repairs its data."""
    del dry_run, lock_timeout_s
    raise ManifestError(
        f"{location.display}: a database is not repaired from here: restore it from the server's backup, or promote a standby"
    )


def footprint(location: Location) -> Footprint:
    """Return the size of the tables, which all manifests of the database share; zeros if it cannot be read."""
    pool = Pool(location, 0.0)
    try:
        return pool.open(checking.footprint)
    except (ManifestError, OSError):
        return Footprint()
    finally:
        pool.close()


def diagnose(directory: str) -> Generator[ProbeResult]:
    """Test whether this database can hold manifests."""
    pool = Pool(locations.of_database(directory), 0.0)
    try:
        yield from doctor.diagnose(pool)
    finally:
        pool.close()


def manifests(directory: str) -> list[str]:
    """Return the locations of the manifests in this database, sorted by name."""
    pool = Pool(locations.of_database(directory), 0.0)
    try:
        found = pool.open(lambda slot: catalog.names(slot) if schema.version(slot, pool.location) else [])
    finally:
        pool.close()
    return [names.joined(directory, name) for name in found]
