"""Functions of a stage: loads one, calls it with an item, and turns its result into an outcome.

Invariants:

- Whatever a function does (raise, call `sys.exit`, take too long, fork, return nonsense) becomes the outcome of its
  item.
- If a function forks, and the child returns from it, the child ends at once: it never continues its parent's work.

It publishes and records nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifestlog.files import disk
from manifestlog.model.models import ETLProcess
from manifestlog.stages.errors import NoFunctionError, OutputError
from manifestlog.stages.failure_texts import text_of_work
from manifestlog.stages.outcome import Failed, Judgement, Loaded, Made, Nothing, Output

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import FrameType

    from manifestlog.stages.definition import FunctionWork, Stage
    from manifestlog.stages.items import Item
    from manifestlog.stages.outcome import Outcome

_OUTCOMES = (Made, Nothing, Judgement, Loaded, Failed)
_EXPECTED = "expected None, a path, bytes, an Output, a list of these, or nothing(), valid(), invalid() or loaded()"
_TRACEBACK_LINES = 12
_AGAIN_S = 1.0
"""How often the time limit interrupts a function that goes on all the same."""
_CHILD_EXIT_CODE = 70


class TimeIsUpError(BaseException):
    """The time of an attempt is up. Not an `Exception`, so that a function's `except Exception` cannot go on."""


def load(work: FunctionWork, stage: str) -> Callable[..., Any]:
    """Return the function. Modules are also looked for in the working directory. Raises `NoFunctionError`."""
    if not isinstance(work.function, str):
        return work.function
    module_name, _, name = work.function.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise NoFunctionError(stage, "function", f"{work.function} cannot be loaded: {_why_not(error)}") from error
    if not callable(found):
        raise NoFunctionError(stage, "function", f"{work.function} is no function; name one")
    return found  # type: ignore[no-any-return]


def _why_not(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return 'its module ends the program when it is imported; let it do so below `if __name__ == "__main__":`'
    return f"{text_of_work(error)}; correct the name, or what the module imports"


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call of it must be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def digest(function: Callable[..., Any]) -> str:
    """Return what changes when the module of the function does, or if it has no source, its code."""
    target = inspect.unwrap(getattr(function, "func", function))
    try:
        path = inspect.getsourcefile(target)
        data = None if path is None else _bytes_of(path)
    except (OSError, TypeError):
        data = None
    if data is None:
        code = getattr(target, "__code__", None)
        data = repr(target).encode() if code is None else code.co_code + repr(code.co_consts).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def _bytes_of(path: str) -> bytes:
    fd = disk.open_read(os.path.realpath(path))
    try:
        return disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)


class Caller:
    """Calls the function of a stage."""

    def __init__(self, stage: Stage, function: Callable[..., Any]) -> None:
        self._function = function
        self._timeout_s = stage.timeout_s
        self._wants_path = _parameters(function) >= 2
        self._loads = stage.process is ETLProcess.LOADER

    def __call__(self, item: Item) -> Outcome:
        """Return what the function made of this item."""
        before = os.getpid()
        try:
            with _deadline(self._timeout_s):
                result = self._function(*self._arguments(item))
                outcome = self._outcome(item, result)
        except BaseException as error:
            if os.getpid() == before and not isinstance(error, Exception | SystemExit | TimeIsUpError):
                raise
            outcome = _failed(error, self._timeout_s)
        if os.getpid() != before:
            os._exit(_CHILD_EXIT_CODE)  # a child of the function: the item is its parent's
        return outcome

    async def awaited(self, item: Item) -> Outcome:
        """Return what the coroutine made of this item."""
        asyncio = importlib.import_module("asyncio")  # slow to import, and loaded already where this is used
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._function(*self._arguments(item))
            return self._outcome(item, result)
        except TimeoutError as error:
            return _failed(
                TimeIsUpError() if self._timeout_s is not None and not str(error) else error, self._timeout_s
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- it is the outcome of the item
            return _failed(error, self._timeout_s)

    def _arguments(self, item: Item) -> tuple[Any, ...]:
        return (item, item.output_path) if self._wants_path else (item,)

    def _outcome(self, item: Item, result: object) -> Outcome:
        if item.opened:
            return Failed("the function returned while an output was still open; let it close each output first")
        if isinstance(result, Failed) and not result.error.strip():
            return result._replace(error="the function returned a failure that does not say why")
        if isinstance(result, _OUTCOMES):
            if item.outputs and isinstance(result, Made):
                return Made((*item.outputs, *result.outputs))
            return result
        outputs = item.written() if result is None else [*item.outputs, *_outputs(result)]
        if self._wants_path and result is None and not outputs:
            name = item.output_path.name
            return Failed(f"the function wrote nothing to {name}: let it return nothing() if that is meant")
        if outputs:
            return Made(tuple(outputs))
        return Loaded() if self._loads else Nothing()


def _parameters(function: Callable[..., Any]) -> int:
    """Return how many positional arguments a function must be given, of which it takes one or two."""
    try:
        found = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in found)


def _outputs(result: object) -> Iterator[Output]:
    """Yield the outputs that a function has returned. Raises `OutputError`."""
    if result is None:
        return
    if isinstance(result, Output):
        yield result
    elif isinstance(result, bytes):
        yield Output(data=result)
    elif isinstance(result, str | os.PathLike):
        yield Output(Path(result))
    elif isinstance(result, Iterable) and not isinstance(result, dict):
        for one in result:
            yield from _outputs(one)
    else:
        raise OutputError(f"the function returned {result!r:.80}: {_EXPECTED}")


def _failed(error: BaseException, timeout_s: float | None) -> Failed:
    if isinstance(error, TimeIsUpError):
        return Failed(f"it took longer than timeout_s ({timeout_s:g} s)", stderr=_end_of_traceback(error))
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return Failed(f"the function called sys.exit({error.code!r:.80})", code, _end_of_traceback(error))
    return Failed(text_of_work(error), stderr=_end_of_traceback(error))


def _end_of_traceback(error: BaseException) -> str | None:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(lines[-_TRACEBACK_LINES:]) if error.__traceback__ is not None else None


# -- the time limit ----------------------------------------------------------------------------------------------------


def _deadline(seconds: float | None) -> AbstractContextManager[None]:
    if seconds is None or threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _alarm(seconds)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `TimeIsUpError` in the block after so many seconds, again and again until it ends."""

    def is_up(_number: int, _frame: FrameType | None) -> None:
        raise TimeIsUpError

    before = signal.signal(signal.SIGALRM, is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
