"""The index against a dict: for spread and for hostile keys, whole and with every bit flipped."""

from __future__ import annotations

import random
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from manifestlog.engines.filelog.canonical import columns, index
from manifestlog.engines.filelog.canonical.columns import Block
from manifestlog.engines.filelog.canonical.index import Head, Index, IndexDamagedError
from manifestlog.engines.filelog.canonical.source_rows import source_rows
from manifestlog.files import disk
from manifestlog.model.rows import Row, observations
from support.children import PATIENCE_S, time_limit

from .builders import row, sha

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

HEAD = Head(disk.Stamp(1, 2, 3), "0badcafe", 7, {"process": "extractor"})


def _encode(rows: Iterable[Row]) -> bytes:
    """An index over these rows, lines of 100 bytes each."""
    ordered = sorted(rows, key=lambda r: str(r["checksum"]))
    block = Block(
        b"".join(bytes.fromhex(r["checksum"]) for r in ordered),
        array("Q", range(0, 100 * len(ordered), 100)),
        array("I", (crc32(r["checksum"].encode()) for r in ordered)),
        b"".join(one for r in ordered for one in source_rows(r)),
    )
    return b"".join(index.encode(columns.build([block], 100 * len(ordered)), HEAD))


def _spread(count: int) -> list[str]:
    return [sha(f"c{n}") for n in range(count)]


def _low(count: int) -> list[str]:
    return [f"{n:064x}" for n in range(count)]


def _high(count: int) -> list[str]:
    return [f"{(1 << 256) - 1 - n:064x}" for n in range(count)]


def _same_prefix(count: int) -> list[str]:
    return [f"{'ab' * 8}{n:048x}" for n in range(count)]


def _first_byte(count: int) -> list[str]:
    return [f"{n % 256:02x}{n:062x}" for n in range(count)]


def _two_heaps(count: int) -> list[str]:
    return [f"{n:064x}" if n % 2 else f"f{n:063x}" for n in range(count)]


def _repeated(count: int) -> list[str]:
    return [f"{n:02x}" * 32 for n in range(min(count, 256))]


def _shifted(count: int) -> list[str]:
    """Digests whose neighbours hold them at another alignment."""
    return sorted(
        {f"{'00' * (n % 31)}{'11' * 32}"[:64] for n in range(count)} | {f"{n:04x}{'00' * 30}" for n in range(count)}
    )


KEYS = [_spread, _low, _high, _same_prefix, _first_byte, _two_heaps, _repeated, _shifted]
COUNTS = [0, 1, 2, 31, 32, 33, 64, 200, 3000]


@pytest.fixture(params=KEYS, ids=lambda f: f.__name__[1:])
def keys_of(request: pytest.FixtureRequest) -> Callable[[int], list[str]]:
    """A way to choose keys."""
    chosen: Callable[[int], list[str]] = request.param
    return chosen


@pytest.mark.parametrize("count", COUNTS)
def test_every_key_is_found_in_its_place(keys_of: Callable[[int], list[str]], count: int) -> None:
    """`find` gives a key's rank."""
    keys = sorted(keys_of(count))
    found = Index(_encode(row(checksum=key) for key in keys))
    assert [found.find(bytes.fromhex(key)) for key in keys] == list(range(len(keys)))


@pytest.mark.parametrize("count", COUNTS)
def test_no_other_key_is_found(keys_of: Callable[[int], list[str]], count: int) -> None:
    """Neighbours, ends and keys that begin alike are not there."""
    keys = keys_of(count)
    found = Index(_encode(row(checksum=key) for key in keys))
    strange = {"0" * 64, "f" * 64, "1" * 64, sha("strange"), "ab" * 32}
    strange |= (
        {key[:-1] + "e" for key in keys} | {key[:16] + "7" * 48 for key in keys} | {key[2:] + key[:2] for key in keys}
    )
    assert [key for key in strange - set(keys) if found.find(bytes.fromhex(key)) >= 0] == []


@pytest.mark.parametrize("count", COUNTS)
def test_a_position_is_where_a_key_would_stand(keys_of: Callable[[int], list[str]], count: int) -> None:
    """For keys that are there and for those that are not."""
    keys = sorted(keys_of(count))
    found = Index(_encode(row(checksum=key) for key in keys))
    asked = [*keys, "0" * 64, "f" * 64, *(sha(f"x{n}") for n in range(50))]
    assert [found.position(bytes.fromhex(a)) for a in asked] == [sum(key < a for key in keys) for a in asked]


