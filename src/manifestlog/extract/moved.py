"""Notices that the file of an unchanged source is not where its record leads, and says what to do.

Nothing is fetched, written or changed: the record may be right, and the disk not mounted.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from manifestlog.extract import place
from manifestlog.extract.desk import Desk
from manifestlog.extract.secrets import Redactor
from manifestlog.extract.source import ETLSource
from manifestlog.models import ManifestRecord


def notice(desk: Desk, source: ETLSource, record: ManifestRecord) -> str | None:
    """A warning when the recorded file is not there, without what came from the environment."""
    recorded = desk.manifest.locate(record)
    if _size(recorded) is not None:
        return None
    targets = place.targets(place.target(desk.data_dir, source), record.checksum)
    found = next((path for path in targets if _size(path) == record.file_size), None)
    advice = _advice(desk.manifest.path, recorded, found, record.checksum)
    text = f"its file is not at {recorded}, where its record leads; {advice}"
    return Redactor.hiding(desk.secrets).without_secrets(text)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def _advice(manifest: Path, recorded: Path, found: Path | None, checksum: str) -> str:
    if found is None:
        forget = shlex.join(["manifestlog", "forget", str(manifest), checksum])
        return f"bring it back, or run `{forget}` to have it fetched again"
    old, new = list(recorded.parts), list(found.parts)
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        del old[-1], new[-1]
    command = ["manifestlog", "relocate", str(manifest), "--from", str(Path(*old)), "--to", str(Path(*new))]
    return f"it is at {found}: if everything has moved, run `{shlex.join(command)}`"
