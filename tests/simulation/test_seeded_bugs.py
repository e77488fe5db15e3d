"""Each safeguard of the engine, switched off in turn: some test notices. This is what proves the others."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from manifestlog import ManifestError

from .machine import simulated
from .safeguards import SAFEGUARDS
from .scenarios import ON_REAL_FILES, SCENARIOS, Lab
from .seeding import causes, edited

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .seeding import Edit, Safeguard


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    log = logging.getLogger("manifestlog")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(level)


def notice(lab: Lab, name: str, edits: tuple[Edit, ...] = ()) -> Exception | None:
    """What the scenario has against the engine with these changes."""
    with ExitStack() as around:
        machine = None if name in ON_REAL_FILES else around.enter_context(simulated())
        run = SCENARIOS[name](lab, machine) if machine else ON_REAL_FILES[name](lab)
        around.enter_context(edited(edits))
        try:
            run()
        except Exception as error:
            return error
    return None


@pytest.mark.slow  # in `make test`, what a scenario runs is run by the test that it stands for
@pytest.mark.parametrize("name", sorted({safeguard.scenario for safeguard in SAFEGUARDS}))
def test_with_every_safeguard_in_place_nothing_is_found(lab: Lab, name: str) -> None:
    error = notice(lab, name)
    if error is not None:
        raise error


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=[safeguard.name for safeguard in SAFEGUARDS])
def test_a_safeguard_that_is_switched_off_is_missed(lab: Lab, count: Count, safeguard: Safeguard) -> None:
    error = notice(lab, safeguard.scenario, safeguard.edits)
    assert error is not None, f"without it ({safeguard.protects}) {safeguard.scenario!r} finds nothing"
    for cause in causes(error):
        assert not isinstance(cause, NameError), f"the change itself is wrong: {cause!r}"
        assert not isinstance(cause, TimeoutError) or isinstance(cause, ManifestError), "it hangs, and nothing else"
    count("seeded bugs caught")