@pytest.mark.parametrize("count", COUNTS)
def test_checksums_come_sorted(keys_of: Callable[[int], list[str]], count: int) -> None:
    """All of them."""
    keys = keys_of(count)
    assert list(Index(_encode(row(checksum=key) for key in keys)).checksums()) == sorted(keys)


@pytest.mark.parametrize("count", [1, 33, 200])
def test_a_place_is_that_of_the_line(keys_of: Callable[[int], list[str]], count: int) -> None:
    """Offset, end and CRC are those that were put in."""
    keys = sorted(keys_of(count))
    found = Index(_encode(row(checksum=key) for key in keys))
    assert [found.place(n) for n in range(len(keys))] == [
        (100 * n, 100 * n + 100, crc32(key.encode())) for n, key in enumerate(keys)
    ]


def _by_source(found: Index, source_id: str, dataset: str | None) -> list[list[str]]:
    """What the index says of a source: for each dataset its checksums, newest first."""
    groups = [
        [found.digest(n).hex() for at in reversed(group) for n in found.named(at)]
        for group in found.groups(source_id, dataset)
    ]
    return sorted(groups)


def _expected(rows: list[Row], source_id: str, dataset: str | None) -> list[list[str]]:
    found: dict[str, list[tuple[str, int, str]]] = {}
    for each in rows:
        for seen in observations(each):
            if seen["source_id"] == source_id and dataset in (None, seen["dataset"]):
                found.setdefault(seen["dataset"], []).append(
                    (seen["ts_downloaded"], seen.get("tie", 0), each["checksum"])
                )
    return sorted([c for *_, c in sorted(group, reverse=True)] for group in found.values())


def _history(seed: int, count: int, sources: int) -> list[Row]:
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        seen = [
            {
                "source_id": f"s{chance.randrange(sources)}",
                "dataset": f"d{chance.randrange(3)}",
                "file_path": "/p",
                "etag": None,
                "ts_downloaded": f"20{chance.randrange(10, 99)}-01-01T00:00:00.{number:06d}Z",
                "version": "1",
            }
            for _ in range(chance.randrange(3))
        ]
        unique = list({(o["source_id"], o["dataset"]): o for o in seen}.values())
        own = row(f"c{number}", source=f"own{number % sources}", dataset="d0")
        own["ts_downloaded"] = f"2009-01-01T00:00:00.{number:06d}Z"
        rows.append(own | {"also_seen": unique} if unique else own)
    return rows


@pytest.mark.parametrize(("count", "sources"), [(0, 1), (1, 1), (50, 1), (300, 2), (300, 50), (2000, 1), (2000, 700)])
@pytest.mark.parametrize("dataset", [None, "d0", "d1", "d2", "d3"])
def test_sources_are_found_newest_first(count: int, sources: int, dataset: str | None) -> None:
    """Each source with each dataset, many and few."""
    rows = _history(count, count, sources)
    found = Index(_encode(rows))
    asked = [f"{kind}{n}" for kind in ("s", "own", "no") for n in range(min(sources, 20))]
    assert [_by_source(found, s, dataset) for s in asked] == [_expected(rows, s, dataset) for s in asked]


def test_an_unknown_source_is_reported_as_unknown() -> None:
    """However many rows its bucket has."""
    found = Index(_encode(_history(2, 2000, 1)))
    assert [found.has_source(f"no{n}") for n in range(300)] == [False] * 300


def test_the_rank_orders_one_moment() -> None:
    """Of records at one time, the higher rank is newer."""
    rows = [row(f"c{n}", tie=n) for n in range(20)]
    assert _by_source(Index(_encode(rows)), "src", "set") == [[sha(f"c{n}") for n in range(19, -1, -1)]]


def test_checksums_that_begin_alike_are_all_named() -> None:
    """A source row holds the beginning of a digest only, so the caller gets every candidate."""
    rows = [row(checksum=key, source=f"s{n}") for n, key in enumerate(_same_prefix(40))]
    found = Index(_encode(rows))
    assert [rows[n]["checksum"] in _by_source(found, f"s{n}", None)[0] for n in range(40)] == [True] * 40


@pytest.mark.parametrize("year", ["0001", "1600", "1969", "1970", "2038", "2262", "9999"])
def test_any_year_is_in_order(year: str) -> None:
    """Times far away sort as they should."""
    far = row("far") | {"ts_downloaded": f"{year}-06-01T00:00:00Z"}
    rows = [far, row("near")]
    newest = "far" if year > "2023" else "near"
    assert _by_source(Index(_encode(rows)), "src", "set")[0][0] == sha(newest)


