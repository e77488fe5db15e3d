"""Placeholders in the texts of a stage: what is replaced, and what is refused."""

from __future__ import annotations

import pytest

from manifestlog.stages import placeholders


def test_a_placeholder_without_a_value_stays() -> None:
    assert placeholders.expand("{stem}/{key}", {"stem": "a"}) == "a/{key}"


def test_a_misspelt_placeholder_is_named_with_the_closest() -> None:
    reason = placeholders.pattern_problem("{stem}{nmae}", placeholders.VALUES, "an output's name")
    assert str(reason).startswith(
        "{nmae} is no placeholder of an output's name; expected name, or another of checksum, "
    )


@pytest.mark.parametrize("text", ["{stem}{x}", "{}", "{checksum9}"])
def test_a_command_with_an_unknown_placeholder_is_refused(text: str) -> None:
    assert "is no placeholder of a command" in str(placeholders.command_problem(["echo", text]))


@pytest.mark.parametrize(
    "text", ["{print $1}", "${NAME}", "{a: .b}", "{Stem}", "{stem", "}", "{input}:{output}", "{inputs}"]
)
def test_other_braces_belong_to_the_command(text: str) -> None:
    assert placeholders.command_problem(["echo", text]) is None


def test_the_inputs_are_an_argument_of_their_own() -> None:
    assert "must be an argument of its own" in str(placeholders.command_problem(["cat", "x{inputs}"]))
