"""The exception tree, its exit codes, and its way through pickle."""

from __future__ import annotations

import errno
import pickle
from typing import TYPE_CHECKING

import pytest

import manifestlog
from manifestlog import (
    AddManyStoppedError,
    ClaimLostError,
    CursorError,
    DamagedManifestError,
    DiskFullError,
    DownloadManifestManager,
    Durability,
    HalfLoadedError,
    HistoryReachError,
    HistoryUnavailableError,
    IndeterminateWriteError,
    LoadError,
    LockTimeoutError,
    ManifestClosedError,
    ManifestError,
    ManifestExistsError,
    ManifestInUseError,
    ManifestNotFoundError,
    ManifestOptions,
    MetadataConflictError,
    NewerFormatError,
    NotAManifestError,
    ReadOnlyError,
    RecordNotFoundError,
    RecordRejectedError,
    ReplicaError,
    ServerError,
    ServerUnavailableError,
    UndoConflictError,
    UnknownContentError,
    UnknownManifestTypeError,
    Verdict,
)
from manifestlog.server_errors import CORRECT_LOCATION
from support.engines import engine_of

from .builders import META

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

FULL = OSError(errno.ENOSPC, "No space left on device")

TREE: dict[str, tuple[ManifestError, int, type[BaseException]]] = {
    "ManifestNotFoundError": (ManifestNotFoundError("/m/a_b.manifest.json"), 10, FileNotFoundError),
    "LockTimeoutError": (LockTimeoutError("/m/a_b.manifest.lock", 30.0, "process 7 (python)"), 11, TimeoutError),
    "DamagedManifestError": (DamagedManifestError("/m/a_b.manifest.json", 4711, "not JSON"), 12, ManifestError),
    "NotAManifestError": (NotAManifestError("/m/a_b.manifest.json", "a list of 3 values"), 12, DamagedManifestError),
    "NewerFormatError": (NewerFormatError("/m/a_b.manifest.wal-000001.jsonl", 7, 1), 13, ManifestError),
    "RecordRejectedError": (RecordRejectedError("too long"), 1, ValueError),
    "RecordNotFoundError": (RecordNotFoundError("ab" * 32), 1, LookupError),
    "AddManyStoppedError": (AddManyStoppedError({Verdict.NEW: 3}, ValueError("bad")), 1, ManifestError),
    "IndeterminateWriteError": (IndeterminateWriteError("/m/x", OSError(errno.EIO, "I/O error")), 1, ManifestError),
    "DiskFullError": (DiskFullError("/m/x", FULL), 1, OSError),
    "ManifestExistsError": (ManifestExistsError("/m/a_b.manifest.json", "it holds other records"), 1, ManifestError),
    "ReplicaError": (ReplicaError("/m/a_b.manifest.json", "postgresql:///etl/a_b"), 1, ManifestError),
    "ManifestClosedError": (ManifestClosedError("/m/x"), 1, ManifestError),
    "ManifestInUseError": (ManifestInUseError("/m/x", "options"), 1, ManifestError),
    "MetadataConflictError": (MetadataConflictError("/m/x", "process", "loader", "extractor"), 1, ManifestError),
    "ReadOnlyError": (ReadOnlyError("/m/x"), 1, ManifestError),
    "CursorError": (CursorError("/m/x", "junk", "is not a cursor"), 2, ValueError),
    "HistoryReachError": (HistoryReachError("/m/x", "2024-01-01", "2025-01-01"), 1, LookupError),
    "HistoryUnavailableError": (HistoryUnavailableError("/m/history", OSError(errno.EACCES, "denied")), 1, OSError),
    "LoadError": (LoadError("t.loads", "no such table", "create it"), 1, ManifestError),
    "HalfLoadedError": (HalfLoadedError("t.loads", "load", "ab" * 32), 1, LoadError),
    "ClaimLostError": (ClaimLostError("postgresql://h/d/a_b"), 1, ManifestError),
    "ServerError": (ServerError("postgresql://h/d/a_b", "no such database", "create it"), 1, ManifestError),
    "ServerUnavailableError": (ServerUnavailableError("postgresql://h/d/a_b", 30.0, "refused"), 11, LockTimeoutError),
    "UndoConflictError": (UndoConflictError("/m/x", "a", "put", "2025-01-01", "0.1.5", 2), 1, ManifestError),
    "UnknownContentError": (UnknownContentError("names.txt"), 1, LookupError),
    "UnknownManifestTypeError": (UnknownManifestTypeError("uploads", ("downloads",)), 1, ValueError),
}


