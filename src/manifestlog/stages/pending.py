"""Makes items from pending records: one for each record, or one for each group with a new member.

Invariants:

- Without groups, items are made one by one from the records in order; memory does not grow with them.
- A group has the latest record of each source in the group. A group whose pending members were all replaced is not an
  item.
- Records that another version has made again are left out, even if that happened since the first look.

It reads the upstream manifest, and writes nothing.
"""

from __future__ import annotations

import fnmatch
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.model import codec
from manifestlog.model.events import EventKind
from manifestlog.model.rows import as_seen_by, observations, sort_key, source_key
from manifestlog.stages.items import ItemTask
from manifestlog.stages.naming import GroupKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from manifestlog.manager import AbstractManifest
    from manifestlog.model.rows import Row
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.look import Between, Look
    from manifestlog.stages.rule import Rule

_ONE_BY_ONE_SHARE = 16
"""A lookup takes ten times as long as a record in order."""
Pair = tuple[str, bytes]
"""A checksum and its encoded row."""


def tasks(between: Between, look: Look, stage: Stage) -> Iterator[ItemTask]:
    """Yield an item for everything that is pending. With groups, the look then lacks what will never be an item."""
    if stage.group_by is None:
        for checksum, raw in _records(between.upstream, look.pending):
            if not is_superseded(between.upstream, raw):
                yield ItemTask(checksum, (raw,), is_doubtful=checksum in look.doubtful)
    else:
        yield from _groups(between, look, GroupKey(stage.name, stage.group_by))


def _records(upstream: AbstractManifest, checksums: Collection[str]) -> Iterator[Pair]:
    """Yield these records, sorted: one by one if they are few, or else as they come in a snapshot."""
    if not checksums:
        return
    now = upstream.snapshot()
    if len(checksums) * _ONE_BY_ONE_SHARE < len(now):
        for checksum in sorted(checksums):
            raw = now.encoded(checksum)
            if raw is not None:  # not forgotten meanwhile
                yield checksum, raw
    else:
        for some in now.batches():
            yield from (pair for pair in some if pair[0] in checksums)


def is_superseded(upstream: AbstractManifest, raw: bytes) -> bool:
    """Return whether another version has made other outputs of the same inputs since."""
    if b'"derived_from":[' not in raw:
        return False
    row = codec.loads(raw)
    current = upstream.snapshot().latest(*source_key(row))
    if current is None or current["checksum"] == row["checksum"] or not upstream.has_history:
        return False
    made = upstream.derived(row["derived_from"][0])
    return made is not None and made.version != row["version"] and sorted(made.inputs) == sorted(row["derived_from"])


# -- groups ------------------------------------------------------------------------------------------------------------


def _groups(between: Between, look: Look, key_of: GroupKey) -> Iterator[ItemTask]:
    wanted: dict[str, set[str]] = defaultdict(set)
    for checksum, raw in _records(between.upstream, look.pending):
        key = key_of.of(codec.loads(raw))
        if key is not None:
            wanted[key].add(checksum)
    look.pending &= set().union(*wanted.values())
    members = _members(between, look, key_of, wanted.keys())
    for key in sorted(wanted):
        found = {row["checksum"]: (sort_key(row), raw) for row, raw in members.get(key, {}).values()}
        are_new = wanted[key] & found.keys()
        look.pending -= wanted[key] - are_new
        if are_new:
            rows = tuple(raw for _, raw in sorted(found.values()))
            yield ItemTask(key, rows, is_doubtful=bool(are_new & look.doubtful))


def _members(
    between: Between, look: Look, key_of: GroupKey, keys: Iterable[str]
) -> dict[str, dict[tuple[str, str], tuple[Row, bytes]]]:
    """Return of each of these groups the latest record of each source."""
    wanted = set(keys)
    found: dict[str, dict[tuple[str, str], tuple[Row, bytes]]] = defaultdict(dict)
    for some in between.upstream.snapshot().batches() if wanted else ():
        for (checksum, raw), row in zip(some, codec.loads_all(raw for _, raw in some), strict=True):
            if not between.where.admits(row) or not look.accepts(between.where, checksum):
                continue
            key = key_of.of(row)
            if key in wanted:
                _keep_latest(found[key], row, raw)
    return found


def _keep_latest(group: dict[tuple[str, str], tuple[Row, bytes]], row: Row, raw: bytes) -> None:
    """Put a record into a group, unless the group has a later one of every source that it is from."""
    for seen in observations(row):
        pair = source_key(seen)
        other = group.get(pair)
        if other is None or sort_key(as_seen_by(other[0], pair)) < sort_key(seen):
            group[pair] = row, raw


# -- what is left out --------------------------------------------------------------------------------------------------


def matching(only: str) -> Callable[[ItemTask], bool]:
    """Return whether an item matches a pattern: the path, source_id or dataset of an input, or the key of a group."""

    def matches(task: ItemTask) -> bool:
        rows = map(codec.loads, task.rows)
        texts = [task.key, *(row[name] for row in rows for name in ("file_path", "source_id", "dataset"))]
        return any(fnmatch.fnmatchcase(text, only) for text in texts)

    return matches


def failed_attempts(outputs: AbstractManifest, rule: Rule) -> Counter[tuple[str, ...]]:
    """Return how often each item failed by this rule's version and code, by its inputs."""
    if not outputs.has_history:
        return Counter()
    events = outputs.history(kinds=[EventKind.FAILED])
    return Counter(tuple(sorted(event.inputs)) for event in events if event.inputs and rule.counts_attempt(event))


def inputs_of(task: ItemTask) -> tuple[str, ...]:
    """Return the checksums of an item's inputs, sorted."""
    return tuple(sorted(codec.loads(raw)["checksum"] for raw in task.rows))


class Choice(NamedTuple):
    """Which of the pending items a run takes up."""

    only: str | None = None
    """A pattern; see `matching`."""
    retry_failed: bool = False
    """Whether it takes up what was given up."""
    leave_out: Collection[str] = ()
    """The keys of items that it does not take up."""

    @property
    def takes_all(self) -> bool:
        """Whether nothing pending is left out, but for what was given up."""
        return self.only is None and not self.leave_out

    def of(self, stage: Stage, between: Between, look: Look) -> tuple[Iterator[ItemTask], list[ItemTask]]:
        """Return the items to do, and those that were given up."""
        found = tasks(between, look, stage)
        if self.only is not None:
            found = filter(matching(self.only), found)
        if self.leave_out:
            found = (task for task in found if task.key not in self.leave_out)
        if stage.give_up_after is None or self.retry_failed:
            return found, []
        failed = failed_attempts(between.outputs, between.rule)
        exhausted = {inputs for inputs, count in failed.items() if count >= stage.give_up_after}
        if not exhausted:
            return found, []
        wanted: list[ItemTask] = []
        given_up: list[ItemTask] = []
        for task in found:
            (given_up if inputs_of(task) in exhausted else wanted).append(task)
        return iter(wanted), given_up
