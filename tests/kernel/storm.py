"""A storm: writers, readers and a compactor on one manifest, of whom one is killed every few milliseconds and replaced.

The processes are forked from one small process that has everything imported and nothing open, so that a new one costs
milliseconds. What they do follows from the seed, when they do it does not: a seed brings the same work, not the same run.
"""

from __future__ import annotations

import gc
import logging
import random
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kernel.diary import Diary, now
from manifestlog import (
    DownloadManifestManager,
    Durability,
    ManifestOptions,
    ManifestRecord,
    RecordNotFoundError,
    Verdict,
)
from manifestlog.files import disk
from support.children import Child
from support.faults import before
from support.integrity import file_descriptors, load_canonical
from support.records import EPOCH, checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Link

PAUSE_S = (0.010, 0.050)
OPTIONS = ManifestOptions(auto_compact=False, compact_on_close=False, segment_bytes_max=64 * 1024, lock_timeout_s=20.0)
"""Small segments, so that rotations are as frequent as kills."""
WINDOW = 16
"""How many checksums are in everybody's hands at a time; the window moves on, so that each is new once."""
NUMBERS_PER_S = 100
OWN_NUMBERS = 1_000_000_000
"""From here on numbers belong to one process each, for batches of which all or nothing must be new."""


def record(number: int, source: str, revision: int) -> ManifestRecord:
    """Revision `revision` of what `source` says of content `number`: everything in it follows from these three."""
    return ManifestRecord(
        source_id=source,
        dataset="systems",
        checksum=checksum(number),
        file_path=Path(f"/srv/etl/raw/{number}/{revision}.json.gz"),
        file_size=number + 1,
        etag=f'"{number}-{revision}"',
        ts_downloaded=EPOCH + timedelta(seconds=revision),
        version="1.0.0",
    )


@dataclass(frozen=True)
class Stage:
    """Where a storm takes place: the manifest, the folder of the diaries, and when it began."""

    path: Path
    scratch: Path
    began: int

    def window(self) -> range:
        first = (now() - self.began) * NUMBERS_PER_S // 1_000_000_000
        return range(first, first + WINDOW)


@dataclass
class Outcome:
    """What is left of a storm."""

    kills: int = 0
    falls: int = 0
    """How many died in the middle of a line, or about there, besides those that were killed."""
    deaths: list[tuple[Path, int]] = field(default_factory=list)
    """Every process's diary, and when it was certainly gone."""
    failures: list[str] = field(default_factory=list)
    versions_watched: int = 0
    invalid: list[str] = field(default_factory=list)
    descriptors: tuple[int, int] = (0, 0)
    """What a reader that lives all the time had open at first, and the most that it ever had."""


# -- the processes -----------------------------------------------------------------------------------------------------


class _Notices(logging.Handler):
    """Counts fences, and calls it a failure when the engine speaks of damage: a kill damages nothing."""

    def __init__(self, diary: Diary) -> None:
        super().__init__(logging.WARNING)
        self._diary = diary

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "fenced off" in text:
            self._diary.notes("fences")
        elif "update() changed" not in text:
            raise AssertionError(text)


