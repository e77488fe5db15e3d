"""What `help()` says: the texts of public enumerations exist at run time."""

from __future__ import annotations

import pydoc
from enum import StrEnum
from typing import Any

import pytest

import manifestlog
import manifestlog.extract
from manifestlog import Durability


def _public_enums() -> list[type[StrEnum]]:
    found = (
        getattr(module, name) for module in (manifestlog, manifestlog.extract) for name in dict.fromkeys(module.__all__)
    )
    return [one for one in found if isinstance(one, type) and issubclass(one, StrEnum)]


def _told(enum: type[StrEnum]) -> dict[str, str]:
    """What the lines `- NAME: text` of the class's help say, by name."""
    lines = [line.strip(" |") for line in pydoc.plain(pydoc.render_doc(enum)).splitlines()]
    told = (line.removeprefix("- ").partition(": ") for line in lines if line.startswith("- "))
    return {name.strip("`"): text for name, _, text in told}


@pytest.mark.parametrize("member", Durability)
def test_help_on_durability_says_what_each_member_survives(member: Durability) -> None:
    assert "survives" in _told(Durability)[member.name]


@pytest.mark.parametrize("enum", _public_enums(), ids=lambda enum: enum.__name__)
def test_help_on_a_public_enum_explains_each_member(enum: Any) -> None:
    assert [name for name, text in _told(enum).items() if text] == [member.name for member in enum]
