"""The worked example of docs/FORMAT.md is what the library reads and writes."""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

from manifestlog import DownloadManifestManager

zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

FORMAT = Path(__file__).parents[2] / "docs" / "FORMAT.md"


def _block(name: str) -> bytes:
    found = re.search(rf"^```\S+ {name}\n(.*?)^```$", FORMAT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1].encode()


def _crc(line: bytes, salt: int, offset: int) -> bytes:
    """The CRC as section 4 defines it, written down a second time."""
    seed = zlib.crc32(offset.to_bytes(8, "little"), salt)
    return b"%08x" % zlib.crc32(line[:-18], seed)


def test_every_line_of_the_example_has_the_crc_that_section_4_defines() -> None:
    for name in ("segment-1", "segment-2"):
        data = _block(name)
        salt = int(json.loads(data.partition(b"\n")[0])["salt"], 16)
        offset = 0
        for line in data.splitlines():
            assert line[-10:-2] == _crc(line, salt, offset), line
            offset += len(line) + 1


def _pack() -> bytes:
    return base64.b64decode(_block("pack"))


def _footer(pack: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON and the table of a pack's footer, read as section 6a says."""
    length, crc, magic = struct.unpack("<II8s", pack[-16:])
    footer = pack[-length:]
    assert (magic, crc) == (b"MLPACK01", zlib.crc32(footer[:-16]))
    kind, size, text_length = struct.unpack_from("<III", footer)
    assert (kind, size) == (0x184D2A50, length - 8)
    text = footer[12 : 12 + text_length]
    return json.loads(zstd.ZstdDecompressor().decompress(text)), footer[12 + text_length : -16]


def test_the_pack_of_the_example_has_the_footer_that_the_page_shows() -> None:
    footer, _ = _footer(_pack())
    assert json.dumps(footer, separators=(",", ":")) + "\n" == _block("footer").decode()


def test_the_block_of_the_pack_holds_the_segments_as_they_were() -> None:
    pack = _pack()
    footer, _ = _footer(pack)
    ((offset, size, crc, _, _, parts),) = footer["blocks"]
    block = pack[offset : offset + size]
    assert crc == zlib.crc32(block)
    lines = zstd.decompress(block)
    assert lines.startswith(_block("segment-1"))
    assert parts == [[1, 0, 989], [2, 0, len(lines) - 989]]
    assert lines[989:].startswith(_block("segment-2"))


def test_the_table_of_the_pack_names_its_block_for_every_key() -> None:
    footer, table = _footer(_pack())
    assert footer["key_bits"] == 0
    numbers = struct.unpack(f"<{len(table) // 4}I", table)
    bounds, entries = numbers[:2], numbers[2:]
    assert bounds == (0, len(entries))
    checksums = re.findall(r'"checksum":"([0-9a-f]{64})"', _block("segment-2").decode())
    for hashed in [int(c[:8], 16) for c in checksums] + [zlib.crc32(b'"edsm_systems"')]:
        assert (hashed >> 16) << 16 in entries


def test_the_history_of_the_example_says_what_happened(tmp_path: Path) -> None:
    (tmp_path / "systems_download.manifest.json").write_bytes(_block("canonical"))
    (tmp_path / "systems_download.manifest.wal-000002.jsonl").write_bytes(_block("segment-2"))
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "systems_download.manifest.history-000001-000002.jsonl.zst").write_bytes(_pack())
    with DownloadManifestManager(tmp_path / "systems_download.manifest.json", read_only=True) as manifest:
        events = [(event.kind.value, event.source_id) for event in manifest.history(reverse=False)]
    assert events == [
        ("put", "spansh_systems"),
        ("put", "spansh_bodies"),
        ("put", "edsm_systems"),
        ("forget", "spansh_bodies"),
        ("put", "eddn_systems"),
    ]


def test_the_difference_in_the_example_gives_the_earlier_list(tmp_path: Path) -> None:
    (tmp_path / "systems_download.manifest.json").write_bytes(_block("canonical"))
    (tmp_path / "systems_download.manifest.wal-000002.jsonl").write_bytes(_block("segment-2"))
    said = json.loads(_block("segment-2").splitlines()[-1])["event"]["was"]["also_seen"]
    with DownloadManifestManager(tmp_path / "systems_download.manifest.json", read_only=True) as manifest:
        last = next(manifest.history(reverse=True))
    assert last.was is not None
    assert (said, [one["source_id"] for one in last.was["also_seen"]]) == ({"remove": [1]}, ["spansh_systems"])


def test_the_example_canonical_has_the_size_and_crc_that_the_log_names() -> None:
    canonical = _block("canonical")
    base = json.loads(_block("segment-2").splitlines()[2])["base"]
    assert (len(canonical), f"{zlib.crc32(canonical):08x}") == (base["size"], base["crc"])


def test_the_second_segment_states_length_and_lines_of_the_first_and_a_longer_one_follows() -> None:
    previous = json.loads(_block("segment-2").splitlines()[0])["previous"]
    assert previous["length"] > len(_block("segment-1"))


def test_opening_the_example_gives_the_one_record_that_the_page_tells_of(tmp_path: Path) -> None:
    (tmp_path / "systems_download.manifest.json").write_bytes(_block("canonical"))
    (tmp_path / "systems_download.manifest.wal-000002.jsonl").write_bytes(_block("segment-2"))
    with DownloadManifestManager(tmp_path / "systems_download.manifest.json", read_only=True) as manifest:
        (record,) = manifest.records.values()
    assert (record.checksum[:4], record.source_id, len(record.also_seen)) == ("5b80", "eddn_systems", 2)


def test_the_index_format_of_the_page_is_the_one_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "systems_download.manifest.json"
    path.write_bytes(_block("canonical"))
    (tmp_path / "systems_download.manifest.wal-000002.jsonl").write_bytes(_block("segment-2"))
    with DownloadManifestManager(path) as manifest:
        manifest.compact()
        index = path.with_name("systems_download.manifest.idx").read_bytes()
    length = int.from_bytes(index[8:12], "little")
    assert index[:8] == b"MLINDEX1"
    assert zlib.crc32(index[16 : 16 + length]) == int.from_bytes(index[12:16], "little")
    assert json.loads(index[16 : 16 + length])["records"] == 1
