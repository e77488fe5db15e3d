"""A run that dies at any step of the completion leaves what the next run finishes, without fetching it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from extract.running import pattern
from manifestlog import DownloadManifestManager
from manifestlog.extract import Result, parts
from support import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from extract.running import Here
    from support.badserver import BadServer

BODY = pattern(50_000)
POINTS: list[tuple[Any, str]] = [
    (parts, "announce"),
    (parts, "finish"),
    (DownloadManifestManager, "add_from_event"),
    (parts, "discard"),
]


class DiedError(BaseException):
    """As if the process was killed here."""


def _dying(function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    def die(*arguments: Any, **more: Any) -> None:
        if after:
            function(*arguments, **more)
        raise DiedError

    return die


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS, ids=[name for _, name in POINTS])
def test_the_next_run_finishes_it(
    here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch, point: tuple[Any, str], after: bool
) -> None:
    url = bad.script("/a.bin", answers.whole(BODY, '"one"'))
    owner, name = point
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, _dying(getattr(owner, name), after=after))
        with pytest.raises(DiedError):
            here.fetch(url)
    here.fetch(url)
    assert here.files == ["systems/a.bin"]
    assert here.body() == BODY
    assert bad.bodies["/a.bin"] == len(BODY)


def test_there_is_never_a_record_without_its_file(here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(parts, "finish", _dying(parts.finish, after=False))
        with pytest.raises(DiedError):
            here.fetch(bad.script("/a.bin", answers.whole(BODY)))
    assert len(here.manifest) == 0


def test_what_was_left_is_said_to_be_new(here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = bad.script("/a.bin", answers.whole(BODY, '"one"'))
    with monkeypatch.context() as patched:
        patched.setattr(parts, "finish", _dying(parts.finish, after=True))
        with pytest.raises(DiedError):
            here.fetch(url)
    assert here.fetch(url).result is Result.NEW


def test_a_file_that_was_damaged_meanwhile_is_fetched_again(
    here: Here, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = bad.script("/a.bin", answers.whole(BODY, '"one"'))
    with monkeypatch.context() as patched:
        patched.setattr(parts, "finish", _dying(parts.finish, after=True))
        with pytest.raises(DiedError):
            here.fetch(url)
    (here.data_dir / "systems" / "a.bin").write_bytes(BODY[:-1] + b"?")
    here.fetch(url)
    assert here.body() == BODY
