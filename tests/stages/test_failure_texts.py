"""What a failure says of an error: never nothing, and no class where nobody wrote Python."""

from __future__ import annotations

import errno
import os

import pytest

from manifestlog.stages.errors import OutputError
from manifestlog.stages.failure_texts import text_of, text_of_work


def system_error(number: int, *paths: str) -> OSError:
    """The error of a system call about one path or two."""
    between = (None,) if len(paths) == 2 else ()
    return OSError(number, os.strerror(number), *paths[:1], *between, *paths[1:])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (system_error(errno.ENOSPC, "/x"), "/x: No space left on device; free some space, then run it again"),
        (system_error(errno.EACCES, "/x"), "/x: Permission denied; give this user the rights to it, then run it again"),
        (system_error(errno.EIO, "/x"), "/x: Input/output error; correct this, then run it again"),
        (system_error(errno.EXDEV, "/x", "/y"), f"/y: {os.strerror(errno.EXDEV)}; correct this, then run it again"),
        (system_error(errno.EIO), "Input/output error; correct this, then run it again"),
        (OSError("not now"), "not now"),
        (OutputError("the output x is missing"), "the output x is missing"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_around_the_work_is_told_with_its_path_and_a_remedy(error: Exception, said: str) -> None:
    assert text_of(error) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no header"), "ValueError: no header"),
        (KeyError("id"), "KeyError: 'id'"),
        (ValueError(), "ValueError without a message"),
        (ValueError(" "), "ValueError without a message"),
        (OutputError("the output x is missing"), "the output x is missing"),
    ],
)
def test_an_error_of_the_work_is_told_with_its_class(error: Exception, said: str) -> None:
    assert text_of_work(error) == said
