"""`init`: create an empty manifest."""

from typing import Annotated

import typer

from manifestlog import factory
from manifestlog.cli import reading, target, validators
from manifestlog.cli.creating import fresh_metadata
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.registry import driver_for
from manifestlog.errors import ManifestNotFoundError, MetadataConflictError
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.models import ETLProcess, ManifestMetadata


def _checked_version(value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise typer.BadParameter("must have at least one character that is not a space")
    return validators.recordable(value)


VersionOption = Annotated[
    str | None,
    typer.Option("--etl-version", metavar="VERSION", callback=_checked_version, help="Version of the pipeline's code."),
]


def init(
    settings: Settings,
    manifest: target.ManifestArgument,
    process: Annotated[
        ETLProcess | None,
        typer.Option(
            "--process", help="Pipeline step that writes the manifest [default: extractor].", show_default=False
        ),
    ] = None,
    etl_version: Annotated[
        str | None,
        typer.Option(
            "--etl-version",
            metavar="VERSION",
            callback=_checked_version,
            help=f"Version of the pipeline's code [default: {factory.DEFAULT_ETL_VERSION}].",
        ),
    ] = None,
) -> int:
    """Create an empty manifest.

    Leaves an existing manifest unchanged. Exits with 1 if the existing one differs in --process or --etl-version.
    """
    path = target.locate(settings, manifest)
    driver = driver_for(path)
    driver.prepare(driver.locate(path))
    try:
        with reading.open_to_read(settings, path) as found:
            stored = found.metadata
    except ManifestNotFoundError:
        stored = create(settings, path, fresh_metadata(path, process, etl_version))
        created = True
    else:
        _check_same(path, stored, process, etl_version)
        created = False
    said = f"{stored.process} {stored.etl_version}, {stored.total_records:,} records"
    text = f"created {path} ({said})" if created else f"{path} already exists ({said}); nothing changed"
    output.report(
        settings, output.clean(text), {"created": created, "path": str(path)} | stored.model_dump(mode="json")
    )
    return 0


def create(settings: Settings, path: str, metadata: ManifestMetadata) -> ManifestMetadata:
    """Create the manifest and its directory. Of several processes that try at once, one creates it."""
    with DownloadManifestManager(path, metadata, options=settings.options()) as manifest:
        return manifest.metadata


def _check_same(path: str, stored: ManifestMetadata, process: ETLProcess | None, etl_version: str | None) -> None:
    if process is not None and process != stored.process:
        raise MetadataConflictError(str(path), "process", stored.process.value, process.value)
    if etl_version is not None and etl_version != stored.etl_version:
        raise MetadataConflictError(str(path), "etl_version", stored.etl_version, etl_version)
