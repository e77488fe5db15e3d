"""The logs of a stage's commands: their paths, and when they are removed.

::

    <log_dir>/2026-01-31/<digits of the item>/stdout.log, stderr.log

Invariants:

- An attempt replaces the logs of an earlier attempt of the same day.
- A run that processes something removes the directories of days that ended more than `log_days` days ago, whether the
  commands succeeded or failed. It removes only directories that are named after a day. The history has the last lines
  of failed commands.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from manifestlog.files import disk
from manifestlog.stages.definition import CommandWork
from manifestlog.stages.workspace import LOGS

if TYPE_CHECKING:
    from manifestlog.stages.definition import Stage
    from manifestlog.stages.workspace import Workspace

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def directory_of(stage: Stage, workspace: Workspace) -> str:
    """Return the directory of all logs."""
    return os.fspath(stage.log_dir or os.path.join(workspace.path, LOGS))


def of_attempt(directory: str, digest: str) -> str:
    """Return the directory for the logs of an attempt that starts now."""
    return os.path.join(directory, f"{_today()}", digest)


def remove_old(stage: Stage, workspace: Workspace) -> None:
    """Remove the logs that are too old. One that cannot be removed is left to the next run."""
    if not isinstance(stage.work, CommandWork):
        return
    directory = directory_of(stage, workspace)
    oldest = f"{_today() - timedelta(days=stage.log_days)}"
    with suppress(OSError):
        for name in disk.list_names(directory):
            if _DAY.fullmatch(name) and name < oldest:
                with suppress(OSError):
                    disk.remove_tree(os.path.join(directory, name))


def _today() -> date:
    return datetime.now(UTC).date()
