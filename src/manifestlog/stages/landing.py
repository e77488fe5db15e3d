"""Landing: publishes and records the outcomes of items, together with those of other items of the worker.

::

    (1) hash each output in work, sync it                 a crash leaves files in the working directory
    (2) choose each output's name, under a claim on it
    (3) write what is about to happen: the intent, sync   a crash leaves complete outputs and their intent
    (4) give the outputs their names, sync directories    ... some of them under their names, without a record
    (5) record them and their derivations in one write    ... all of it done, and an intent
    (6) remove the intent, and the names in work

Invariants:

- An output has its name only after all its bytes are durable, and a record only after its name is.
- A name never gets other content. An output whose name is taken gets its checksum's first digits in its name.
- An item's records are in one write, so after any crash it is done or not done.
- The next run finishes or removes everything that an intent names (`leftovers`).
- A failure of one item does not affect the others.
- If another host may have taken over items, because this one was stopped or cut off, they get no name and no record. An
  output that already has its name keeps it, as after a crash: the other host may have found it there.

With `durability` below `POWER_CUT`, nothing is synced here either. It does not know functions or commands;
`failure_texts` puts advice into their terms.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING

from manifestlog.files import disk, system
from manifestlog.server_errors import ClaimLostError
from manifestlog.stages import intent, naming
from manifestlog.stages.arrival import Arrival, Landing, Ready
from manifestlog.stages.errors import OutputError
from manifestlog.stages.failure_texts import if_nothing
from manifestlog.stages.hashing import Content, content_of, has_content, why_no_file
from manifestlog.stages.outcome import Made
from manifestlog.stages.register import record
from manifestlog.stages.syncing import sync_all
from manifestlog.stages.workspace import MANY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manifestlog.stages.items import Item
    from manifestlog.stages.outcome import Output

PLACE_WAIT_S = 60.0


def land(landing: Landing, arrivals: Sequence[Arrival]) -> None:
    """Publish and record the outcomes of these items. An item that cannot be recorded has its error afterwards.

    Raises `ManifestError` if the manifest fails; nothing of an item is then recorded, or all of it.
    """
    prepared = [one for one in arrivals if _prepare(landing, one)]
    if landing.is_durable:
        _sync_outputs(prepared)
    _still_held(landing, [one for one in arrivals if one.error is not None])  # another host may have tidied it away
    _land_ready([one for one in arrivals if one.error is None], landing)
    for one in arrivals:
        if one.is_deferred and one.error is None:
            _land_ready([one], landing, wait_s=PLACE_WAIT_S)
    for one in arrivals:
        with suppress(OSError):  # the next run removes what is left
            landing.workspace.clear(one.item)


def _land_ready(arrivals: Sequence[Arrival], landing: Landing, *, wait_s: float = 0.0) -> None:
    with ExitStack() as held:
        chosen = _Chosen(landing, held, wait_s)
        for one in arrivals:
            _choose(chosen, one)
        placed = _still_held(landing, [one for one in arrivals if one.error is None and not one.is_deferred])
        with intent.written(landing, placed) if chosen.published and placed else nullcontext():
            linked = _publish(landing, placed)
            _still_held(
                landing, [one for one in placed if one.error is not None]
            )  # a name may be another host's by now
            record(landing, [one for one in placed if one.error is None])
            failed = [one for one in placed if one.error is not None and not isinstance(one.error, ClaimLostError)]
            _withdraw([output.path for one in failed for output in one.outputs], linked)


def _still_held(landing: Landing, arrivals: list[Arrival]) -> list[Arrival]:
    """Return these items, or none if another host has taken over what this worker had."""
    try:
        if arrivals:
            landing.claims.ensure_held()
    except ClaimLostError as error:
        for one in arrivals:
            one.error = error
        return []
    return arrivals


# -- (1) prepare -------------------------------------------------------------------------------------------------------


def _prepare(landing: Landing, one: Arrival) -> bool:
    """Hash the outputs of an item; return whether its bytes are still to be synced."""
    if not isinstance(one.outcome, Made) or one.outputs:
        return False
    try:
        given = one.outcome.outputs
        are_distinct = len({_pair(landing, one, output) for output in given}) == len(given)
        outputs = [_ready(landing, one, output, is_distinct=are_distinct) for output in given]
        if len({output.path for output in outputs}) < len(outputs):
            raise OutputError(_twice(outputs))  # noqa: TRY301 -- kept as the item's error
        one.outputs = outputs
    except (OSError, OutputError) as error:
        one.error = error
    return one.error is None


def _sync_outputs(arrivals: Sequence[Arrival]) -> None:
    """Make the bytes of outputs durable. An item of which one cannot be synced has its error afterwards."""
    paths = {_made_at(output) for one in arrivals for output in one.outputs}
    _blame(arrivals, sync_all(disk.sync_file, paths), _made_at)


def _made_at(output: Ready) -> str:
    return output.work or output.path


def _blame(arrivals: Sequence[Arrival], errors: Mapping[str, OSError], path_of: Callable[[Ready], str]) -> None:
    """Give an item the error of a path that one of its outputs depends on."""
    for one in arrivals:
        for error in filter(None, (errors.get(path_of(output)) for output in one.outputs)):
            one.error = one.error or error


def _pair(landing: Landing, one: Arrival, output: Output) -> tuple[str, str]:
    """Return the source that an output is of, before it is told apart from others of the item."""
    return output.source_id or one.item.source_id, output.dataset or landing.stage.dataset or one.item.dataset


def _ready(landing: Landing, one: Arrival, output: Output, *, is_distinct: bool) -> Ready:
    path, name = _where(landing, one.item, output)
    final = os.path.join(landing.workspace.output_dir, name)
    content = _content(path, path if path == final else name)
    if not content.size:
        raise OutputError(f"the output {name} is empty: {if_nothing(landing.stage.work)}")
    source_id, dataset = _pair(landing, one, output)
    if not is_distinct and output.source_id is None:
        source_id = f"{source_id}/{os.path.basename(name)}"
    return Ready(None if path == final else path, final, content, source_id, dataset)


def _content(path: str, shown: str) -> Content:
    """Return what an output holds. Raises `OutputError`, with the path as it is to be shown, if it is no regular file."""
    try:
        return content_of(path)
    except FileNotFoundError:
        raise OutputError(f"the output {shown} is missing; write it before the work ends") from None
    except OSError:
        if (reason := why_no_file(path)) is None:
            raise
        raise OutputError(f"the output {shown} {reason}") from None


def _twice(outputs: Sequence[Ready]) -> str:
    ((path, count),) = Counter(output.path for output in outputs).most_common(1)
    return f"{count} outputs of the item have the name {path}; give each a name of its own"


def _where(landing: Landing, item: Item, output: Output) -> tuple[str, str]:
    """Return where an output is, and its name below the output directory. Raises `OutputError`."""
    workspace = landing.workspace
    if output.data is not None:
        name = workspace.default_name(item) if output.name is None else naming.checked(output.name)
        return workspace.write(item, output.data), name
    if output.path is None:
        raise OutputError("an output has neither a path nor data; give `Output` one of them")
    path = os.path.abspath(output.path)
    in_work = workspace.prefix_of(item)
    if not path.startswith(in_work):  # to resolve links takes as long as all the rest
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    real = path
    if real.startswith(in_work):
        return real, _name_of(workspace.default_name(item), real[len(in_work) :], output.name)
    inside = workspace.output_dir + os.sep
    if not real.startswith(inside) or real.startswith(workspace.path + os.sep):
        raise naming.OutputNameError(
            str(output.path), f"it is not below the output directory {workspace.output_dir}; write it there"
        )
    return real, naming.checked(real[len(inside) :])


def _name_of(default: str, in_work: str, given: str | None) -> str:
    if given is not None:
        return naming.checked(given)
    if in_work.startswith(MANY + os.sep):
        return naming.checked(os.path.join(os.path.dirname(default), in_work[len(MANY) + 1 :]))
    return default


# -- (2) choose --------------------------------------------------------------------------------------------------------


class _Chosen:
    """The names that a group of items has, and the claims on them."""

    def __init__(self, landing: Landing, held: ExitStack, wait_s: float) -> None:
        self.landing = landing
        self.published: dict[str, Ready] = {}
        """The outputs that get their name now, by path."""
        self._held, self._wait_s = held, wait_s
        self._claimed: set[str] = set()

    def claim(self, path: str) -> bool:
        """Claim a path until the group has landed; return whether no other worker has it."""
        if path not in self._claimed:
            claim = self.landing.claims.claim("place", path, wait_s=self._wait_s)
            if self._held.enter_context(claim):
                self._claimed.add(path)
        return path in self._claimed

    def holds(self, path: str, content: Content) -> bool | None:
        """Return whether this path has, or gets, this content; None if it is free."""
        if path in self.published:
            return self.published[path].content == content
        if not system.has_name(path):
            return None
        return has_content(path, content)


def _choose(chosen: _Chosen, one: Arrival) -> None:
    outputs: list[Ready] = []
    try:
        one.is_deferred = False
        for output in one.outputs:
            outputs.append(_placed(chosen, output))
            if outputs[-1].work is not None:
                chosen.published[outputs[-1].path] = outputs[-1]
        one.outputs = outputs
        return
    except _BusyError:
        one.is_deferred = True
    except (OSError, OutputError) as error:
        one.error = error
    for output in outputs:
        if output.work is not None:
            del chosen.published[output.path]


class _BusyError(Exception):
    """Another worker has a name that is needed."""


def _placed(chosen: _Chosen, output: Ready) -> Ready:
    """Return the output with the path that it gets; without a path in work, if its content is there already."""
    if output.work is None:
        if not chosen.claim(output.path):
            raise _BusyError
        return output
    _make_directory(chosen.landing, os.path.dirname(output.path))
    for path in (output.path, naming.alternate(output.path, output.content.checksum)):
        if not chosen.claim(path):
            raise _BusyError
        there = chosen.holds(path, output.content)
        if there is None:
            return output._replace(path=path)
        if there:
            return output._replace(path=path, work=None)
    raise OutputError(f"both names for the output {output.path} are taken by other files; move them away")


def _make_directory(landing: Landing, path: str) -> None:
    """Create a directory of outputs, durably. Raises `OutputError` if a file, or a link that leads out, has a name in it."""
    if path in landing.directories:
        return
    with suppress(NotADirectoryError):  # told below
        disk.make_directory(path)
    root = landing.workspace.output_dir
    if os.path.commonpath([os.path.realpath(path), root]) != root:
        raise naming.OutputNameError(
            path, f"a link in it leads out of the output directory {root}; put a directory in its place"
        )
    if not disk.is_directory(os.path.realpath(path)):
        raise naming.OutputNameError(
            path, "a file has the name of a directory in it; move it away, or correct `output`"
        )
    landing.directories.add(path)


# -- (4) publish -------------------------------------------------------------------------------------------------------


def _publish(landing: Landing, arrivals: Sequence[Arrival]) -> set[str]:
    """Give the outputs of these items their names, and return those that are new.

    They keep their names in work until all is recorded. Otherwise a power cut could undo the new name and not the removal of
    the old one, and the output would have none.
    """
    linked: set[str] = set()
    for one in arrivals:
        try:
            for output in one.outputs:
                if output.work is not None:
                    disk.link_new(output.work, output.path)
                    linked.add(output.path)
        except OSError as error:
            landing.directories.clear()  # one may have been removed meanwhile
            one.error = error
    if landing.is_durable:
        _sync_directories(arrivals)
    return linked


def _sync_directories(arrivals: Sequence[Arrival]) -> None:
    """Make the names of outputs durable. Where that fails, no item may record a path in that directory."""
    # Also for an output that was there already: the run that put it there may have died before its sync.
    directories = {_directory_of(output) for one in arrivals for output in one.outputs}
    _blame(arrivals, sync_all(disk.sync_directory, directories), _directory_of)


def _directory_of(output: Ready) -> str:
    return os.path.dirname(output.path)


def _withdraw(paths: Sequence[str], linked: set[str]) -> None:
    """Remove the names that items got just now of which nothing is recorded."""
    for path in linked.intersection(paths):
        with suppress(OSError):
            disk.remove(path)
