"""Puts damaged files in place, asks the public API about them, and judges what it says.

Invariants:

- A canonical keeps its inode and, unless told otherwise, its modification time: rot changes neither, so the index still fits.
- Every case ends within a time limit, in an answer or in an error of the documented kinds that says where.
- Who refuses has changed nothing; who answers has changed nothing by reading, and by writing has only added.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from contract.builders import QUIET, files_of, record
from manifestlog import DamagedManifestError, DownloadManifestManager, NewerFormatError
from manifestlog.engines.filelog.canonical import index
from manifestlog.files import disk
from manifestlog.model import codec
from support.children import time_limit

from .corpus import INDEX, NAME, Corpus
from .model import Answers, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CASE_LIMIT_S = 10.0
MTIME_NS = 1_700_000_000_000_000_000
NEW = record("added afterwards", 99, "afterwards")

Refused = (DamagedManifestError, NewerFormatError)


@dataclass(frozen=True)
class Case:
    """Files to put in place, and what may come of it: answers, or None for a refusal."""

    name: str
    files: Mapping[str, bytes]
    allowed: tuple[Answers | None, ...]
    names: tuple[str, ...] = ()
    """The files of which a refusal has to name one; none means any."""
    touched: bool = False
    """Whether the canonical has another modification time, so that no index fits it."""


@dataclass
class _Told:
    """What a reader was told: answers, or a refusal, and whether that came before or after the manifest was open."""

    answers: Answers | None = None
    opened: bool = False


class WrongError(Exception):
    """The case did not come out as it must; the text says how."""


class Ground:
    """A directory in which a corpus lies, in one condition after the other."""

    def __init__(self, directory: Path, corpus: Corpus) -> None:
        self.directory = directory / "manifests"
        self.directory.mkdir(parents=True)
        self.path = self.directory / NAME
        self._canonical = directory / "canonical"
        self._canonical.touch()
        self.corpus = corpus
        self._put_canonical(corpus.files[NAME], MTIME_NS)
        # An index names its canonical by inode and time, so a copied one fits no more; this one does.
        self.index = stamped(corpus.files[corpus.named[INDEX]], self.path)
        self.files = corpus.files | {corpus.named[INDEX]: self.index}

    def _put_canonical(self, data: bytes, mtime_ns: int) -> None:
        """Under its name is the same inode again, whatever a compaction has put there."""
        if not (self.path.exists() and self.path.samefile(self._canonical)):
            self.path.unlink(missing_ok=True)
            os.link(self._canonical, self.path)
        self.path.write_bytes(data)
        os.utime(self.path, ns=(mtime_ns, mtime_ns))

    def place(self, case: Case) -> None:
        for entry in os.scandir(self.directory):
            if entry.name != NAME and not entry.name.endswith(".lock"):
                shutil.rmtree(entry) if entry.is_dir() else os.unlink(entry)
        for name, data in case.files.items():
            if name != NAME:
                (self.directory / name).write_bytes(data)
        if NAME in case.files:
            self._put_canonical(case.files[NAME], MTIME_NS + case.touched)
        else:
            self.path.unlink(missing_ok=True)

    # -- judging -------------------------------------------------------------------------------------------------

    def judge(self, case: Case, *, write: bool = True) -> str:
        """How it came out: `refused`, `answered`, or `answered, then refused`; raises `WrongError`."""
        self.place(case)
        with time_limit(CASE_LIMIT_S):
            told = self._read(case)
            if told.answers not in case.allowed:
                raise WrongError(f"{case.name}: {_difference(told.answers, case.allowed)}")
            if files_of(self.directory) != dict(case.files):
                raise WrongError(f"{case.name}: reading has changed the files")
            if not write:
                return "refused" if told.answers is None else "answered"
            return self._write(case, told) if told.opened else self._refuse_to_write(case)

    def _read(self, case: Case) -> _Told:
        told = _Told()
        with self._only_refusals(case), DownloadManifestManager(self.path, read_only=True, options=QUIET) as manager:
            told.opened = True
            told.answers = ask(manager, singly=crc32(case.name.encode()) & 1 == 1)
        return told

    def _check_error(self, case: Case, error: DamagedManifestError | NewerFormatError) -> None:
        named = Path(error.path)
        told = named.parent == self.directory and (not case.names or named.name in case.names)
        if isinstance(error, DamagedManifestError):
            told = told and error.exit_code == 12 and error.offset >= 0 and f"byte {error.offset}:" in str(error)
        else:
            told = told and error.exit_code == 13
        if not told:
            raise WrongError(f"{case.name}: the error names the wrong place: {error}")

    def _refuse_to_write(self, case: Case) -> str:
        with self._only_refusals(case), DownloadManifestManager(self.path, options=QUIET):
            raise WrongError(f"{case.name}: refused to a reader, opened to a writer")
        if files_of(self.directory) != dict(case.files):
            raise WrongError(f"{case.name}: a refused writer has changed the files")
        return "refused"

    @contextmanager
    def _only_refusals(self, case: Case) -> Iterator[None]:
        try:
            yield
        except Refused as error:
            self._check_error(case, error)
        except WrongError:
            raise
        except Exception as error:
            raise WrongError(f"{case.name}: {error!r}") from error

    def _write(self, case: Case, told: _Told) -> str:
        """Add a record and save: it is there afterwards with all the others, or the damage is told and kept as it is."""
        added = saved = False
        with self._only_refusals(case), DownloadManifestManager(self.path, options=QUIET) as manager:
            manager.add(NEW)
            added = True
            manager.save()
            saved = True
        if saved and told.answers is None:
            raise WrongError(f"{case.name}: refused to a reader, and then saved")
        if not saved:
            self._check_kept(case)
        if told.answers is not None:
            self._check_written(case, told.answers, added=added, saved=saved)
        return "answered" if saved else "refused" if told.answers is None else "answered, then refused"

    def _check_written(self, case: Case, answers: Answers, *, added: bool, saved: bool) -> None:
        expected = answers.records | ({NEW.checksum: NEW} if added else {})
        found = self._read(case).answers
        if found is None and saved:
            raise WrongError(f"{case.name}: saved, and then refused")
        if found is not None and found.records != expected:
            raise WrongError(f"{case.name}: after a write, {_difference_of_records(found.records, expected)}")
        if saved and list(json.loads(self.path.read_bytes())["records"]) != sorted(expected):
            raise WrongError(f"{case.name}: the saved canonical holds other records")

    def _check_kept(self, case: Case) -> None:
        """Beside a damage that was found, files only grow; the index may go, it is made anew."""
        left = files_of(self.directory)
        for name, data in case.files.items():
            grown = left.get(name, b"").startswith(data) if ".wal-" in name else left.get(name) == data
            if not grown and not name.endswith(".idx"):
                raise WrongError(f"{case.name}: {name} was changed beside a damage")


def _difference(answers: Answers | None, allowed: tuple[Answers | None, ...]) -> str:
    if answers is None:
        return "refused, but there was no need to"
    if None in allowed:
        others = [one for one in allowed if one is not None]
        if not others:
            return f"answered with {answers.total} records, but it is damaged"
    else:
        others = [one for one in allowed if one is not None]
    nearest = others[0]
    for name in Answers._fields:
        if getattr(nearest, name) != getattr(answers, name):
            if name in ("records", "by_source"):
                return f"{name}: " + _difference_of_records(getattr(answers, name), getattr(nearest, name))
            return f"{name}: {getattr(answers, name)!r:.300} instead of {getattr(nearest, name)!r:.300}"
    return "no difference"


def _difference_of_records(found: Mapping[Any, object], expected: Mapping[Any, object]) -> str:
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    changed = "".join(f"; {found[key]!r:.400} instead of {expected[key]!r:.400}" for key in wrong[:1])
    lost, more = [*(expected.keys() - found.keys())], [*(found.keys() - expected.keys())]
    return f"lost {lost!r:.200}, more {more!r:.200}, other {len(wrong)}{changed}"


def stamped(data: bytes, canonical: Path) -> bytes:
    """An index made for the file that now lies there."""
    size = int.from_bytes(data[len(index.MAGIC) : len(index.MAGIC) + 4], "little")
    header = json.loads(data[index._FIXED : index._FIXED + size])
    stamp = disk.path_stamp(os.fspath(canonical))
    assert stamp is not None
    made = codec.dumps(header | {"stamp": list(stamp)})
    made += b" " * (-(index._FIXED + len(made)) % 8)
    fixed = index.MAGIC + len(made).to_bytes(4, "little") + crc32(made).to_bytes(4, "little")
    return fixed + made + data[index._FIXED + size :]


@contextmanager
def fast_directory(fallback: Path) -> Iterator[Path]:
    """A folder in memory where there is one: some ten thousand cases write five files each."""
    memory = Path("/dev/shm")
    try:
        made = Path(tempfile.mkdtemp(dir=memory, prefix="manifestlog-"))
    except OSError:
        made = fallback
    try:
        yield made
    finally:
        if made is not fallback:
            with suppress(OSError):
                shutil.rmtree(made)
