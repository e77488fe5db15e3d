"""What may come of one file of the corpus having become other bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .corpus import ACTIVE, CANONICAL, FENCED, INDEX, SEALED, TORN
from .ground import Case, Ground

if TYPE_CHECKING:
    from .model import Answers, Oracle


def allowed_of(ground: Ground, oracle: Oracle, kind: str, data: bytes) -> tuple[Answers | None, ...]:
    """Answers, or None for a refusal."""
    sound = ground.files[ground.corpus.named[kind]]
    if kind == INDEX or data == sound:
        return (oracle.sound,)
    if kind == ACTIVE:
        return (oracle.of_active(data),)
    if kind == FENCED and data.startswith(sound.removesuffix(TORN)):
        return (oracle.sound,)  # what lies behind a fence is junk, whatever it is
    if kind == SEALED and data.startswith(sound):
        return (None, oracle.sound)  # no line may follow a seal; what is no line is none
    if kind == CANONICAL and len(data) == len(sound):
        # Through the index, records are compared with their CRC, and what lies between them is not read before a merge.
        return (None, oracle.sound)
    return (None,)


def case_of(ground: Ground, oracle: Oracle, kind: str, data: bytes, what: str, *, foreign: bool = False) -> Case:
    """The corpus with this one file in another condition; files of two manifests may each be called the wrong one."""
    name = ground.corpus.named[kind]
    accused = () if foreign else (name, ground.corpus.named[ACTIVE]) if kind == CANONICAL else (name,)
    return Case(f"{name}, {what}", ground.files | {name: data}, allowed_of(ground, oracle, kind, data), accused)
