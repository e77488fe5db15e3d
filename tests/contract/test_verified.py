"""What is remembered of verifications: read by the next run, and never in anybody's way."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from manifestlog.audit.journal import VerificationJournal, line
from manifestlog.audit.journal_file import beside, in_cache
from manifestlog.audit.plan import NEVER, Expected, FileState, Level
from manifestlog.names import ManifestPaths, next_version, resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = [Expected(f"/data/{name}", name * 64, 5) for name in "abc"]
MOMENT = "2026-01-01T12:00:00.000001Z"
MOMENT_US = 1_767_268_800_000_001


@pytest.fixture
def paths(directory: Path) -> ManifestPaths:
    return resolve(directory / "x_download.manifest.json")


def _line(expected: Expected = FILES[0], level: Level = Level.FULL, when: str = MOMENT) -> bytes:
    return line(expected, level, FileState.OK, when)


def _keep(paths: ManifestPaths, *lines: bytes) -> None:
    with VerificationJournal(beside(paths)) as verified:
        for one in lines:
            verified.keep(one)
        assert verified.write_error is None


def _when(paths: ManifestPaths, expected: Expected = FILES[0], level: Level = Level.FULL) -> int:
    with VerificationJournal(beside(paths)) as verified:
        return verified.when(expected, level)


def _write(paths: ManifestPaths, data: bytes) -> None:
    with open(paths.verified, "wb") as file:
        file.write(data)


def _read(paths: ManifestPaths) -> bytes:
    with open(paths.verified, "rb") as file:
        return file.read()


def test_a_line_is_json_that_says_what_and_when() -> None:
    assert json.loads(line(FILES[0], Level.SIZE, FileState.MISSING, MOMENT)) == {
        "file_path": "/data/a",
        "checksum": "a" * 64,
        "level": "size",
        "state": "missing",
        "ts_verified": MOMENT,
    }


def test_the_next_run_knows_when_a_file_was_verified(paths: ManifestPaths) -> None:
    _keep(paths, _line())
    assert _when(paths) == MOMENT_US


def test_a_file_without_a_line_was_never_verified(paths: ManifestPaths) -> None:
    _keep(paths, _line())
    assert _when(paths, FILES[1]) == NEVER


def test_other_content_at_the_same_path_was_never_verified(paths: ManifestPaths) -> None:
    _keep(paths, _line())
    assert _when(paths, FILES[0]._replace(checksum="e" * 64)) == NEVER


def test_the_latest_line_counts(paths: ManifestPaths) -> None:
    _keep(paths, _line(), _line(when="2026-01-01T12:00:00.000009Z"))
    assert _when(paths) == MOMENT_US + 8


@pytest.mark.parametrize("asked", Level)
@pytest.mark.parametrize("done", Level)
def test_a_higher_level_counts_for_a_lower_one_and_not_the_reverse(
    paths: ManifestPaths, done: Level, asked: Level
) -> None:
    _keep(paths, _line(level=done))
    levels = list(Level)
    assert (_when(paths, level=asked) == MOMENT_US) == (levels.index(done) >= levels.index(asked))


JUNK = [
    b"",
    b"\0" * 50,
    b"\xff\xfe",
    b"{",
    b"[]",
    b"1",
    b"null",
    b"[" * 100_000,
    b'{"file_path":[],"checksum":"","level":"full","ts_verified":"2026-01-01T12:00:00Z"}',
    b'{"file_path":"/data/a","level":"full","ts_verified":"2026-01-01T12:00:00Z"}',
    b'{"file_path":"/data/a","checksum":"x","level":"deep","ts_verified":"2026-01-01T12:00:00Z"}',
    b'{"file_path":"/data/a","checksum":"x","level":[],"ts_verified":"2026-01-01T12:00:00Z"}',
    b'{"file_path":"/data/a","checksum":"x","level":"full","ts_verified":5}',
    b'{"file_path":"/data/a","checksum":"x","level":"full","ts_verified":"never"}',
    b'{"file_path":"/data/a","checksum":"x","level":"full","ts_verified":"0001-01-01T00:00:00"}',
    b"x" * 5_000_000,
]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_meaningless_lines_are_skipped(paths: ManifestPaths, junk: bytes) -> None:
    _write(paths, _line(FILES[1]) + junk + b"\n" + _line())
    assert (_when(paths, FILES[1]), _when(paths)) == (MOMENT_US, MOMENT_US)


def test_a_file_cut_anywhere_is_not_an_error(paths: ManifestPaths) -> None:
    data = _line(FILES[0]) + _line(FILES[1])
    for length in range(len(data)):
        _write(paths, data[:length])
        assert _when(paths) == (MOMENT_US if length >= len(_line(FILES[0])) else NEVER)


def test_no_flipped_bit_is_an_error(paths: ManifestPaths) -> None:
    data = _line()
    for at in range(len(data)):
        _write(paths, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] + _line(FILES[1]) * 2)
        assert _when(paths, FILES[1]) == MOMENT_US


def test_after_a_torn_line_a_new_one_starts(paths: ManifestPaths) -> None:
    _write(paths, _line(FILES[1]) + _line(FILES[2])[:20])
    _keep(paths, _line())
    assert (_when(paths), _when(paths, FILES[1]), _when(paths, FILES[2])) == (MOMENT_US, MOMENT_US, NEVER)


def test_a_name_that_is_not_unicode_is_not_recorded() -> None:
    assert line(Expected("/data/\udcff", "a" * 64, 5), Level.FULL, FileState.OK, MOMENT) == b""


def test_two_runs_at_once_keep_all_their_results(paths: ManifestPaths) -> None:
    with VerificationJournal(beside(paths)) as one, VerificationJournal(beside(paths)) as other:
        one.keep(_line(FILES[0]))
        other.keep(_line(FILES[1]))
        one.keep(_line(FILES[2]))
    assert [_when(paths, file) for file in FILES] == [MOMENT_US] * 3


# -- rewriting ---------------------------------------------------------------------------------------------------------


def _crowd(paths: ManifestPaths) -> None:
    """Lines of three files, most of them replaced by later ones."""
    old = [_line(FILES[number % 3], when=f"2025-01-01T12:00:00.{number:06}Z") for number in range(2_000)]
    _write(paths, b"junk\n" + b"".join(old) + b"".join(map(_line, FILES)))


def test_replaced_lines_are_dropped_when_they_are_most_of_it(paths: ManifestPaths) -> None:
    _crowd(paths)
    _keep(paths)
    assert _read(paths) == b"".join(map(_line, FILES))


def test_after_rewriting_lines_are_kept_as_before(paths: ManifestPaths) -> None:
    _crowd(paths)
    _keep(paths, _line(when="2026-01-01T12:00:00.000009Z"))
    assert (_when(paths), _when(paths, FILES[1])) == (MOMENT_US + 8, MOMENT_US)


def test_nothing_is_rewritten_while_another_run_has_it_open(paths: ManifestPaths) -> None:
    with VerificationJournal(beside(paths)):
        _crowd(paths)
        before = _read(paths)
        _keep(paths, _line())
    assert _read(paths) == before + _line()


def test_leftovers_of_a_killed_rewrite_do_not_matter(paths: ManifestPaths) -> None:
    _crowd(paths)
    with open(next_version(paths.verified), "wb") as file:
        file.write(b"half")
    _keep(paths)
    assert not os.path.exists(next_version(paths.verified))
    assert _when(paths) == MOMENT_US


def test_it_is_as_readable_as_the_manifest(paths: ManifestPaths) -> None:
    with open(paths.canonical, "wb") as file:
        os.fchmod(file.fileno(), 0o640)
    try:
        _keep(paths, _line())
        assert os.stat(paths.verified).st_mode & 0o777 == 0o640
    finally:
        os.unlink(paths.canonical)


# -- where nothing can be kept -----------------------------------------------------------------------------------------


def test_a_directory_in_its_place_is_reported(paths: ManifestPaths) -> None:
    os.mkdir(paths.verified)
    with VerificationJournal(beside(paths)) as verified:
        verified.keep(_line())
        assert verified.when(FILES[0], Level.FULL) == NEVER
        assert isinstance(verified.write_error, IsADirectoryError)


def test_a_pipe_in_its_place_is_reported_without_waiting(paths: ManifestPaths) -> None:
    os.mkfifo(paths.verified)
    with VerificationJournal(beside(paths)) as verified:
        verified.keep(_line())
        assert verified.write_error is not None


def test_a_link_in_its_place_is_not_written_through(paths: ManifestPaths, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    os.symlink(victim, paths.verified)
    with VerificationJournal(beside(paths)) as verified:
        verified.keep(_line())
        assert verified.write_error is not None
    assert victim.read_bytes() == b"mine"


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with VerificationJournal(beside(ManifestPaths(str(tmp_path / "gone"), "x_download"))) as verified:
        verified.keep(_line())
        assert verified.write_error is not None


# -- of a manifest in a database ---------------------------------------------------------------------------------------

FAR = "postgresql://etl@db.example.org/galaxy/x_download"


def test_it_is_in_the_users_cache_directory() -> None:
    found = in_cache(FAR, {"XDG_CACHE_HOME": "/var/cache/etl"})
    assert os.path.dirname(found.path) == "/var/cache/etl/manifestlog"
    assert os.path.basename(found.path).startswith("x_download-")


@pytest.mark.parametrize("environment", [{}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "cache"}])
def test_without_a_valid_cache_directory_it_is_in_the_usual_one(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/etl")
    assert in_cache(FAR, environment).directory == "/home/etl/.cache/manifestlog"


def test_manifests_of_one_name_in_two_databases_have_two() -> None:
    assert in_cache(FAR, {}) != in_cache(FAR.replace("galaxy", "other"), {})


def test_its_directory_is_made(tmp_path: Path) -> None:
    file = in_cache(FAR, {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    with VerificationJournal(file) as verified:
        verified.keep(_line())
        assert verified.write_error is None
    with VerificationJournal(file) as verified:
        assert verified.when(FILES[0], Level.FULL) == MOMENT_US


def test_without_a_file_nothing_is_remembered() -> None:
    with VerificationJournal(None) as verified:
        verified.keep(_line())
        assert (verified.when(FILES[0], Level.FULL), verified.write_error) == (NEVER, None)


# -- it is no part of the ledger ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [str, next_version])
def test_it_is_neither_a_segment_nor_a_leftover(paths: ManifestPaths, version: Callable[[str], str]) -> None:
    file = os.path.basename(version(paths.verified))
    assert (paths.segment_numbers([file]), paths.temporaries([file])) == ([], [])
