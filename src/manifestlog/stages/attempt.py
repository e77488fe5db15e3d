"""One attempt at an item: checks the input, does the work, checks the input again on request.

Invariants:

- It never raises because of one item: an error of the item is a failure.

It claims, publishes and records nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manifestlog.error_texts import explained, reason
from manifestlog.files import disk
from manifestlog.stages.errors import OutputError
from manifestlog.stages.hashing import content_of
from manifestlog.stages.outcome import Failed
from manifestlog.workers.scarcity import is_scarce

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.stages.inputs import Inputs
    from manifestlog.stages.items import Item
    from manifestlog.stages.outcome import Outcome


def attempt(perform: Callable[[Item], Outcome], item: Item, inputs: Inputs, *, checks_input: bool) -> Outcome:
    """Return what came of one attempt at this item."""
    try:
        problem = inputs.fetch(item) or missing_input(item)
        if problem is not None:
            return problem
        outcome = perform(item)
    except (OSError, OutputError) as error:
        if is_scarce(error):
            raise
        return Failed(explained(error))
    return checked(item, outcome) if checks_input else outcome


def missing_input(item: Item) -> Failed | None:
    """Return why the inputs of an item cannot be used; None if all files are there, with their lengths."""
    for one in item.inputs:
        path = one.path_text
        try:
            found = disk.path_stamp(path)
        except OSError as error:
            return Failed(f"the input {path} cannot be read: {reason(error)}", is_final=True)
        if found is None:
            return Failed(f"the input {path} is missing; restore it, or run `manifestlog forget`", is_final=True)
        if found.size != one.row["file_size"]:
            length = one.row["file_size"]
            text = f"the input {path} has {found.size} bytes, recorded are {length}: run `manifestlog verify`"
            return Failed(text, is_final=True)
    return None


def checked(item: Item, outcome: Outcome) -> Outcome:
    """Return the outcome, or a failure if an input is not what upstream recorded."""
    for one in item.inputs:
        try:
            found = content_of(os.path.realpath(one.path_text)).checksum
        except OSError as error:
            said = f"cannot be read after the work: {error.strerror}; let the work leave its inputs as they are"
            return Failed(f"the input {one.path_text} {said}")
        if found != one.checksum:
            said = "is not what was recorded: it was changed before or by the work; run `manifestlog verify`"
            return Failed(f"the input {one.path_text} {said}")
    return outcome