class Writer:
    """Does one thing after the other until it is killed, or has had enough and closes."""

    def __init__(self, stage: Stage, diary: Diary, manifest: DownloadManifestManager, seed: int) -> None:
        self._stage = stage
        self._diary = diary
        self._manifest = manifest
        self._chance = random.Random(seed)
        self._own = OWN_NUMBERS + seed % 1_000_000 * 10_000

    def work(self, turns: int) -> None:
        acts: list[Callable[[], None]] = [
            self._add,
            self._add_many,
            self._update,
            self._forget,
            self._look,
            self._compact,
        ]
        for _ in range(turns):
            (act,) = self._chance.choices(acts, (60, 10, 8, 8, 13, 1))
            act()
            time.sleep(self._chance.uniform(0, 0.002))

    def fall(self) -> None:
        """Die while a long line is being written, or just before or behind: each page of it may be the last."""
        before(disk, "append", lambda *_: signal.setitimer(signal.ITIMER_REAL, self._chance.uniform(1e-6, 60e-6)))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process as SIGKILL would, and nobody is asked
        self._add_numbers(self._take_own(60))
        signal.pause()

    def _number(self) -> int:
        window = self._stage.window()
        return self._chance.choice(window if self._chance.random() < 0.9 else range(window.stop))

    def _content(self, number: int) -> tuple[int, str, int]:
        own, mirror = f"source-{number // 2}", f"mirror-{number // 20}"
        return number, self._chance.choice((own, own, mirror)), self._chance.randrange(100)

    def _add(self) -> None:
        content = self._content(self._number())
        self._diary.begins("add", "/".join(map(str, content)))
        self._diary.told(self._manifest.add(record(*content)).verdict)

    def _add_many(self) -> None:
        count = self._chance.randrange(2, 7)
        if self._chance.random() < 0.5:
            self._add_numbers(self._take_own(count))
        else:
            first = self._number()
            self._add_numbers(range(first, first + count))

    def _take_own(self, count: int) -> range:
        first, self._own = self._own, self._own + count
        return range(first, self._own)

    def _add_numbers(self, numbers: range) -> None:
        contents = [self._content(number) for number in numbers]
        self._diary.begins("add", " ".join("/".join(map(str, content)) for content in contents))
        counts = self._manifest.add_many(record(*content) for content in contents)
        assert sum(counts.values()) == len(numbers)
        self._diary.told(str(counts[Verdict.NEW] + counts[Verdict.CHANGED]))

    def _update(self) -> None:
        number, revision = self._number(), self._chance.randrange(100)
        wanted = record(number, "nobody", revision)
        names = ("checksum", "etag", "file_path", "file_size", "ts_downloaded")
        self._diary.begins("update", f"{number}/{revision}")
        try:
            self._diary.told(self._manifest.update(checksum(number), {n: getattr(wanted, n) for n in names}).verdict)
        except RecordNotFoundError:
            self._diary.told("missing")

    def _forget(self) -> None:
        number = self._number()
        self._diary.begins("forget", str(number))
        self._diary.told(str(self._manifest.forget(checksum(number))))

    def _look(self) -> None:
        look(self._manifest, self._diary, self._number())

    def _compact(self) -> None:
        compact_once(self._manifest, self._diary)


def look(manifest: DownloadManifestManager, diary: Diary, number: int) -> None:
    since = now()
    diary.looked(since, number, there=manifest.has_checksum(checksum(number)))


def compact_once(manifest: DownloadManifestManager, diary: Diary) -> None:
    diary.begins("compact", "-")
    diary.told(manifest.compact().outcome)


def write(_link: Link, stage: Stage, diary_path: Path, seed: int) -> None:
    diary = Diary(diary_path)
    logging.getLogger("manifestlog").addHandler(_Notices(diary))
    durability = Durability.POWER_CUT if seed % 2 else Durability.PROCESS_KILL
    options = replace(OPTIONS, durability=durability)
    if seed % 8 == 0:  # one of eight compacts by itself, in a thread
        options = replace(options, auto_compact=True, compact_log_bytes_min=32 * 1024, compact_interval_s=0.1)
    with DownloadManifestManager(stage.path, options=options) as manifest:
        writer = Writer(stage, diary, manifest, seed)
        falls = seed % 4 == 1
        writer.work(random.Random(seed).randrange(5, 30 if falls else 1_000))
        if falls:
            writer.fall()


def read(_link: Link, stage: Stage, diary_path: Path, seed: int) -> None:
    diary = Diary(diary_path)
    chance = random.Random(seed)
    with DownloadManifestManager(stage.path, options=OPTIONS, read_only=True) as manifest:
        while True:
            window = stage.window()
            for number in chance.sample(range(max(0, window.start - 10), window.stop), 8):
                look(manifest, diary, number)
            time.sleep(chance.uniform(0, 0.01))
            if chance.random() < 0.8:
                continue
            numbers = chance.sample(window, 8)
            since = now()
            listed = set(manifest)  # one moment for all of them
            for number in numbers:
                diary.looked(since, number, there=checksum(number) in listed)


def compact(_link: Link, stage: Stage, diary_path: Path, seed: int) -> None:
    diary = Diary(diary_path)
    logging.getLogger("manifestlog").addHandler(_Notices(diary))
    chance = random.Random(seed)
    with DownloadManifestManager(stage.path, options=OPTIONS) as manifest:
        while True:
            compact_once(manifest, diary)
            time.sleep(chance.uniform(0, 0.02))


