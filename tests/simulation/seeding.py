"""Switches a safeguard of the engine off, and keeps the scenarios that have to notice.

Invariants:

- A safeguard is switched off by replacing text in the source of one function; the text must occur there exactly once. So when the
  engine changes, the list of safeguards fails until it is true again.
- A scenario is a test's own body, or its own explorer and checker on fewer cases: what is proved here is proved of the tests.
- What a scenario begins with (disks, histories) is made with every safeguard in place, and once.

It decides nothing about which safeguards there are (`safeguards`).
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Edit(NamedTuple):
    """In the source of `where` (`module:function` or `module:Class.method`, below `manifestlog`), `new` for `old`."""

    where: str
    old: str
    new: str


class Safeguard(NamedTuple):
    """`scenario` names one of `scenarios`."""

    name: str
    protects: str
    scenario: str
    edits: tuple[Edit, ...]


def one(name: str, protects: str, scenario: str, *edit: str) -> Safeguard:
    return Safeguard(name, protects, scenario, (Edit(*edit),))


@contextmanager
def edited(edits: Sequence[Edit]) -> Iterator[None]:
    """The engine with these changes, until the end of the block; several may change one function, in this order."""
    with ExitStack() as patches:
        for where in dict.fromkeys(edit.where for edit in edits):
            owner, name, made = _remade(where, [edit for edit in edits if edit.where == where])
            patches.enter_context(mock.patch.object(owner, name, made))
        yield


def _remade(where: str, edits: Sequence[Edit]) -> tuple[Any, str, Any]:
    module_name, _, path = where.partition(":")
    module = importlib.import_module(f"manifestlog.{module_name}")
    *outer, name = path.split(".")
    owner: Any = module
    for part in outer:
        owner = getattr(owner, part)
    source = textwrap.dedent(inspect.getsource(_function(vars(owner)[name])))
    for edit in edits:
        assert source.count(edit.old) == 1, f"{where} says {source.count(edit.old)} times {edit.old!r}"
        source = source.replace(edit.old, edit.new)
    code = compile(source, f"<{where}, seeded>", "exec", __future__.annotations.compiler_flag, dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, vars(module), made)
    return owner, name, made[name]


def _function(found: Any) -> Any:
    if isinstance(found, property):
        return found.fget
    return found.__func__ if isinstance(found, classmethod) else found


@contextmanager
def missed(edit: Edit, *errors: type[BaseException]) -> Iterator[None]:
    """A block that has to raise one of these errors with this change, and not because the change itself is wrong."""
    with edited([edit]), pytest.raises(errors) as raised:
        yield
    for cause in causes(raised.value):
        assert not isinstance(cause, NameError | SyntaxError), f"the change itself is wrong: {cause!r}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and everything that it came of."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
