"""Registers existing files: `run` hashes them and returns a report.

The path of a file: `runner.run` → `walk` finds it → a worker hashes it (`hashing`) and adds its record (`worker`). This
package uses only the manager's public interface.
"""

from manifestlog.ingest.index_file import IndexFileError, KnownFacts, ListedFile, read_index
from manifestlog.ingest.report import Began, Event, IngestReport
from manifestlog.ingest.runner import EmptyFiles, run
from manifestlog.ingest.walk import Failure, Skipped, SkipReason
from manifestlog.workers.events import Progress, WorkersStarted

__all__ = [
    "Began",
    "EmptyFiles",
    "Event",
    "Failure",
    "IndexFileError",
    "IngestReport",
    "KnownFacts",
    "ListedFile",
    "Progress",
    "SkipReason",
    "Skipped",
    "WorkersStarted",
    "read_index",
    "run",
]
