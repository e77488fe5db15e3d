"""`follow`: print each event of manifests as it happens, or run a command for each.

Invariants:

- A position is stored only after its event was printed, or its command has succeeded. So a follower that is killed
  repeats the last events, and skips none.
- SIGTERM and Ctrl-C end it between two events, never inside one. A second signal ends it at once.
"""

import os
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from manifestlog.cli import signals, target, validators
from manifestlog.cli.invoke import INTERRUPTED, CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import event_lines, output
from manifestlog.following import POLL_S
from manifestlog.managers import DownloadManifestManager
from manifestlog.model import codec
from manifestlog.model.events import Event, event_members
from manifestlog.model.followers import follower
from manifestlog.names import name_of

_SAVE_EVERY_S = 0.1
_SAVE_AGAIN_S = 3600.0
"""A position that does not move is saved again after this time, because a registration ends by its age."""

_Deal = Callable[[str, Event], bool]
"""Prints an event of the manifest with this name, or runs the command for it; returns whether that is done."""

_ManifestsArgument = Annotated[
    list[str], typer.Argument(metavar="MANIFEST...", help="Names or paths of manifests.", show_default=False)
]
_FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="CURSOR|start|now",
        callback=validators.filled,
        help="Where to begin [default: the saved position of --name, else now].",
    ),
]
_ExecOption = Annotated[
    str | None,
    typer.Option(
        "--exec",
        metavar="COMMAND",
        callback=validators.filled,
        help="Instead of printing, run this command for each event, without a shell, with the event's JSON on stdin.",
    ),
]
_NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        callback=validators.filled,
        help="Remember the position under this name; the next call with it continues there.",
    ),
]


def _argv(text: str | None) -> list[str] | None:
    """Split the command into words, as a shell does. A command that does not exist is a usage error."""
    if text is None:
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r:.80} cannot be split into words: {error}", param_hint="--exec") from None
    if not words or shutil.which(words[0]) is None:
        raise typer.BadParameter(f"{text!r:.80}: no such command", param_hint="--exec")
    return words


def _checked_registration(name: str | None, keep: str) -> None:
    if name is None:
        return
    try:
        follower(name, "", datetime.now(UTC).isoformat(), keep)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--name / --keep") from None


def follow(
    settings: Settings,
    manifests: _ManifestsArgument,
    *,
    begin: _FromOption = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON event per line. --json does the same.")
    ] = False,
    command: _ExecOption = None,
    name: _NameOption = None,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="AGE",
            help="How long the history keeps events for --name, counted from its last position.",
        ),
    ] = "30d",
) -> int:
    """Print each event once, as it happens.

    Prints the columns of `log`; then the manifest, if several are named. If the history no longer reaches back to the
    position, prints `reset` and then the present records. Ends with exit code 1 when a command fails. SIGTERM ends it
    with exit code 0, Ctrl-C with 130.
    """
    argv = _argv(command)
    _checked_registration(name, keep)
    if begin not in (None, "now", "start") and len(manifests) > 1:
        raise typer.BadParameter("a cursor belongs to one manifest; name only that one", param_hint="--from")
    if argv is not None and (jsonl or settings.as_json):
        raise typer.BadParameter("prints nothing, so it takes no --json or --jsonl", param_hint="--exec")
    paths = list(dict.fromkeys(target.resolved(target.locate(settings, manifest)) for manifest in manifests))
    with ExitStack() as stack, signals.collected() as caught, output.ignore_broken_pipe():
        found = [_Followed(stack, settings, path, begin=begin, name=name, keep=keep) for path in paths]
        if not settings.as_json:  # stderr then holds nothing but the object of an error
            output.notice(settings, f"following {', '.join(one.manifest for one in found)} until SIGTERM or Ctrl-C")
        if argv is not None:
            _serve(found, lambda manifest, event: _execute(argv, manifest, event, caught), caught, every_event=True)
        else:
            show = _json_line if jsonl or settings.as_json else _columns(several=len(found) > 1)
            _serve(found, lambda manifest, event: _print(show(manifest, event)), caught, every_event=False)
    return INTERRUPTED if signal.SIGINT in caught else 0


class _Followed:
    """One manifest that is followed, and the position to remember."""

    def __init__(
        self, stack: ExitStack, settings: Settings, path: str, *, begin: str | None, name: str | None, keep: str
    ) -> None:
        opened = DownloadManifestManager(path, options=settings.options(), read_only=name is None)
        self._manager = stack.enter_context(opened)
        self.manifest = name_of(path)
        self._name, self._keep = name, keep
        self._saved_at = 0.0
        self._saved: str | None = None
        since = self._since(begin)
        self.feed = self._manager.feed(since)
        self.save()

    def _since(self, begin: str | None) -> str | None:
        known = None if self._name is None else self._manager.followers().get(self._name)
        if begin is None and known is not None:
            self._saved = known.cursor
            return known.cursor
        return {None: self._manager.cursor, "now": self._manager.cursor, "start": None}.get(begin, begin)

    def save(self, *, at_once: bool = True) -> None:
        """Remember the position, if it has a name."""
        passed_s = time.monotonic() - self._saved_at
        moved = self.feed.cursor != self._saved and (at_once or passed_s >= _SAVE_EVERY_S)
        if self._name is not None and (moved or passed_s >= _SAVE_AGAIN_S):
            self._manager.register_follower(self._name, self.feed.cursor, keep=self._keep)
            self._saved, self._saved_at = self.feed.cursor, time.monotonic()


def _serve(found: Sequence[_Followed], deal: _Deal, caught: list[int], *, every_event: bool) -> None:
    """Deal with each event until a signal comes or nobody reads the output any more."""
    while True:
        busy = False
        for one in found:
            for event in one.feed.new():
                if not deal(one.manifest, event):
                    return
                busy = True
                one.save(at_once=every_event)
                if caught:
                    break
            one.save(at_once=not busy or bool(caught))
        if caught or (not busy and _wait()):
            return


def _wait() -> bool:
    """Wait for the next look; return whether the reader of the output has closed its pipe."""
    with suppress(OSError, ValueError):
        out = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(out).st_mode):
            poll = select.poll()
            poll.register(out, 0)
            return bool(poll.poll(POLL_S * 1000))
    time.sleep(POLL_S)
    return False


def _json_line(manifest: str, event: Event) -> str:
    return output.json_text(codec.dumps(event_members(event, manifest)).decode())


def _columns(*, several: bool) -> Callable[[str, Event], str]:
    joined = event_lines.padded if sys.stdout.isatty() else "\t".join
    return lambda manifest, event: joined([*event_lines.cells(event), *([manifest] if several else ())])


def _print(text: str) -> bool:
    output.stream(text)
    output.flush()
    return True


def _execute(argv: list[str], manifest: str, event: Event, caught: list[int]) -> bool:
    line = _json_line(manifest, event).encode() + b"\n"
    code = subprocess.run(argv, input=line, check=False).returncode  # noqa: S603 -- the user's own command
    if code and not caught:
        how = f"exited with {code}" if code > 0 else f"was killed by signal {-code}"
        raise CommandError(f"{manifest}: {argv[0]} {how} for the event {event.cursor}: follow ended there")
    return not code  # after Ctrl-C, the command has received it too
