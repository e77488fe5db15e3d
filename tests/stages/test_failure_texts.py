"""What a failure says of an error that a function or a loop has raised: never nothing."""

from __future__ import annotations

import pytest

from manifestlog.stages.errors import OutputError
from manifestlog.stages.failure_texts import text_of_work


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
