"""The index against its absence: whatever came before, with any index the answers are the same, and a merge is a rebuild.

A history is played through one manifest, then asked in copies of its directory that differ in nothing but the index: the
right one, none, an earlier one, another manifest's, damaged ones; and, as their canonical is copied as well, adopted ones.
Each copy is then written to and compacted in the same way.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings, strategies as st

from manifestlog import DownloadManifestManager, Verdict
from manifestlog.engines.filelog.canonical import columns, index, scan
from manifestlog.engines.filelog.canonical.index import Head, Index
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.files import disk
from manifestlog.model import codec
from manifestlog.model.document import render
from support.engines import engine_of

from .model import Model, Pair, Seen
from .setting import META, T0, options, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "systems_download.manifest.json"
INDEX = "systems_download.manifest.idx"
OPTIONS = options(segment_bytes_max=20_000, batch_records_max=50)

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where the files are, if there is such a place: a hundred compactions would wait for the disk and try nothing more."""

PAIRS = [Pair(s, d) for s in ("s0", "s1", "s2") for d in ("d0", "d1")]
ALIKE = ["ab" * 8 + f"{n:048x}" for n in (0, 1, 2**190)]
"""Checksums that begin alike: a source row of the index has no more than that beginning."""


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


BULK = [_sha(f"bulk {n}") for n in range(300)]
CHECKSUMS = [*(_sha(f"{n}") for n in range(5)), *ALIKE, *BULK[:3], "0" * 64, "f" * 64]

EVENTS = st.tuples(
    st.sampled_from(CHECKSUMS),
    st.sampled_from(PAIRS),
    st.builds(Seen, st.integers(0, 3), st.sampled_from([None, "e1", "e2"]), st.sampled_from(["/p", "/q"])),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), EVENTS),
        st.tuples(st.just("add_from_event"), EVENTS),
        st.tuples(st.just("add_many"), st.lists(EVENTS, max_size=6)),
        st.tuples(st.just("update"), st.tuples(st.sampled_from(CHECKSUMS), st.sampled_from([None, "e1", "e9"]))),
        st.tuples(st.just("forget"), st.sampled_from(CHECKSUMS)),
        st.tuples(st.just("compact"), st.none()),
        st.tuples(st.just("compact"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=30,
)
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "cut", "zero", "more"]), st.floats(0, 1, exclude_max=True), st.integers(0, 7)
    ),
    min_size=3,
    max_size=6,
)
Step = tuple[str, Any]
Damage = tuple[str, float, int]

PROBES = [(checksum, pair, Seen(2, "e1", "/p")) for checksum, pair in zip(CHECKSUMS, PAIRS * 3, strict=False)]
"""Additions to every copy: known and unknown contents, at a time that many others have."""


