"""A workload of many processes, and the check that one serial order explains everything that they were told.

Invariants:

- Every call is marked in the version of its record, so its event can be found.
- The order of the log is that order: replayed in it by the engine in memory, every event has the verdict that the server's
  clients were told, and every record is the same, byte for byte.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from contract.builders import META, record, sha
from manifestlog import DownloadManifestManager, EventKind, IndeterminateWriteError
from manifestlog.engines.memory_records import Records
from manifestlog.model import codec
from manifestlog.model.rows import as_seen_by
from manifestlog.model.writes import Rules, plan_add

from .places import engine_of, opened

if TYPE_CHECKING:
    from manifestlog import Event
    from support.children import Link

SOURCES, DATASETS, CONTENTS, MINUTES = 5, 2, 14, 8
Told = list[tuple[str, str]]
"""What a call was told, by its mark; `?` if the call does not know."""


def work(link: Link, url: str, number: int, calls: int) -> Told:
    """Child process: so many random calls."""
    chance, told = random.Random(number), []
    with opened(url) as manifest:
        link.send("ready")
        link.recv()
        for each in range(calls):
            told += call(manifest, chance, f"{number}.{each}")
            link.send(None) if each % 10 == 0 else None
    return told


def call(manifest: DownloadManifestManager, chance: random.Random, mark: str) -> Told:
    kind = chance.random()
    try:
        if kind < 0.06:
            content = sha(f"c{chance.randrange(CONTENTS)}")
            with manifest.join_run(f"forget {mark}"):
                return [(mark, "forget" if manifest.forget(content) else "nothing")]
        if kind < 0.25:
            marks = [f"{mark}.{place}" for place in range(chance.randrange(2, 7))]
            answers = manifest.add_each([_record(chance, one) for one in marks])
            return [(one, str(answer.verdict)) for one, answer in zip(marks, answers, strict=True)]
        return [(mark, str(manifest.add(_record(chance, mark)).verdict))]
    except IndeterminateWriteError:
        return [(mark, "?")]


def _record(chance: random.Random, mark: str) -> Any:
    content, minute = f"c{chance.randrange(CONTENTS)}", chance.randrange(MINUTES)
    source, dataset = f"s{chance.randrange(SOURCES)}", f"d{chance.randrange(DATASETS)}"
    return record(content, minute, source=source, dataset=dataset, version=mark, etag=f'"{chance.randrange(2)}"')


def check(manifest: DownloadManifestManager, told: Told) -> int:
    """Check everything; return the number of events."""
    events = list(manifest.history())
    written = _replayed(manifest, events)
    answered = dict(told)
    assert len(answered) == len(told)
    for mark, verdict in told:
        if verdict in ("duplicate", "nothing"):
            assert mark not in written, f"{mark} was told {verdict} and has written"
        elif verdict != "?":
            assert written.get(mark) == [verdict], f"{mark} was told {verdict}, and the log has {written.get(mark)}"
    for mark, verdicts in written.items():
        assert len(verdicts) == 1, f"{mark} was written {len(verdicts)} times"
        assert mark in answered or mark.rpartition(".")[0] in answered
    return len(events)


def _replayed(manifest: DownloadManifestManager, events: list[Event]) -> dict[str, list[str]]:
    """Replay the events in memory; return the verdicts that were written, by the mark of their call."""
    known = Records(dict(engine_of(manifest).metadata()), {})
    written: dict[str, list[str]] = {}
    rules = Rules(str(META.root_dir), manifest._engine.options.record_bytes_max)
    for event in events:
        assert event.checksum is not None
        if event.kind is EventKind.FORGET:
            assert event.was == known.row(event.checksum)
            known.remove(event.checksum)
            written.setdefault(str(event.run).removeprefix("forget "), []).append("forget")
            continue
        assert event.row is not None
        assert event.was == _changed(known.row(event.checksum), event.was)
        seen = as_seen_by(event.row, (str(event.source_id), str(event.dataset)))
        given = {name: value for name, value in seen.items() if name not in ("also_seen", "tie")}
        plan = plan_add(known, codec.encoded_row(codec.dumps(given), given), rules)
        assert plan.record is not None, f"{event} was a duplicate"
        assert codec.loads(plan.record[0]) == event.row
        known.put(plan.record)
        verdict = str(event.verdict)
        assert verdict == str(plan.answer.verdict)
        written.setdefault(given["version"], []).append(verdict)
    assert list(known.records()) == list(manifest.snapshot().records())
    return written


def _changed(before: Any, was: Any) -> Any:
    """What an event must say was there before it, if it says the members that it names truly."""
    return None if before is None else {name: before.get(name) for name in was}
