"""The bytes on their way into an object store: what memory holds, and what a failure in the middle leaves."""

from __future__ import annotations

import pytest

from manifestlog.extract.places import sink
from manifestlog.extract.places.sink import Sink, part_bytes
from manifestlog.objects.errors import ObjectStoreError


class Refusing:
    """A store that takes a number of parts, and then none."""

    def __init__(self, parts: int, error: BaseException) -> None:
        self.parts, self.error = parts, error
        self.sizes: list[int] = []

    def upload(self, _: str) -> Refusing:
        return self

    def write(self, part: bytes | bytearray, _: object = None) -> None:
        if len(self.sizes) == self.parts:
            raise self.error
        self.sizes.append(len(part))

    def complete(self) -> None: ...

    def abort(self) -> None: ...


@pytest.mark.parametrize("error", [ObjectStoreError("busy", "s3://b/k"), KeyboardInterrupt()])
def test_after_a_part_that_failed_nothing_can_be_completed(error: BaseException) -> None:
    one = Sink(Refusing(1, error), "s3://b/k")  # type: ignore[arg-type]  # what a sink needs of a store
    with pytest.raises(type(error)):
        one.write(bytes(3 * sink.PART_BYTES))
    assert not one.is_whole


def test_memory_holds_one_part() -> None:
    store = Refusing(100, ObjectStoreError("busy", "s3://b/k"))
    one = Sink(store, "s3://b/k")  # type: ignore[arg-type]  # what a sink needs of a store
    held = []
    for _ in range(300):
        one.write(bytes(100_000))
        held.append(len(one.rest))
    assert (max(held) <= sink.PART_BYTES, set(store.sizes)) == (True, {sink.PART_BYTES})


def test_parts_grow_so_that_ten_thousand_are_enough() -> None:
    assert [part_bytes(number) >> 20 for number in (0, 999, 1000, 2000, 9999)] == [8, 8, 16, 32, 4096]
    assert sum(map(part_bytes, range(10_000))) > 5 << 40
