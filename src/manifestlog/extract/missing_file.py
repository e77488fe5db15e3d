"""Warns if the recorded file of an unchanged source is missing.

It fetches, writes and changes nothing: the record may be right and the disk not mounted.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from manifestlog.extract.config.redaction import Redactor
from manifestlog.extract.context import WorkerContext
from manifestlog.extract.paths import SourcePaths
from manifestlog.model.models import ManifestRecord


def missing_file_warning(
    context: WorkerContext, paths: SourcePaths, record: ManifestRecord, recorded: Path
) -> str | None:
    """Return a warning if the recorded file, at this path, is missing, without values from the environment."""
    if _size(recorded) is not None:
        return None
    found = next((path for path in paths.candidates(record.checksum) if _size(path) == record.file_size), None)
    advice = _advice(context.manifest.location.display, recorded, found, record.checksum)
    text = f"{recorded}: the recorded file is missing; {advice}"
    return Redactor.hiding(context.secrets).without_secrets(text)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def _advice(manifest: str, recorded: Path, found: Path | None, checksum: str) -> str:
    if found is None:
        forget = shlex.join(["manifestlog", "forget", manifest, checksum])
        return f"restore it, or run `{forget}` to fetch it again"
    old, new = list(recorded.parts), list(found.parts)
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        del old[-1], new[-1]
    command = ["manifestlog", "relocate", manifest, "--from", str(Path(*old)), "--to", str(Path(*new))]
    return f"a file of this size is at {found}: if all files have moved, run `{shlex.join(command)}`"