def keep(link: Link, stage: Stage, diary_path: Path, _seed: int) -> None:
    """Save once in a while, and live on: compactors that are always killed in time would let the log grow for ever."""
    diary = Diary(diary_path)
    with DownloadManifestManager(stage.path, options=OPTIONS) as manifest:
        while not link.poll(0.5):
            diary.begins("compact", "-")
            diary.told(manifest.save().outcome)


def watch(link: Link, stage: Stage, diary_path: Path, _seed: int) -> tuple[int, list[str], tuple[int, int]]:
    """Read every canonical that appears with nothing but `json`; beside it, be a reader that is never killed."""
    diary = Diary(diary_path)
    seen = versions = 0
    invalid = []
    opened: list[int] = []
    with DownloadManifestManager(stage.path, options=OPTIONS, read_only=True) as manifest:
        while not link.poll(0.005):
            opened.append(sum("manifest" in target for target in file_descriptors().values()))
            for number in stage.window()[::4]:
                look(manifest, diary, number)
            inode = stage.path.stat().st_ino
            if inode == seen:
                continue
            seen, versions = inode, versions + 1
            try:
                load_canonical(stage.path)
            except (OSError, ValueError, AssertionError) as error:
                invalid.append(f"version {versions}: {error!r}")
    return versions, invalid, (opened[0], max(opened))


# -- their master ------------------------------------------------------------------------------------------------------

ROSTER = (write,) * 8 + (read,) * 2 + (compact,)


@dataclass
class _Running:
    child: Child
    diary: Path
    task: Callable[..., object]


class _Master:
    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._seed = seed * 1_000_003
        self._started = 0
        self.outcome = Outcome()

    def start(self, task: Callable[..., object]) -> _Running:
        self._started += 1
        diary = self._stage.scratch / f"{task.__name__}-{self._started:06d}"
        return _Running(Child(task, self._stage, diary, self._seed + self._started), diary, task)

    def bury(self, one: _Running) -> None:
        """Note when it was certainly gone, and what it died of if nobody killed it."""
        status = one.child.join()
        self.outcome.deaths.append((one.diary, now()))
        self.outcome.falls += status == -signal.SIGALRM
        if status not in (0, -signal.SIGKILL, -signal.SIGALRM):
            failure = one.child.said()[-1:]
            self.outcome.failures.append(
                f"{one.diary.name}: {getattr(failure[0], 'text', status) if failure else status}"
            )
        one.child.discard()


def rage(_link: Link, path: Path, scratch: Path, kills: int, seed: int) -> Outcome:
    """Let them work and die until so many were killed; the last are killed all at once."""
    gc.collect()
    gc.freeze()  # children leave the pages of what they inherit alone
    master = _Master(Stage(path, scratch, now()), seed)
    lasting = [master.start(task) for task in (watch, keep)]
    chance = random.Random(seed)
    running = [master.start(task) for task in ROSTER]
    dying: list[_Running] = []
    while master.outcome.kills < kills and not master.outcome.failures:
        _wait(running, chance.uniform(*PAUSE_S))
        ended = [n for n, one in enumerate(running) if _has_ended(one)]
        if not ended:
            ended = [chance.randrange(len(running))]
            running[ended[0]].child.kill()
            master.outcome.kills += 1
        for slot in ended:
            dying.append(running[slot])
            running[slot] = master.start(running[slot].task)
        for one in filter(_has_ended, dying):
            master.bury(one)
        dying = [one for one in dying if one.child.status is None]
    for one in running:
        with suppress(ProcessLookupError):
            one.child.kill()
    for one in (*dying, *running):
        master.bury(one)
    outcome = master.outcome
    for one in lasting:
        one.child.send("stop")
    outcome.versions_watched, outcome.invalid, outcome.descriptors = lasting[0].child.receive()
    for one in lasting:
        master.bury(one)
    return outcome


def _wait(running: list[_Running], seconds: float) -> None:
    """The pause between two kills; shorter when somebody ends without being killed."""
    select.select([one.child._watch for one in running], [], [], seconds)


def _has_ended(one: _Running) -> bool:
    ready, _, _ = select.select([one.child._watch], [], [], 0)
    return bool(ready)
