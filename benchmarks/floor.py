"""The least that an un-synced addition takes in Python: its system calls and calls into C, one behind the other, no engine.

It locks, looks whether anybody has written, asks two dictionaries and two places of a map, encodes, computes the CRCs, writes,
remembers, unlocks. It knows no verdict but `new`, no other process, thread, fork, segment, damage or error. So this is a
limit for whatever is written in Python and keeps the format; beside it, in turns: the engine, SQLite and LMDB.

    python -m benchmarks.floor
"""

from __future__ import annotations

import argparse
import fcntl
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from statistics import median
from zlib import crc32

import orjson

from benchmarks import harness, peers
from manifestlog import ManifestRecord

_FILLED = 1_000
_MAP_BYTES = 80_000
_BUCKET_BYTES = 512
_BUCKETS_APART_BYTES = 256
_PEERS = ("manifestlog", "SQLite WAL", "LMDB")

Add = Callable[[ManifestRecord], object]


class Bare:
    """A lock file, a log and a map of the size that the index over 1,000 records has."""

    def __init__(self, directory: Path) -> None:
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
        self._log = os.open(directory / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        (directory / "index").write_bytes(bytes(_MAP_BYTES))
        with (directory / "index").open("rb") as file:
            self._index = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._records: dict[str, tuple[bytes, int]] = {}
        self._sources: dict[str, bytes] = {}
        self._length = self._chain = 0

    def add(self, record: ManifestRecord) -> tuple[str, ManifestRecord]:
        """Append the record's line and remember it; never twice the same."""
        own = record.__dict__  # written out, not asked of `models.members`: a call of ours would be a part of an engine
        checksum, source_id = own["checksum"], own["source_id"]
        row = {
            "source_id": source_id,
            "dataset": own["dataset"],
            "checksum": checksum,
            "file_path": str(own["file_path"]),
            "file_size": own["file_size"],
            "etag": own["etag"],
            "ts_downloaded": own["ts_downloaded"],
            "version": own["version"],
        }
        raw = orjson.dumps(row, option=orjson.OPT_UTC_Z)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.fstat(self._lock).st_nlink
        assert os.lseek(self._log, 0, os.SEEK_END) == self._length
        assert checksum not in self._records
        assert source_id not in self._sources
        for key in (bytes.fromhex(checksum), blake2b(source_id.encode(), digest_size=8).digest()):
            place = key[0] * _BUCKETS_APART_BYTES
            assert self._index.find(key, place, place + _BUCKET_BYTES) < 0
        second, ns = divmod(time.time_ns(), 1_000_000_000)
        body = b'{"op":"put","ts":"2026-01-01T00:00:%02d.%06dZ","record":%b' % (second % 60, ns // 1000, raw)
        line = b'%b,"crc":"%08x"}\n' % (body, crc32(body, crc32(self._length.to_bytes(8, "little"), 1)))
        os.write(self._log, line)
        self._records[checksum], self._sources[source_id] = (raw, 1), raw
        self._length, self._chain = self._length + len(line), crc32(line[-11:-3], self._chain)
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return "new", record


def measured_us(directory: Path, rounds: int, each: int) -> dict[str, list[float]]:
    """µs an addition, by contestant; they take turns, and each is given the same records."""
    known = list(harness.make_records(0, _FILLED))
    (directory / "bare").mkdir()
    adds: dict[str, Add] = {"no engine": Bare(directory / "bare").add}
    opened = []
    for name in (name for name in _PEERS if name not in peers.missing()):
        place = directory / name
        place.mkdir()
        kind = peers.load(name)
        kind.fill(place, known)
        opened.append(kind.open(place, peers.PROCESS_KILL, shared=False))
        adds[name] = opened[-1].add
    # The last of each ten is newer content of a known source, which `Bare` has no verdict for.
    fresh = (harness.make_record(number) for number in count(_FILLED) if number % 10 != 9)
    found: dict[str, list[float]] = {name: [] for name in adds}
    for turn in range(rounds):
        records = list(islice(fresh, each))
        for name in harness.rotated(list(adds), turn):
            found[name].append(_timed_us(adds[name], records))
    for one in opened:
        one.close()
    return found


def _timed_us(add: Add, records: list[ManifestRecord]) -> float:
    began = time.perf_counter()
    for record in records:
        add(record)
    return (time.perf_counter() - began) / len(records) * 1e6


def main() -> int:
    """Print what each takes, and how many that are in a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    parser.add_argument("--each", type=int, default=1_000, help="additions a round (%(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measured_us(Path(directory), given.rounds, given.each)
    rows = [["peer", "µs", "min - max", "a second"]]
    for name, samples in found.items():
        us = median(samples)
        rows.append([name, f"{us:.2f}", f"{min(samples):.2f} - {max(samples):.2f}", f"{1e6 / us:,.0f}"])
    harness.print_rows("One un-synced addition, 1 writer", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
