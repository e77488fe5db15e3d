"""A crash-safe ledger of an ETL pipeline's files, shared by many processes without a server, or by many hosts in PostgreSQL.

Every name below is loaded when it is first used, so that `import manifestlog` costs next to nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from manifestlog.version import __version__

if TYPE_CHECKING:
    from manifestlog.comparison import (
        ContentDiff as ContentDiff,
        Diff as Diff,
        SourceDiff as SourceDiff,
        diff as diff,
    )
    from manifestlog.copy_errors import ManifestExistsError as ManifestExistsError, ReplicaError as ReplicaError
    from manifestlog.copying import (
        CopyOutcome as CopyOutcome,
        CopyReport as CopyReport,
        copy_manifest as copy_manifest,
    )
    from manifestlog.engines.reports import CompactionOutcome as CompactionOutcome, CompactionReport as CompactionReport
    from manifestlog.errors import (
        AddManyStoppedError as AddManyStoppedError,
        CursorError as CursorError,
        DamagedManifestError as DamagedManifestError,
        DiskFullError as DiskFullError,
        HistoryReachError as HistoryReachError,
        HistoryUnavailableError as HistoryUnavailableError,
        IndeterminateWriteError as IndeterminateWriteError,
        LockTimeoutError as LockTimeoutError,
        ManifestClosedError as ManifestClosedError,
        ManifestError as ManifestError,
        ManifestInUseError as ManifestInUseError,
        ManifestNotFoundError as ManifestNotFoundError,
        MetadataConflictError as MetadataConflictError,
        NewerFormatError as NewerFormatError,
        NotAManifestError as NotAManifestError,
        ReadOnlyError as ReadOnlyError,
        RecordNotFoundError as RecordNotFoundError,
        RecordRejectedError as RecordRejectedError,
        UndoConflictError as UndoConflictError,
        UnknownContentError as UnknownContentError,
        UnknownManifestTypeError as UnknownManifestTypeError,
    )
    from manifestlog.factory import (
        ManifestFactory as ManifestFactory,
    )
    from manifestlog.loading.errors import HalfLoadedError as HalfLoadedError, LoadError as LoadError
    from manifestlog.manager import (
        AbstractManifest as AbstractManifest,
    )
    from manifestlog.managers import (
        DownloadManifestManager as DownloadManifestManager,
        ProcessedManifestManager as ProcessedManifestManager,
    )
    from manifestlog.mirroring import (
        Mirror as Mirror,
        MirrorReport as MirrorReport,
        ReplicaState as ReplicaState,
        mirror_manifest as mirror_manifest,
        replica_state as replica_state,
    )
    from manifestlog.model.differences import (
        Change as Change,
    )
    from manifestlog.model.downloads import (
        EventLike as EventLike,
        SourceLike as SourceLike,
    )
    from manifestlog.model.events import (
        Event as Event,
        EventKind as EventKind,
    )
    from manifestlog.model.failures import (
        Failure as Failure,
    )
    from manifestlog.model.followers import (
        Follower as Follower,
    )
    from manifestlog.model.lineage import (
        Delivery as Delivery,
        Derivation as Derivation,
        Lineage as Lineage,
    )
    from manifestlog.model.models import (
        AddResult as AddResult,
        ETLProcess as ETLProcess,
        ManifestMetadata as ManifestMetadata,
        ManifestRecord as ManifestRecord,
        Observation as Observation,
    )
    from manifestlog.model.relocation import (
        Relocation as Relocation,
    )
    from manifestlog.model.retiming import (
        Retimed as Retimed,
    )
    from manifestlog.model.runs import (
        RunOutcome as RunOutcome,
        RunSummary as RunSummary,
    )
    from manifestlog.model.verdict import (
        Verdict as Verdict,
    )
    from manifestlog.names import (
        manifest_path as manifest_path,
    )
    from manifestlog.options import (
        Durability as Durability,
        ManifestOptions as ManifestOptions,
    )
    from manifestlog.server_errors import (
        ClaimLostError as ClaimLostError,
        ServerError as ServerError,
        ServerUnavailableError as ServerUnavailableError,
    )
    from manifestlog.tracing import (
        trace as trace,
    )
    from manifestlog.undo import (
        Undone as Undone,
    )


_HOMES = {
    "comparison": ("ContentDiff", "Diff", "SourceDiff", "diff"),
    "copy_errors": ("ManifestExistsError", "ReplicaError"),
    "copying": ("CopyOutcome", "CopyReport", "copy_manifest"),
    "engines.reports": ("CompactionOutcome", "CompactionReport"),
    "errors": (
        "AddManyStoppedError",
        "CursorError",
        "DamagedManifestError",
        "DiskFullError",
        "HistoryReachError",
        "HistoryUnavailableError",
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
        "UndoConflictError",
        "UnknownContentError",
        "UnknownManifestTypeError",
    ),
    "factory": ("ManifestFactory",),
    "loading.errors": ("HalfLoadedError", "LoadError"),
    "manager": ("AbstractManifest",),
    "managers": ("DownloadManifestManager", "ProcessedManifestManager"),
    "mirroring": ("Mirror", "MirrorReport", "ReplicaState", "mirror_manifest", "replica_state"),
    "model.differences": ("Change",),
    "model.events": ("Event", "EventKind"),
    "model.failures": ("Failure",),
    "model.downloads": ("EventLike", "SourceLike"),
    "model.followers": ("Follower",),
    "model.lineage": ("Delivery", "Derivation", "Lineage"),
    "model.models": ("AddResult", "ETLProcess", "ManifestMetadata", "ManifestRecord", "Observation"),
    "model.relocation": ("Relocation",),
    "model.retiming": ("Retimed",),
    "model.runs": ("RunOutcome", "RunSummary"),
    "model.verdict": ("Verdict",),
    "names": ("manifest_path",),
    "options": ("Durability", "ManifestOptions"),
    "server_errors": ("ClaimLostError", "ServerError", "ServerUnavailableError"),
    "tracing": ("trace",),
    "undo": ("Undone",),
}
"""The module of each public name; the block above says the same to type checkers, and a test compares the two."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604 -- all of them are strings

logging.getLogger("manifestlog").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'manifestlog' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"manifestlog.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
