"""The compact set of checksums is a set."""

from __future__ import annotations

from hypothesis import given, strategies as st

from manifestlog.stages.digests import Digests

HEADS = ("0000", "00ff")
TAILS = ("00" * 30, "00" * 29 + "01", "01" + "00" * 29, "ab" * 30, "ab" * 29 + "00")
"""Of which two, one after the other, contain others where none begins."""
checksums = st.lists(st.builds(str.__add__, st.sampled_from(HEADS), st.sampled_from(TAILS)))


@given(checksums, checksums)
def test_it_has_what_was_added_once_and_not_taken(added: list[str], taken: list[str]) -> None:
    digests, model = Digests(), set(added)
    digests.update(added)
    for checksum in taken:
        assert digests.take(checksum) == (checksum in model)
        model.discard(checksum)
    assert sorted(digests) == sorted(model)
