"""The first stage of the demo: is a download what it should be?"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

from manifestlog.stages import invalid, valid

if TYPE_CHECKING:
    from manifestlog.stages import Judgement
    from manifestlog.stages.items import Item


def complete(item: Item) -> Judgement:
    """Judge a dump: a list of objects, at least one, each with a time."""
    try:
        rows = json.loads(gzip.decompress(item.path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        return invalid(f"not compressed JSON: {error}")
    if not rows:
        return invalid("no rows")
    bad = sum("date" not in row and "updateTime" not in row for row in rows)
    return invalid(f"rows without a time: {bad}") if bad else valid()
