"""Verifies data files against a manifest: `run` returns a report.

The path of a file: `plan` lists the expected files in order → a `worker` reads each → `plan.judge` classifies it → the report,
and the `journal` that orders the next run.
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
