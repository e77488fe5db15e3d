"""A crash-safe ledger of an ETL pipeline's files, shared by many processes without a server.

Every name below is loaded when it is first used, so that `import manifestlog` costs next to nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manifestlog.engines.filelog.compaction.steps import CompactionOutcome, CompactionReport
    from manifestlog.errors import (
        AddManyStoppedError,
        DamagedManifestError,
        DiskFullError,
        IndeterminateWriteError,
        LockTimeoutError,
        ManifestClosedError,
        ManifestError,
        ManifestInUseError,
        ManifestNotFoundError,
        MetadataConflictError,
        NewerFormatError,
        NotAManifestError,
        ReadOnlyError,
        RecordNotFoundError,
        RecordRejectedError,
        UnknownManifestTypeError,
    )
    from manifestlog.factory import ManifestFactory
    from manifestlog.manager import (
        AbstractManifest,
        DownloadManifestManager,
        ProcessedManifestManager,
    )
    from manifestlog.model.downloads import EventLike, SourceLike
    from manifestlog.model.models import AddResult, ETLProcess, ManifestMetadata, ManifestRecord, Observation
    from manifestlog.model.relocation import Relocation
    from manifestlog.model.retiming import Retimed
    from manifestlog.model.verdict import Verdict
    from manifestlog.names import manifest_path
    from manifestlog.options import Durability, ManifestOptions

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "AbstractManifest",
    "AddManyStoppedError",
    "AddResult",
    "CompactionOutcome",
    "CompactionReport",
    "DamagedManifestError",
    "DiskFullError",
    "DownloadManifestManager",
    "Durability",
    "ETLProcess",
    "EventLike",
    "IndeterminateWriteError",
    "LockTimeoutError",
    "ManifestClosedError",
    "ManifestError",
    "ManifestFactory",
    "ManifestInUseError",
    "ManifestMetadata",
    "ManifestNotFoundError",
    "ManifestOptions",
    "ManifestRecord",
    "MetadataConflictError",
    "NewerFormatError",
    "NotAManifestError",
    "Observation",
    "ProcessedManifestManager",
    "ReadOnlyError",
    "RecordNotFoundError",
    "RecordRejectedError",
    "Relocation",
    "Retimed",
    "SourceLike",
    "UnknownManifestTypeError",
    "Verdict",
    "manifest_path",
]

_HOMES = {
    "compactor": (
        "CompactionOutcome",
        "CompactionReport",
    ),
    "errors": (
        "AddManyStoppedError",
        "DamagedManifestError",
        "DiskFullError",
        "IndeterminateWriteError",
        "LockTimeoutError",
        "ManifestClosedError",
        "ManifestError",
        "ManifestInUseError",
        "ManifestNotFoundError",
        "MetadataConflictError",
        "NewerFormatError",
        "NotAManifestError",
        "ReadOnlyError",
        "RecordNotFoundError",
        "RecordRejectedError",
        "UnknownManifestTypeError",
    ),
    "events": ("EventLike", "SourceLike"),
    "factory": ("ManifestFactory",),
    "manager": (
        "AbstractManifest",
        "DownloadManifestManager",
        "ProcessedManifestManager",
    ),
    "models": (
        "AddResult",
        "ETLProcess",
        "ManifestMetadata",
        "ManifestRecord",
        "Observation",
    ),
    "naming": ("manifest_path",),
    "options": (
        "Durability",
        "ManifestOptions",
    ),
    "relocation": ("Relocation",),
    "retiming": ("Retimed",),
    "verdict": ("Verdict",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

logging.getLogger("manifestlog").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'manifestlog' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"manifestlog.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
