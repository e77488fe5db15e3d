"""Commands of a stage: expands the arguments for an item, runs the command, and turns its result into an outcome.

Invariants:

- An argument stays one argument, whatever a name contains; no shell is involved.
- A command that had to write an output and did not has failed, whatever its exit code.

`command` runs it; this module publishes and records nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog.files import disk, system
from manifestlog.model.models import ETLProcess
from manifestlog.stages import command_logs, naming, placeholders
from manifestlog.stages.command import is_too_long, run_command
from manifestlog.stages.errors import CommandNotStartedError
from manifestlog.stages.failure_texts import if_nothing
from manifestlog.stages.hashing import content_of
from manifestlog.stages.outcome import Failed, Judgement, Loaded, Made, Nothing, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from manifestlog.stages.command import CommandResult
    from manifestlog.stages.definition import CommandWork, Stage
    from manifestlog.stages.guard import Guard
    from manifestlog.stages.items import Item
    from manifestlog.stages.outcome import Outcome
    from manifestlog.stages.workspace import Workspace
    from manifestlog.workers.stop import Stop

INVALID_EXIT_MAX = 125
"""Higher exit codes come from shells and `timeout`: the command could not run."""
_SCRIPT_BYTES_MAX = 1 << 20


def digest(work: CommandWork) -> str:
    """Return what changes when the command does, or a script that it names."""
    found = hashlib.sha256("\0".join(work.argv).encode(errors="surrogatepass"))
    for argument in work.argv:
        path = os.path.realpath(os.path.join(work.cwd or "", argument))
        stamp = disk.path_stamp(path) if os.sep in path and "{" not in argument and argument else None
        if stamp is not None and stamp.size <= _SCRIPT_BYTES_MAX and not disk.is_directory(path):
            found.update(content_of(path).checksum.encode())
    return found.hexdigest()[:16]


class Commander:
    """Runs the command of a stage."""

    def __init__(
        self,
        stage: Stage,
        work: CommandWork,
        workspace: Workspace,
        held: Callable[[], Collection[int]],
        guard: Guard,
        stop: Stop,
    ) -> None:
        self._stage, self._work = stage, work
        self._workspace, self._held, self._guard, self._stop = workspace, held, guard, stop
        texts = (*work.argv, *work.env.values())
        self._uses = set().union(*map(placeholders.names_in, texts))
        self._program = _found(work)
        self._logs = command_logs.directory_of(stage, workspace)

    def __call__(self, item: Item) -> Outcome:
        """Run the command for this item, and return what came of it. Raises `StopAskedError`, `CommandNotStartedError`."""
        values = self._values(item)
        try:
            result = self._run(item, values)
        except CommandNotStartedError as error:
            raise CommandNotStartedError(error.program, error.reason, self._stage.name) from None
        except OSError as error:
            if not is_too_long(error):
                raise
            return Failed(_too_long(item), is_final=True)
        return self._outcome(values, result)

    def _run(self, item: Item, values: Mapping[str, str]) -> CommandResult:
        return run_command(
            self._arguments(item, values),
            cwd=self._work.cwd,
            env=self._environment(values),
            timeout_s=self._stage.timeout_s,
            log_dir=command_logs.of_attempt(self._logs, item.digest),
            stop=self._stop,
            held=self._held(),
            guard=self._guard,
            program=self._program,
        )

    def _environment(self, values: Mapping[str, str]) -> dict[str, str] | None:
        """Return the variables of the command; None if they are those of this process, whose copy takes its time."""
        own = {name: placeholders.expand(text, values) for name, text in self._work.env.items()}
        return {**os.environ, **own} if own else None

    def _values(self, item: Item) -> dict[str, str]:
        values = naming.values_of(item, self._stage.name, self._stage.version)
        values["input"] = item.inputs[0].path_text
        if "output" in self._uses:
            values["output"] = str(item.output_path)
        if "output_dir" in self._uses:
            values["output_dir"] = self._workspace.output_dir_of(item)
        return values

    def _arguments(self, item: Item, values: Mapping[str, str]) -> list[str]:
        found: list[str] = []
        for argument in self._work.argv:
            if argument == "{inputs}":
                found += map(str, item.paths)
            else:
                found.append(placeholders.expand(argument, values))
        return found

    def _outcome(self, values: Mapping[str, str], result: CommandResult) -> Outcome:
        work = self._work
        problem = result.problem(self._stage.timeout_s)
        has_exited = result.exit_code is not None and not result.timed_out
        if has_exited and result.exit_code == work.nothing_exit:
            return Nothing(_last_line(result.stderr_tail))
        if work.judges and has_exited and 0 < (result.exit_code or 0) <= INVALID_EXIT_MAX:
            return Judgement(is_valid=False, why=_last_line(result.stderr_tail) or _explained(result, problem or ""))
        if problem is not None:
            return _failed(result, f"the command {problem}")
        if work.judges:
            return Judgement(is_valid=True)
        if "output" in values and disk.is_directory(values["output"]):
            return _failed(result, "the command made a directory of {output}; for several files there is {output_dir}")
        outputs = [Output(Path(path)) for path in self._written(values)]
        if not outputs and self._uses & {"output", "output_dir"}:
            where = "{output}" if "output" in self._uses else "files into {output_dir}"
            advice = f"let it write {where}, or {if_nothing(work)}"
            return _failed(result, "the command exited with 0 and wrote no output", advice)
        if outputs:
            return Made(tuple(outputs))
        return Loaded() if self._stage.process is ETLProcess.LOADER else Nothing()

    def _written(self, values: Mapping[str, str]) -> list[str]:
        single = [values["output"]] if "output" in values and system.has_name(values["output"]) else []
        return single + (system.files_below(values["output_dir"]) if "output_dir" in values else [])


def _too_long(item: Item) -> str:
    if len(item.inputs) == 1:
        return "the command line is longer than the system allows; shorten `command`, or its variables in `env`"
    return (
        f"the command line with {len(item.inputs):,} inputs is longer than the system allows;"
        " make the groups smaller (group_by), or process them with a function"
    )


def _found(work: CommandWork) -> str | None:
    """Return the path of a program that is named without one; None leaves the search to each start of the command."""
    name = work.argv[0]
    if os.sep in name or "{" in name or "PATH" in work.env:
        return None
    for directory in os.get_exec_path():
        path = os.path.join(directory, name)
        if not os.path.isabs(path):
            return None  # it depends on the working directory of the command
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _failed(result: CommandResult, error: str, advice: str | None = None) -> Failed:
    code = result.exit_code if result.signal is None else -result.signal
    text = "; ".join(filter(None, (_explained(result, error), advice)))
    return Failed(text, code, result.stderr_tail or None)


def _explained(result: CommandResult, error: str) -> str:
    """Return an error with the last line that the command printed; if it has nothing on stderr, with the file of the rest."""
    if last := _last_line(result.stderr_tail):
        return f"{error}: {last}"
    if last := _last_line(result.stdout_tail):
        where = f" (its output: {os.path.abspath(result.stdout_path)})" if result.stdout_path else ""
        return f"{error}{where}: {last}"
    return f"{error} and printed nothing" if result.exit_code and not result.timed_out else error


def _last_line(text: str) -> str | None:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else None