def test_the_head_comes_back() -> None:
    """Which canonical it belongs to."""
    assert Index(_encode([row()])).head == HEAD


def test_columns_encode_to_the_same_bytes() -> None:
    """What a merge works on is the index's whole content."""
    data = _encode(_history(1, 100, 5))
    assert b"".join(index.encode(Index(data).columns(), HEAD)) == data


# -- damage ------------------------------------------------------------------------------------------------------------

ROWS = [row(f"c{n}", n, source=f"s{n % 2}") for n in range(4)]
ASKED = [bytes.fromhex(sha(f"c{n}")) for n in range(6)]


def _answers(found: Index) -> object:
    return (
        found.count,
        found.head,
        [found.find(a) for a in ASKED],
        [found.position(a) for a in ASKED],
        list(found.checksums()),
        [found.place(n) for n in range(found.count)],
        [_by_source(found, s, d) for s in ("s0", "s1", "no") for d in (None, "set", "no")],
    )


def test_no_flipped_bit_gives_a_wrong_answer() -> None:
    """Every bit of a small index: found out, or without effect."""
    data = _encode(ROWS)
    expected = _answers(Index(data))
    wrong = []
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            if _answers(Index(bytes(flipped))) != expected:
                wrong.append(bit)
        except (IndexDamagedError, ValueError, KeyError, TypeError):
            pass  # what `Index.open` takes for a bad header, and the session for a reason to scan
    assert wrong == []


@pytest.mark.parametrize("hit", [0, 1, 7, 8, 9, 300, 599])
def test_a_bucket_is_checked_however_many_were_checked_before(hit: int) -> None:
    """Damage in one bucket is found by whoever asks there, after lookups everywhere else."""
    digests = [bytes.fromhex(key) for key in sorted(_spread(600))]
    data = bytearray(_encode([row(f"c{n}", n % 60) for n in range(600)]))
    at = data.index(digests[hit])
    data[at + 31] ^= 1
    found = Index(bytes(data))
    for digest in digests:
        with suppress(IndexDamagedError):  # its neighbours in the bucket
            found.find(digest)
    with pytest.raises(IndexDamagedError):
        found.find(digests[hit])


def test_bounds_beyond_the_rows_are_damage_before_any_row_is_read() -> None:
    """To read up to each of these takes minutes."""
    data = bytearray(_encode([row(f"c{n}", n % 60) for n in range(1000)]))
    start, buckets = Index(bytes(data))._tables_at, 32
    for number in (*range(1, buckets, 2), buckets):
        data[start + 4 * number : start + 4 * number + 4] = b"\xff" * 4
    with time_limit(PATIENCE_S), pytest.raises(IndexDamagedError):
        Index(bytes(data)).check_all()


def test_no_flipped_bit_raises_anything_else_once_it_is_open(tmp_path: Path) -> None:
    """Opening gives None or an index; asking an index gives an answer or `IndexDamagedError`."""
    path = tmp_path / "x.idx"
    data = _encode(ROWS)
    wrong = []
    for bit in range(0, 8 * len(data), 3):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = Index.open(str(path))
        try:
            if found is not None:
                found.check_all()
                _answers(found)
        except IndexDamagedError:
            pass
        except Exception as error:
            wrong.append((bit, error))
    assert wrong == []


def test_a_cut_index_is_none(tmp_path: Path) -> None:
    """At every length."""
    path = tmp_path / "x.idx"
    data = _encode(ROWS)
    opened = []
    for length in range(len(data)):
        path.write_bytes(data[:length])
        if Index.open(str(path)) is not None:
            opened.append(length)
    assert opened == []


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(1000), b"MLINDEX1", b"MLINDEX1" + bytes(1000), b"MLINDEX2" + bytes(100)]
)
def test_another_file_is_not_an_index(tmp_path: Path, data: bytes) -> None:
    """Whatever it is instead."""
    path = tmp_path / "x.idx"
    path.write_bytes(data)
    assert Index.open(str(path)) is None


def test_a_missing_index_is_none(tmp_path: Path) -> None:
    """A missing file is no error."""
    assert Index.open(str(tmp_path / "x.idx")) is None


def test_longer_than_it_says_is_none(tmp_path: Path) -> None:
    """Bytes behind the end."""
    path = tmp_path / "x.idx"
    path.write_bytes(_encode(ROWS) + bytes(8))
    assert Index.open(str(path)) is None
