"""Compare data files with a manifest: `run` looks at them and gives a report.

The way of a file: `plan` says which files there should be, and in which order → a `worker` looks → `plan.judge` says what it
means → the report, and the `journal` that orders the next run.
"""

from manifestlog.audit.plan import FileState, Level
from manifestlog.audit.report import AuditReport, Began, Event, VerifyOptions
from manifestlog.audit.runner import run
from manifestlog.audit.worker import FileFinding
from manifestlog.workers.events import Progress, WorkersStarted

__all__ = [
    "AuditReport",
    "Began",
    "Event",
    "FileFinding",
    "FileState",
    "Level",
    "Progress",
    "VerifyOptions",
    "WorkersStarted",
    "run",
]
