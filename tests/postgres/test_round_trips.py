"""How often the server is asked: each question costs the time of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contract.builders import record, sha
from manifestlog.engines.postgres.wire import Wire

if TYPE_CHECKING:
    import pytest

    from manifestlog import DownloadManifestManager


def test_a_thousand_contents_are_looked_up_in_one_round_trip(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest.add_many(record(f"{number}", number) for number in range(500))
    asked: list[str] = []
    ask = Wire.ask

    def counted(wire: Wire, statement: str, parameters: tuple[Any, ...]) -> Any:
        asked.append(statement)
        return ask(wire, statement, parameters)

    monkeypatch.setattr(Wire, "ask", counted)
    known = manifest.has_many(sha(f"{number}") for number in range(1000))
    assert (len(known), len(asked)) == (500, 1)