def _told(error: BaseException) -> Any:
    """Everything that an error says, causes reduced to what they say."""
    facts = {k: repr(v) if isinstance(v, BaseException) else v for k, v in vars(error).items()}
    return type(error), str(error), facts


def test_the_table_has_every_error() -> None:
    """No public error is missing here."""
    public = {n for n in manifestlog.__all__ if n.endswith("Error")}
    assert public == {*TREE, "ManifestError"}


@pytest.mark.parametrize("name", TREE)
def test_every_error_is_a_manifest_error(name: str) -> None:
    """One `except` catches all that the library raises on purpose."""
    assert isinstance(TREE[name][0], ManifestError)


@pytest.mark.parametrize("name", TREE)
def test_every_error_has_its_builtin_base(name: str) -> None:
    """Errors are also what Python calls them."""
    assert isinstance(TREE[name][0], TREE[name][2])


@pytest.mark.parametrize("name", TREE)
def test_every_error_has_its_exit_code(name: str) -> None:
    """Exit codes are those of the contract."""
    assert TREE[name][0].exit_code == TREE[name][1]


def test_a_write_that_no_server_confirmed_has_the_exit_code_of_its_cause() -> None:
    """Also in another process."""
    error = IndeterminateWriteError("postgresql://h/d/a_b", TREE["ServerUnavailableError"][0])
    assert pickle.loads(pickle.dumps(error)).exit_code == 11


def test_a_replica_says_how_python_reads_it() -> None:
    """The command line leaves that out."""
    assert str(TREE["ReplicaError"][0]).endswith("write there, or open the manifest with read_only=True")


def test_a_wrong_location_is_a_usage_error() -> None:
    """Also in another process."""
    error = ServerError("postgresql://h:x/d/a_b", "invalid port", CORRECT_LOCATION)
    assert pickle.loads(pickle.dumps(error)).exit_code == 2


def test_the_base_has_exit_code_one() -> None:
    """What has no code of its own is a plain failure."""
    assert ManifestError("x").exit_code == 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", TREE)
def test_every_error_survives_pickling(name: str, protocol: int) -> None:
    """Type, message and attributes cross a process pool unharmed."""
    error = TREE[name][0]
    assert _told(pickle.loads(pickle.dumps(error, protocol))) == _told(error)


@pytest.mark.parametrize("name", TREE)
def test_every_error_survives_pickling_twice(name: str) -> None:
    """A copy of a copy is still the same."""
    error = TREE[name][0]
    once = pickle.loads(pickle.dumps(error))
    assert _told(pickle.loads(pickle.dumps(once))) == _told(error)


@pytest.mark.parametrize("name", TREE)
def test_every_message_is_one_line(name: str) -> None:
    """An expected failure is one line."""
    assert "\n" not in str(TREE[name][0])


@pytest.mark.parametrize("name", [n for n in TREE if hasattr(TREE[n][0], "path")])
def test_every_error_of_a_file_names_it(name: str) -> None:
    """Whoever has a path says it."""
    error = TREE[name][0]
    assert getattr(error, "path") in str(error)  # noqa: B009 -- not every error has one


def test_damage_has_path_offset_and_reason() -> None:
    """`.path`, `.offset` and `.reason` are there for programs."""
    error = DamagedManifestError("/m/x", 4711, "not JSON")
    assert (error.path, error.offset, error.reason) == ("/m/x", 4711, "not JSON")


def test_damage_says_where() -> None:
    """The message has file, byte and reason."""
    assert str(DamagedManifestError("/m/x", 4711, "not JSON")).startswith("/m/x: damaged at byte 4711: not JSON")


def test_a_lock_timeout_says_which_file_how_long_and_who() -> None:
    """The message has the file, the time and the holder."""
    message = str(LockTimeoutError("/m/x.lock", 2.5, "process 7 (python)"))
    assert all(word in message for word in ("/m/x.lock", "2.5 s", "process 7 (python)"))


def test_a_lock_timeout_says_what_to_do() -> None:
    """The message says how to wait longer."""
    assert "--lock-timeout" in str(LockTimeoutError("/m/x.lock", 2.5))


def test_a_full_disk_keeps_its_errno() -> None:
    """`errno` is the operating system's."""
    assert DiskFullError("/m/x", FULL).errno == errno.ENOSPC


