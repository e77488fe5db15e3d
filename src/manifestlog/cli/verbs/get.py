"""`get`: print one record."""

from typing import Annotated

import typer

from manifestlog.cli import durations, reading, target
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.errors import RecordNotFoundError


def get(
    settings: Settings,
    manifest: target.ManifestArgument,
    checksum: Annotated[
        str | None, typer.Option("--checksum", metavar="SHA256", help="Checksum of the record.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="ID", help="Source; prints its latest record.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Only in this dataset; requires --source.")
    ] = None,
    as_of: durations.AsOfOption = None,
) -> int:
    """Print one record.

    Finds the record of a checksum, or the latest record of a source. Exits with 1 if there is none. With --source, shows
    the path, ETag and time of that source.
    """
    if (checksum is None) == (source is None):
        raise typer.BadParameter("give exactly one of them", param_hint="--checksum / --source")
    if dataset is not None and source is None:
        raise typer.BadParameter("requires --source", param_hint="--dataset")
    path = target.locate(settings, manifest)
    wanted = None if checksum is None else target.checksum(checksum, "--checksum")
    with reading.open_to_read(settings, path, as_of) as found:
        record = found.get_record_by_source(source or "", dataset) if wanted is None else found.get(wanted)
        root, where = found.root, found.location.display
    if record is None:
        asked = {"checksum": wanted, "source": source, "dataset": dataset}
        what = ", ".join(f"{kind} {value}" for kind, value in asked.items() if value is not None)
        others = f"; `manifestlog list {manifest}` prints those that there are" if source else ""
        raise CommandError(f"{where}: no record of {what}{others}", error=RecordNotFoundError.__name__)
    fields = reading.located(record, root).model_dump(mode="json")
    if settings.as_json:
        output.document(fields)
    else:
        output.record_lines(fields)
    return 0
