"""Shows what is pending for a stage as of its last run, without its configuration.

The look that a run has stored beside the manifest names the upstream manifest, the condition, the version, and how
items are grouped.

Invariants:

- It reads the same as a run with nothing pending: the stored look, and the events since. It writes nothing, and never
  makes a new look.
- A number is true for the stage as it last ran. A fact that the stored look does not contain is None, never a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manifestlog.errors import ManifestError
from manifestlog.managers import reader_of
from manifestlog.names import files_of, location_in
from manifestlog.stages import kept_look
from manifestlog.stages.definition import Rerun, Stage
from manifestlog.stages.look import Between
from manifestlog.stages.pending import tasks
from manifestlog.stages.rule import Rule
from manifestlog.stages.where import Where

if TYPE_CHECKING:
    import os


def pending_count(path: str | os.PathLike[str]) -> int | None:
    """Return how many items are pending for the stage that writes the manifest at this path; None if that is not known.

    It is known if the last run of the stage has kept a look beside the manifest, in whose directory its upstream is.
    """
    files = files_of(path)
    told = kept_look.members_of(files.pending) if files.directory else None
    if told is None or "group_by" not in told:
        return None
    try:
        return _count(files.canonical, files.directory, told)
    except (ManifestError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the row of the manifest itself says what is wrong with it


def _count(path: str, directory: str, told: dict[str, Any]) -> int | None:
    about, group_by = told["about"], told["group_by"]
    rule = Rule(about["stage"], about["version"], Rerun(about["rerun"]), about["code"])
    conditions = about["where"].items()
    given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in conditions}
    where = Where(**given)
    with reader_of(location_in(directory, about["upstream"])) as upstream, reader_of(path) as outputs:
        between = Between(upstream, outputs, where, rule, files_of(path).pending, group_by)
        look = kept_look.renewed(between)
        if look is None:
            return None
        stage = Stage(upstream.location.name, outputs.location.name, name=rule.stage, group_by=group_by)
        return sum(1 for _ in tasks(between, look, stage))