def test_a_newer_format_names_both() -> None:
    """The message has the format found and the newest known."""
    message = str(NewerFormatError("/m/x", 7, 1))
    assert "7" in message
    assert "(1)" in message


# -- options -----------------------------------------------------------------------------------------------------------

DEFAULTS = {
    "durability": Durability.POWER_CUT,
    "history": "forever",
    "sync_interval_s": 1.0,
    "lock_timeout_s": 30.0,
    "record_bytes_max": 1 << 20,
    "batch_records_max": 10_000,
    "batch_bytes_max": 8 << 20,
    "segment_bytes_max": 64 << 20,
    "auto_compact": True,
    "compact_log_ratio": 1.0,
    "compact_log_bytes_min": 4 << 20,
    "compact_log_bytes_max": 64 << 20,
    "compact_interval_s": 60.0,
    "compact_time_share": 0.01,
    "compact_write_ratio": 50.0,
    "compact_small_bytes": 16 << 20,
    "compact_in_child": True,
    "compact_on_close": True,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_of_each_option(name: str) -> None:
    """Defaults are those of the contract."""
    assert getattr(ManifestOptions(), name) == DEFAULTS[name]


def test_there_are_no_other_options() -> None:
    """Every option stands in the contract."""
    assert set(ManifestOptions.__dataclass_fields__) == set(DEFAULTS)


def test_options_cannot_be_changed() -> None:
    """Options are frozen."""
    with pytest.raises(AttributeError):
        ManifestOptions().lock_timeout_s = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "name",
    ["sync_interval_s", "record_bytes_max", "batch_records_max", "batch_bytes_max", "segment_bytes_max",
     "compact_log_ratio", "compact_log_bytes_min", "compact_interval_s", "compact_time_share", "compact_write_ratio"],
)  # fmt: skip
@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_an_option_out_of_range_is_named(name: str, wrong: Any) -> None:
    """A value out of range is a `ValueError` naming the option."""
    with pytest.raises(ValueError, match=name):
        ManifestOptions(**{name: wrong})


def test_a_negative_lock_timeout_is_refused() -> None:
    """Nobody waits for less than no time."""
    with pytest.raises(ValueError, match="lock_timeout_s"):
        ManifestOptions(lock_timeout_s=-0.1)


def test_a_lock_timeout_of_zero_is_valid() -> None:
    """Zero means: do not wait."""
    assert ManifestOptions(lock_timeout_s=0).lock_timeout_s == 0


def test_crossed_limits_are_refused() -> None:
    """The smallest log to compact is not above the largest."""
    with pytest.raises(ValueError, match="compact_log_bytes_min"):
        ManifestOptions(compact_log_bytes_min=10, compact_log_bytes_max=9)


def test_compactions_take_no_more_than_all_of_the_time() -> None:
    """A share is at most 1."""
    with pytest.raises(ValueError, match="compact_time_share"):
        ManifestOptions(compact_time_share=1.01)


def test_a_negative_small_size_is_refused() -> None:
    """No file is that small."""
    with pytest.raises(ValueError, match="compact_small_bytes"):
        ManifestOptions(compact_small_bytes=-1)


def test_a_durability_may_be_given_by_its_value() -> None:
    """Configuration files say words."""
    assert ManifestOptions(durability="interval").durability is Durability.INTERVAL  # type: ignore[arg-type]


def test_an_unknown_durability_is_refused() -> None:
    """A word that is none is a `ValueError`."""
    with pytest.raises(ValueError, match="hope"):
        ManifestOptions(durability="hope")  # type: ignore[arg-type]


def test_the_durabilities_equal_their_values() -> None:
    """Modes are named by what they survive."""
    assert [d.name for d in Durability] == ["POWER_CUT", "INTERVAL", "PROCESS_KILL"]


def test_every_weaker_durability_says_what_it_survives() -> None:
    """The names of the modes stand in their values, for configuration files."""
    assert [str(d) for d in Durability] == ["power_cut", "interval", "process_kill"]


def test_a_time_limit_of_the_callers_own_keeps_its_words(tmp_path: Path) -> None:
    """The handler of an alarm raises wherever the engine is; that is no error of the disk."""

    def raise_as_a_handler_does(_state: object) -> None:
        raise TimeoutError("the caller's time is over")

    manager = DownloadManifestManager(tmp_path / "systems_download.manifest.json", META)
    with manager, pytest.raises(TimeoutError, match="the caller's time is over"):
        engine_of(manager).session.transact(raise_as_a_handler_does)
