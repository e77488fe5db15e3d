"""The metadata of a manifest that a verb creates."""

from manifestlog import factory
from manifestlog.cli.invoke import CommandError
from manifestlog.model.models import ETLProcess, ManifestMetadata


def fresh_metadata(
    path: str, process: ETLProcess | None = None, etl_version: str | None = None, root_dir: str | None = None
) -> ManifestMetadata:
    """Return the metadata for a new manifest at `path`."""
    try:
        return factory.fresh_metadata(path, process, etl_version, root_dir)
    except factory.UnrecordableFolderError as error:
        raise CommandError(str(error)) from None
