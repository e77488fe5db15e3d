"""Random damage to a random manifest: a repair keeps what was not hit, names what was, and sets aside what it found."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, given, settings, strategies as st

from manifestlog import DamagedManifestError, DownloadManifestManager, names
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from support.damage import SMALL_SEGMENTS, contents, named
from support.integrity import check_manifest, segments
from support.records import NAME, checksum, make_record, metadata

if TYPE_CHECKING:
    from manifestlog import ManifestRecord

NUMBERS = st.integers(0, 30)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NUMBERS),
        st.tuples(st.just("forget"), NUMBERS),
        st.tuples(st.just("batch"), NUMBERS),
        st.tuples(st.just("save"), NUMBERS),
    ),
    min_size=5,
    max_size=40,
)
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "zero", "delete"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=4,
)
_KEY = re.compile(rb'"checksum":"([0-9a-f]{64})"')


def _make(path: Path, steps: list[tuple[str, int]]) -> dict[str, ManifestRecord]:
    with DownloadManifestManager(path, metadata(), options=SMALL_SEGMENTS) as manifest:
        for step, number in steps:
            if step == "add":
                manifest.add(make_record(number))
            elif step == "forget":
                manifest.forget(checksum(number))
            elif step == "batch":
                manifest.add_many([make_record(n) for n in range(number, number + 3)])
            else:
                manifest.save()
        return dict(manifest.records.items())


class Damage:
    """What was done to the files, and which records' lines were hit by it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hit: set[str] = set()
        self.orphans: set[str] = set()
        self.files: set[str] = set()

    def do(self, kind: str, which: float, where: float, bit: int) -> None:
        files = [self.path, *segments(self.path).values()]
        files = [file for file in files if file.exists() and file.stat().st_size]
        if not files:
            return
        file = files[int(which * len(files))]
        if kind == "delete" and file in segments(self.path).values() and len(segments(self.path)) == 1:
            return  # without a log and an index nothing tells that there was one
        data = bytearray(file.read_bytes())
        at = int(where * len(data))
        end = {"flip": at + 1, "cut": len(data), "zero": min(at + 40, len(data)), "delete": len(data)}[kind]
        self._note(file, bytes(data), 0 if kind == "delete" else at, end)
        if kind == "delete":
            file.unlink()
            return
        if kind == "flip":
            data[at] ^= 1 << bit
        elif kind == "zero":
            data[at:end] = bytes(end - at)
        else:
            del data[at:]
        file.write_bytes(data)

    def _note(self, file: Path, data: bytes, start: int, end: int) -> None:
        """Whatever stands on the lines between these offsets was hit, the newline before them counts to them."""
        self.files.add(file.name)
        first = data.rfind(b"\n", 0, max(0, start - 1)) + 1
        last = data.find(b"\n", end)
        self.hit |= {found.decode() for found in _KEY.findall(data[first : last + 1 if last >= 0 else len(data)])}
        if first == 0 and file != self.path:
            # Without the salt of the first line, a line that is alone behind it cannot prove that it is whole.
            self.orphans |= {found.decode() for found in _KEY.findall(data)}


def _damage_and_repair(steps: list[tuple[str, int]], damages: list[tuple[str, float, float, int]]) -> None:
    """One expectation in several parts: they need the same expensive beginning."""
    directory = Path(tempfile.mkdtemp())
    try:
        path = directory / NAME
        expected = _make(path, steps)
        damage = Damage(path)
        for one in damages:
            damage.do(*one)
        if not path.exists() and not segments(path):
            return
        before = {name: data for name, data in contents(path).items() if not name.endswith(".idx")}
        if not check(names.resolve(path)).damaged:
            return
        try:
            report = repair(names.resolve(path))
        except DamagedManifestError:  # not one record is left, nor what kind of manifest it was
            assert set(expected) <= damage.hit | damage.orphans
            assert {n: data for n, data in contents(path).items() if not n.endswith(".idx")} == before
            return
        assert check(names.resolve(path)).findings == []
        check_manifest(path)
        with DownloadManifestManager(path, read_only=True) as manifest:
            kept = dict(manifest.records.items())
        orphans = damage.orphans & named(report)
        for key, record in expected.items():
            assert key in damage.hit or key in orphans or kept.get(key) == record, (key, report)
        assert set(kept) - set(expected) <= damage.hit | orphans, report
        torn = any("torn" in note.meaning for note in report.notes)
        assert set(kept) == set(expected) or report.lost or torn, report
        assert report.findings
        (folder,) = (directory / "quarantine").iterdir()
        ledger = {name: data for name, data in before.items() if "/" not in name}  # the history was not damaged
        assert {f.name: f.read_bytes() for f in folder.iterdir() if f.name != names.REPORT} == ledger
        done = contents(path)
        repair(names.resolve(path))
        assert contents(path) == done
    finally:
        shutil.rmtree(directory)


@settings(max_examples=20, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(STEPS, DAMAGE)
def test_random_damage_is_repaired(steps: list[tuple[str, int]], damages: list[tuple[str, float, float, int]]) -> None:
    """Not shrunk: that would take longer than a test may."""
    _damage_and_repair(steps, damages)


@pytest.mark.slow
@settings(max_examples=800, deadline=None)
@given(STEPS, DAMAGE)
def test_much_random_damage_is_repaired(
    steps: list[tuple[str, int]], damages: list[tuple[str, float, float, int]]
) -> None:
    _damage_and_repair(steps, damages)