def _bulk(count: int) -> list[tuple[str, Pair, Seen]]:
    """So many contents of few sources: four to a moment, most of them older than what is to come."""
    pairs = [PAIRS[n % 2 if n < count // 2 else n % 6] for n in range(count)]
    return [(BULK[n], pair, Seen(-n // 4 if n % 9 else n % 4, None, "/b")) for n, pair in enumerate(pairs)]


class _Played:
    """One manifest, what it should mean, and the indexes that it had."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self.model = Model()
        self.manager = DownloadManifestManager(self.path, META, options=OPTIONS)
        self.indexes: list[bytes] = []

    def close(self) -> None:
        self.manager.close()

    def step(self, kind: str, what: Any) -> None:
        """Do it, and hold the answer against the model's."""
        if kind == "add":
            assert self.manager.add(record_of(*what)).verdict == self.model.add(*what)
        elif kind == "add_from_event":
            assert self._add_from_event(*what) == self.model.add(*what)
        elif kind == "add_many":
            counts = self.manager.add_many(record_of(*event) for event in what)
            expected = Counter(self.model.add(*event) for event in what)
            assert counts == {verdict: expected[verdict.value] for verdict in Verdict}
        elif kind == "update":
            self._update(*what)
        elif kind == "forget":
            assert self.manager.forget(what) is self.model.forget(what)
        elif kind == "compact":
            self.compact()
        else:
            self.manager.close()
            self.manager = DownloadManifestManager(self.path, options=OPTIONS)

    def _add_from_event(self, checksum: str, pair: Pair, event: Seen) -> Verdict:
        finished = SimpleNamespace(
            sha256=checksum,
            file_path=event.path,
            file_size_bytes=7,
            etag=event.etag,
            ts_download_completed=T0 + timedelta(minutes=event.time),
        )
        return self.manager.add_from_event(SimpleNamespace(**pair._asdict()), finished).verdict

    def _update(self, checksum: str, etag: str | None) -> None:
        known = self.manager.get(checksum)
        if known is not None:
            self.manager.update(checksum, {"checksum": checksum, "etag": etag, "file_path": "/p", "file_size": 7})
            self.model.update(checksum, Pair(known.source_id, known.dataset), etag, "/p")

    def compact(self) -> None:
        self.manager.compact()
        made = self.path.with_name(INDEX)
        if made.exists():
            check_rebuilt(self.path)
            if made.read_bytes() not in self.indexes:
                self.indexes.append(made.read_bytes())


# -- what is asked -----------------------------------------------------------------------------------------------------


def ask(manager: DownloadManifestManager) -> dict[str, Any]:
    """Every question, with contents and sources that are there and that are not; when it was changed is the clock's."""
    asked = [*CHECKSUMS, *BULK[:300:7], _sha("strange"), "ab" * 32]
    pairs = [*PAIRS, Pair("s0", "d9"), Pair("s9", "d0")]
    return {
        "has": [manager.has_checksum(checksum) for checksum in asked],
        "get": [manager.get(checksum) for checksum in asked],
        "by source and dataset": [manager.get_record_by_source(*pair) for pair in pairs],
        "by source": [manager.get_record_by_source(pair.source_id) for pair in pairs],
        "records": dict(manager.records.items()),
        "keys": list(manager),
        "length": len(manager),
        "metadata": manager.metadata.model_copy(update={"ts_updated": T0}),
    }


def check_meaning(answers: dict[str, Any], model: Model) -> dict[str, Any]:
    """The answers are the model's; gives them."""
    assert answers["keys"] == sorted(model.contents)
    found = [model.current(*pair) for pair in PAIRS]
    told = answers["by source and dataset"]
    assert [one and one.checksum for one in told[: len(PAIRS)]] == [one and one[1] for one in found]
    return answers


def check_rebuilt(path: Path) -> None:
    """Canonical and index are, byte for byte, what a scan of all of it and a writer of all of it make of that content."""
    data = path.read_bytes()
    document = json.loads(data)
    rows = ((checksum, codec.dumps(document["records"][checksum])) for checksum in sorted(document["records"]))
    assert render(document["metadata"], rows) == data
    fd = disk.open_read(os.fspath(path))
    try:
        source = Canonical(os.fspath(path), fd)
        scanned = scan.scan(source)
        assert source.memory is None, "what we write is canonical"
        found = Index.open(os.fspath(path.with_name(INDEX)))
        assert found is not None
        head = Head(disk.stamp(fd), scanned.crc, found.head.covers, scanned.metadata)
        assert b"".join(index.encode(scanned.columns, head)) == path.with_name(INDEX).read_bytes()
    finally:
        disk.close(fd)


def _probe(copy: Path, model: Model) -> dict[str, object]:
    """Write to a copy, compact it, ask it in between: all that came of it, and it is what `model` says."""
    with closing(DownloadManifestManager(copy, options=OPTIONS)) as manager:
        found: dict[str, object] = {}
        for event in PROBES:
            answer = manager.add(record_of(*event))
            assert answer.verdict == model.add(*event)
            found[f"answer to {event}"] = answer
        latest = [current[1] for pair in PAIRS[:3] if (current := model.current(*pair))]
        for checksum in (CHECKSUMS[0], BULK[0], _sha("strange"), *latest):
            assert manager.forget(checksum) is model.forget(checksum)
        again = [(checksum, pair, replace(seen, etag="e7")) for checksum, pair, seen in reversed(PROBES)]
        expected = Counter(model.add(*event) for event in again)
        counts = manager.add_many(record_of(*event) for event in again)
        assert counts == {verdict: expected[verdict.value] for verdict in Verdict}
        found |= {f"written, {name}": answer for name, answer in check_meaning(ask(manager), model).items()}
        manager.compact()
        found |= {f"compacted, {name}": answer for name, answer in check_meaning(ask(manager), model).items()}
    check_rebuilt(copy)
    found["canonical"] = re.sub(rb'"ts_updated": "[^"]*"', b"", copy.read_bytes())
    return found


# -- with which index --------------------------------------------------------------------------------------------------


@lru_cache
def _anothers(rows_per_bucket: int) -> bytes:
    """An index of another manifest, with the same contents in other places."""
    assert rows_per_bucket == columns._ROWS_PER_BUCKET
    with tempfile.TemporaryDirectory() as folder:
        with closing(DownloadManifestManager(Path(folder) / NAME, META, options=OPTIONS)) as manager:
            manager.add_many(record_of(checksum, PAIRS[0], Seen(9, "other", "/other")) for checksum in CHECKSUMS[2:])
            manager.compact()
        return (Path(folder) / INDEX).read_bytes()


def _damaged(sound: bytes, kind: str, place: float, bit: int) -> bytes:
    at = int(place * len(sound))
    if kind == "cut":
        return sound[:at]
    if kind == "more":
        return sound + bytes(8 * bit) + b"\0"
    if kind == "zero":
        return sound[:at] + bytes(min(64, len(sound) - at)) + sound[at + 64 :]
    return sound[:at] + bytes([sound[at] ^ 1 << bit]) + sound[at + 1 :]


def _indexes(played: _Played, damages: list[Damage]) -> Iterator[tuple[str, bytes | None]]:
    yield "deleted", None
    yield "another manifest's", _anothers(columns._ROWS_PER_BUCKET)
    for number, earlier in enumerate(played.indexes[:-1][-3:]):
        yield f"stale {number}", earlier
    for damage in damages if played.indexes else ():
        yield f"damaged: {damage}", _damaged(played.indexes[-1], *damage)


@contextmanager
def _copy(path: Path, made: bytes | None, *, other_file: bool) -> Iterator[Path]:
    """The manifest elsewhere; the canonical is the same file, which the index knows by its inode, or one with the same bytes."""
    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
        target = Path(folder)
        (shutil.copyfile if other_file else os.link)(path, target / NAME)
        for segment in path.parent.glob("*.jsonl"):
            shutil.copy(segment, target)
        if made is not None:
            (target / INDEX).write_bytes(made)
        yield target / NAME


def _told(played: _Played, made: bytes | None, *, fits: bool = False, other_file: bool = False) -> dict[str, object]:
    with _copy(played.path, made, other_file=other_file) as copy:
        with closing(DownloadManifestManager(copy, options=OPTIONS, read_only=True)) as reader:
            base = engine_of(reader).session._state.base
            if fits:
                assert (base.from_scan, base.adopted) == (False, other_file), "the index was not used"
            read = check_meaning(ask(reader), played.model)
        if other_file:
            _check_kept(copy, read)
        return read | _probe(copy, deepcopy(played.model))


def _check_kept(copy: Path, read: dict[str, object]) -> None:
    """Who may write keeps the index that was adopted or made, and it says the same."""
    DownloadManifestManager(copy, options=OPTIONS).close()
    with closing(DownloadManifestManager(copy, options=OPTIONS, read_only=True)) as reader:
        base = engine_of(reader).session._state.base
        assert base.kept or not base.index.count
        assert ask(reader) == read


def play(count: int, steps: list[Step], damages: list[Damage], rows_per_bucket: int = 32) -> int:
    """Play a history behind `count` records, and compare all copies; gives how many there were."""
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
        mock.patch.object(columns, "_ROWS_PER_BUCKET", rows_per_bucket),
        mock.patch.object(index, "_LINEAR_MAX", 4 * rows_per_bucket),
    ):
        directory = Path(folder) / "manifests"
        with closing(_Played(directory)) as played:
            played.step("add_many", _bulk(count))
            for step in [("compact", None), *steps]:
                played.step(*step)
            live = ask(played.manager)
        check_meaning(live, played.model)
        sound = played.indexes[-1] if played.indexes else None
        told = _told(played, sound, fits=sound is not None)
        assert {name: told[name] for name in live} == live
        copies = 1
        for what, made in _indexes(played, damages):
            other = _told(played, made)
            assert [name for name in told if other[name] != told[name]] == [], what
            copies += 1
        adopted = [("adopted", sound), *[*_indexes(played, damages)][1::3]]
        for what, made in adopted:
            other = _told(played, made, fits=what == "adopted" and sound is not None, other_file=True)
            assert [name for name in told if other[name] != told[name]] == [], f"copied, {what}"
            copies += 1
        return copies


COUNTS = st.sampled_from([0, 1, 40, 300])
ROWS_PER_BUCKET = st.sampled_from([32, 32, 2])


def history(seed: int) -> tuple[int, list[Step], list[Damage], int]:
    """A history by dice, for those that want the same one again: hundreds of records, and every kind of step."""
    chance = random.Random(seed)

    def event() -> tuple[str, Pair, Seen]:
        seen = Seen(chance.randrange(4), chance.choice([None, "e1"]), "/p")
        return chance.choice(CHECKSUMS), chance.choice(PAIRS), seen

    kinds: dict[str, Any] = {
        "add": event,
        "add_from_event": event,
        "add_many": lambda: [event() for _ in range(6)],
        "update": lambda: (chance.choice(CHECKSUMS), chance.choice([None, "e9"])),
        "forget": lambda: chance.choice(CHECKSUMS),
        "compact": lambda: None,
        "reopen": lambda: None,
    }
    steps = [(kind, kinds[kind]()) for kind in chance.choices([*kinds], k=40)]
    flips = [("flip", chance.random(), chance.randrange(8)) for _ in range(6)]
    return 300, [*steps, ("compact", None), ("add", event())], flips, chance.choice([32, 2])


_SETTINGS = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], print_blob=True
)


@settings(_SETTINGS, max_examples=10, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(COUNTS, STEPS, DAMAGES, ROWS_PER_BUCKET)
@example(*history(1))
@example(*history(2))
@example(*history(3))
def test_with_any_index_a_history_has_the_same_answers(
    count: Any, records: int, steps: list[Step], damages: list[Damage], rows_per_bucket: int
) -> None:
    """Not shrunk: that would take longer than a test may."""
    count("random manifests with another index", play(records, steps, damages, rows_per_bucket))


@pytest.mark.slow
@settings(_SETTINGS, max_examples=300)
@given(COUNTS, STEPS, DAMAGES, ROWS_PER_BUCKET)
def test_with_any_index_any_history_has_the_same_answers(
    count: Any, records: int, steps: list[Step], damages: list[Damage], rows_per_bucket: int
) -> None:
    count("random manifests with another index", play(records, steps, damages, rows_per_bucket))
