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
    digests, model = Digests(added), set(added)
    for checksum in taken:
        assert digests.take(checksum) == (checksum in model)
        model.discard(checksum)
    assert sorted(digests) == sorted(model)
    assert len(digests) == len(model)


@given(checksums, checksums)
def test_it_says_what_it_has(added: list[str], asked: list[str]) -> None:
    digests = Digests(added)
    assert [one in digests for one in asked] == [one in added for one in asked]


@given(checksums, checksums)
def test_it_can_be_cut_down_to_what_another_set_has_and_has_not(added: list[str], other: list[str]) -> None:
    kept, left = Digests(added), Digests(added)
    kept &= set(other)
    left -= set(other)
    assert (set(kept), set(left)) == (set(added) & set(other), set(added) - set(other))
