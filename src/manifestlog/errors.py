"""The exceptions of this library, with their exit codes.

::

    ManifestError                    1
    ├── ManifestNotFoundError       10   also FileNotFoundError
    ├── LockTimeoutError            11   also TimeoutError
    │   └── ServerUnavailableError  11
    ├── ServerError                  1   of a wrong location: 2
    ├── ClaimLostError               1
    ├── ManifestExistsError          1
    ├── DamagedManifestError        12
    │   └── NotAManifestError       12
    ├── NewerFormatError            13
    ├── CursorError                  2   also ValueError
    ├── HistoryReachError            1   also LookupError
    ├── HistoryUnavailableError      1   also OSError
    ├── UndoConflictError            1
    ├── RecordRejectedError          1   also ValueError
    ├── RecordNotFoundError          1   also LookupError
    ├── UnknownContentError          1   also LookupError
    ├── AddManyStoppedError          1
    ├── IndeterminateWriteError      1   of a server: 11
    ├── LoadError                    1
    │   └── HalfLoadedError          1
    ├── DiskFullError                1   also OSError
    ├── ManifestClosedError          1
    ├── ManifestInUseError           1
    ├── MetadataConflictError        1
    ├── ReadOnlyError                1
    │   └── ReplicaError             1
    └── UnknownManifestTypeError     1   also ValueError

Invariants:

- Every message says where the error is, what failed, and what to do next.
- Every error keeps its typed arguments as attributes and survives pickling, so it can cross a process pool.

A torn tail and a bad index are not errors. Writers fence the first and rebuild the second; both are logged.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, ClassVar

from manifestlog.error_texts import explained
from manifestlog.names import is_in_memory

if TYPE_CHECKING:
    from collections.abc import Mapping


TO_READ = ", or open the manifest with read_only=True"
"""Advice for Python code in some messages. The command line leaves it out: a command that only reads does so already."""


class ManifestError(Exception):
    """Base class of the errors that this library raises."""

    exit_code: int = 1
    _fields: ClassVar[tuple[str, ...]] = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError rewrites `args`, so the default would call the constructor with the wrong arguments.
        return type(self), tuple(getattr(self, name) for name in self._fields)


class ManifestNotFoundError(ManifestError, FileNotFoundError):
    """No manifest exists at this path, and no metadata was given to create one."""

    exit_code = 10
    _fields = ("path",)

    def __init__(self, path: str) -> None:
        advice = "; create it with `manifestlog init`, or open it with metadata"
        if is_in_memory(path):
            advice = (
                ": one in memory is reached only through the manager that has it open;"
                " open it with metadata first, and keep it open"
            )
        super().__init__(f"{path}: no such manifest{advice}")
        self.path = path


class LockTimeoutError(ManifestError, TimeoutError):
    """Another process held a lock longer than `lock_timeout_s`."""

    exit_code = 11
    _fields = ("path", "timeout_s", "holder")

    def __init__(self, path: str, timeout_s: float, holder: str | None = None) -> None:
        who = f"held by {holder}" if holder else "held by another process"
        super().__init__(
            f"{path}: lock not obtained within {timeout_s:g} s, {who}; wait for that process or end it"
            " (never delete the lock file), or increase lock_timeout_s / --lock-timeout"
        )
        self.path = path
        self.timeout_s = timeout_s
        self.holder = holder


class DamagedManifestError(ManifestError):
    """Bytes on disk differ from what was written. Nothing was changed."""

    exit_code = 12
    _fields: ClassVar[tuple[str, ...]] = ("path", "offset", "reason")

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: {reason}; nothing was changed:"
            " run `manifestlog check` to list all damage, then `manifestlog repair`"
        )
        self.path = path
        self.offset = offset
        self.reason = reason


class NotAManifestError(DamagedManifestError):
    """The file is valid JSON of another shape, and no file beside it shows that it was a manifest."""

    _fields = ("path", "shape")

    def __init__(self, path: str, shape: str) -> None:
        ManifestError.__init__(
            self,
            f'{path}: not a manifest: it holds {shape}, where a manifest is an object with "metadata" and "records";'
            " nothing was changed, and `manifestlog repair` has nothing to save:"
            " name another file, or move this one away",
        )
        self.path = path
        self.offset = 0
        self.reason = f"not a manifest: it holds {shape}"
        self.shape = shape


class NewerFormatError(ManifestError):
    """A newer version of manifestlog wrote the files."""

    exit_code = 13
    _fields = ("path", "found", "supported")

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            f"{path}: format {found} is newer than the newest supported format ({supported}); upgrade manifestlog"
        )
        self.path = path
        self.found = found
        self.supported = supported


class CursorError(ManifestError, ValueError):
    """A cursor cannot be used with this manifest."""

    exit_code = 2
    _fields = ("path", "cursor", "reason")

    def __init__(self, path: str, cursor: str, reason: str) -> None:
        super().__init__(
            f"{path}: {cursor!r:.80} {reason}; use a cursor that `log` or `follow` printed for this manifest,"
            " or begin with `start` or `now`"
        )
        self.path = path
        self.cursor = cursor
        self.reason = reason


class HistoryReachError(ManifestError, LookupError):
    """The history does not reach back to this time or cursor."""

    _fields = ("path", "asked", "reach")

    def __init__(self, path: str, asked: str, reach: str | None) -> None:
        since = f"reaches back to {reach}" if reach else "is empty"
        super().__init__(f"{path}: {asked} is out of reach: the history {since}; ask for a later time")
        self.path = path
        self.asked = asked
        self.reach = reach


class HistoryUnavailableError(ManifestError, OSError):
    """The system does not let this process use the history, or a file in it. No record is affected."""

    _fields = ("path", "cause")

    def __init__(self, path: str, cause: OSError) -> None:
        advice = _HISTORY_ADVICE.get(cause.errno or 0, "remove the cause, then retry")
        super().__init__(
            f"{path}: the history cannot be used: {cause.strerror or cause}; no record is affected, and nothing was lost: {advice}"
        )
        self.path = path
        self.cause = cause
        self.errno = cause.errno


_MAY_NOT = "ask for permission to read and write `history` and the files in it"
_NO_FOLDER = "move away what is in the place of the directory `history`, or restore what it leads to"
_HISTORY_ADVICE = {
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EROFS: "make the file system writable again",
    errno.ENOTDIR: _NO_FOLDER,
    errno.ENOENT: _NO_FOLDER,
    errno.ELOOP: _NO_FOLDER,
    errno.EISDIR: "move the directory away that has this name",
    errno.EXDEV: "move the directory `history` to the file system of the manifest",
    errno.EIO: "the disk failed: look for the cause in the system's log",
}


class UndoConflictError(ManifestError):
    """A change to undo was followed by a later change of the same content; nothing was written."""

    _fields = ("path", "what", "kind", "ts", "cursor", "others")

    def __init__(self, path: str, what: str, kind: str, ts: str, cursor: str, others: int = 0) -> None:
        more = f" (and {others:,} more later changes)" if others else ""
        super().__init__(
            f"{path}: {what} was changed again at {ts} by the event {kind} with cursor {cursor}{more};"
            " undo the later changes first, or force it, which reverses them as well; nothing was written"
        )
        self.path = path
        self.what = what
        self.kind = kind
        self.ts = ts
        self.cursor = cursor
        self.others = others


class RecordRejectedError(ManifestError, ValueError):
    """A record cannot be stored; nothing was written."""

    _fields = ("reason",)

    def __init__(self, reason: str) -> None:
        super().__init__(f"record rejected: {reason}; nothing was written")
        self.reason = reason


class RecordNotFoundError(ManifestError, LookupError):
    """No record has this checksum."""

    _fields = ("checksum",)

    def __init__(self, checksum: str) -> None:
        super().__init__(f"no record with checksum {checksum}; add it with add() or add_from_event() first")
        self.checksum = checksum


class UnknownContentError(ManifestError, LookupError):
    """No manifest knows this content, path or source."""

    _fields = ("asked",)

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"{asked!r:.200}: no manifest here knows it; search another directory, or spell it as it was recorded"
        )
        self.asked = asked


class AddManyStoppedError(ManifestError):
    """`add_many` ended early. `landed` counts what is kept, by verdict; `cause` is what stopped it."""

    _fields = ("landed", "cause")

    def __init__(self, landed: Mapping[Any, int], cause: BaseException) -> None:
        kept = sum(landed.values())
        super().__init__(
            f"add_many stopped: {explained(cause)}; the {kept} records before it are kept, add the rest again"
        )
        self.landed = dict(landed)
        self.cause = cause


class IndeterminateWriteError(ManifestError):
    """The disk or the server did not confirm a write, which may or may not be stored. `exit_code` is that of the cause."""

    _fields = ("path", "cause")

    def __init__(self, path: str, cause: BaseException) -> None:
        if isinstance(cause, ManifestError):  # a server's
            reason = str(cause).removeprefix(f"{path}: ")
            text = f"{reason}; this write may or may not be stored, and if it is repeated, it is stored once"
            self.exit_code = cause.exit_code
        else:
            why = getattr(cause, "strerror", None) or cause
            text = (
                f"the disk did not confirm the write ({why}), so the record may or may not be stored; check the disk,"
                " then add it again"
            )
        super().__init__(f"{path}: {text}")
        self.path = path
        self.cause = cause


class DiskFullError(ManifestError, OSError):
    """The disk, a quota or a file size limit is full; nothing was written."""

    _fields = ("path", "cause")

    def __init__(self, path: str, cause: OSError) -> None:
        super().__init__(
            f"{path}: {cause.strerror or cause}; nothing was written, and earlier writes are kept: free some space, then retry"
        )
        self.path = path
        self.cause = cause
        self.errno = cause.errno


class ManifestClosedError(ManifestError):
    """The manager was used after `close()`."""

    _fields = ("path",)

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: this manager is closed; open a new one")
        self.path = path


class ManifestInUseError(ManifestError):
    """This process already has the manifest open, with other options, metadata or class."""

    _fields = ("path", "differs")

    def __init__(self, path: str, differs: str) -> None:
        super().__init__(
            f"{path}: already open in this process with different {differs};"
            " close that manager first, or pass the same arguments"
        )
        self.path = path
        self.differs = differs


class MetadataConflictError(ManifestError):
    """The stored metadata differ from the caller's."""

    _fields = ("path", "field", "stored", "given")

    def __init__(self, path: str, field: str, stored: str, given: str) -> None:
        super().__init__(
            f"{path}: stored {field} is {stored!r}, but {given!r} was given; use another manifest, or give the stored value"
        )
        self.path = path
        self.field = field
        self.stored = stored
        self.given = given


class ReadOnlyError(ManifestError):
    """A write to a manifest that is open read-only, or to one as it was at an earlier time (`past`)."""

    _fields = ("path", "past")

    def __init__(self, path: str, past: bool = False) -> None:  # noqa: FBT001, FBT002 -- as it is pickled
        what = "opened read-only; open it without read_only=True to write"
        if past:
            what = "this is the manifest as it was, which nothing changes; write to the manifest itself"
        super().__init__(f"{path}: {what}")
        self.path = path
        self.past = past


class UnknownManifestTypeError(ManifestError, ValueError):
    """`ManifestFactory` has no manager class of this name."""

    _fields = ("name", "known")

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"unknown manifest type {name!r}; known are {', '.join(known)};"
            " add your own with ManifestFactory.register_manifest_type"
        )
        self.name = name
        self.known = known
