"""Makes `v2/`, a manifest directory of format 2: run once, when the format was new; its bytes are what is kept.

Never run it over a directory that was released: a test that its own library wrote yesterday proves nothing about last year.

    python tests/golden/make_v2.py DIRECTORY
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from golden.make_v1 import META, NAME, OPTIONS, record, rotate, sha
from manifestlog import DownloadManifestManager, names
from manifestlog.engines.filelog.history import keep
from manifestlog.options import parse_history


def pack(path: Path) -> None:
    """Pack all segments of the history."""
    created = json.loads(path.read_bytes())["metadata"]["ts_created"]
    keep.tidy(names.resolve(path), created, parse_history("forever"), keep.NO_FLOOR, segments_max=1)


def make(directory: Path) -> None:
    """A pack of two segments, two kept segments, a canonical, an index, a sealed segment and an active one with a torn tail.

    With every kind of line and of event in each of them, as far as it can be there.
    """
    directory.mkdir()
    path = directory / NAME
    with DownloadManifestManager(path, META, options=OPTIONS) as manager:
        manager.add(record("plain", 1, "spansh"))
        manager.add(record("shared", 2, "spansh", etag='"e1"', last_modified="Wed, 01 May 2024 12:02:00 GMT"))
        manager.compact()
        with manager.run("nightly", "1.4.0") as run:
            manager.add(record("shared", 3, "edsm", dataset="bodies"))
            manager.add(record("shared", 1, "inara", dataset="bodies"))
            manager.add_from_event(
                SimpleNamespace(source_id="ünï/cöde", dataset="systems"),
                SimpleNamespace(
                    sha256=sha("Übergröße 🪐"), file_path="/srv/etl/raw/odd", file_size_bytes=11, etag=None,
                    ts_download_completed=datetime(2024, 5, 1, 12, 7, tzinfo=UTC),
                    url="https://user:secret@example.org/odd?token=secret", status=200, seconds=1.5,
                ),
            )  # fmt: skip
            manager.fail(
                SimpleNamespace(source_id="eddb", dataset="systems"), ValueError("gone\nfor ever"),
                url="https://example.org/eddb?key=secret", status=410,
            )  # fmt: skip
            run.count("unchanged", 5)
        manager.compact()
        pack(path)
        manager.add_many(
            [record("batch one", 6, "batch"), record("batch two", 6, "batch", derived_from=(sha("plain"),))]
        )
        manager.add(record("batch two", 6, "batch", derived_from=(sha("shared"),), version="1.5.0"))
        manager.compact()
        manager.add(record("plain", 5, "spansh", etag='"e2"'))
        manager.add(record("forgotten", 8, "eddb"))
        manager.forget(sha("forgotten"))
        manager.compact()
        manager.relocate("/srv/etl/raw", "/srv/etl/moved")
        rotate(manager)
    newer = META.model_copy(update={"etl_version": "1.10.0"})
    with DownloadManifestManager(path, newer, options=OPTIONS) as manager:
        manager.update(
            sha("shared"), {"checksum": sha("shared"), "etag": '"fixed"', "file_path": "/srv/fixed", "file_size": 7}
        )
        manager.add(record("batch two", 5, "batch", derived_from=(sha("plain"),)))
        manager.forget(sha("batch one"))
    with max(directory.glob("*.wal-*.jsonl")).open("ab") as active:
        active.write(b'{"op":"put","ts":"2024-05-01T13:00:00.000000Z","record":{"source_id":"torn","data')
    for lock in directory.glob("*.lock"):
        lock.unlink()


if __name__ == "__main__":
    with mock.patch("socket.gethostname", return_value="etl-1"), mock.patch("getpass.getuser", return_value="etl"):
        make(Path(sys.argv[1]))
