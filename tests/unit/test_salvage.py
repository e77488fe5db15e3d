"""What is read from damaged files: the salt from lines, records from any bytes, lines from blocks of any size."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.log import framing, lines
from manifestlog.engines.filelog.recovery import salvage_canonical, salvage_log
from support.damage import fill
from support.integrity import segments
from support.records import NAME

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(20))
def test_a_crc_can_be_run_backwards(seed: int) -> None:
    dice = random.Random(seed)
    data, start = dice.randbytes(dice.randrange(200)), dice.getrandbits(32)
    assert checksums.unwound(crc32(data, start), data) == start


@pytest.mark.parametrize("offset", [0, 1, 70_000, 2**33])
def test_a_line_tells_the_salt_that_it_was_written_with(offset: int) -> None:
    line = checksums.seal_line(b'{"op":"forget","checksum":"x"', 0x1C53DD0F, offset)
    assert salvage_log._salt_of(line[: -checksums.CRC_TAIL - 1], line[-11:-3], offset) == 0x1C53DD0F


@pytest.mark.parametrize("block", [1, 7, 100, 1000, 10**6])
def test_lines_are_the_same_in_blocks_of_any_size(tmp_path: Path, block: int) -> None:
    data = bytearray(next(iter(segments(fill(tmp_path / NAME)).values())).read_bytes())
    data[700] ^= 1
    opening = lines.decode_header(bytes(data).partition(b"\n")[0], "")
    assert opening is not None
    blocks = [bytes(data[at : at + block]) for at in range(0, len(data), block)]
    assert list(framing.pieces(blocks, opening.salt)) == list(framing.split(bytes(data), 0, opening.salt))


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_records_are_found_in_a_cut_file_of_any_layout(tmp_path: Path, indent: int | None, cut: float) -> None:
    path = fill(tmp_path / NAME)
    text = json.dumps(json.loads(path.read_bytes()), indent=indent)
    half = text[: int(len(text) * cut)]
    path.write_text(half, encoding="utf-8")
    found = salvage_canonical.read(str(path))
    assert found is not None
    assert found.count == half.count('"version": "1.0.0"')


def test_records_out_of_order_come_in_order(tmp_path: Path) -> None:
    path = fill(tmp_path / NAME)
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:9], *reversed(whole[9:-2])]))
    found = salvage_canonical.read(str(path))
    assert found is not None
    keys = [checksum for checksum, _ in found.records()]
    assert keys == sorted(keys)
    assert len(keys) == found.count == 6
