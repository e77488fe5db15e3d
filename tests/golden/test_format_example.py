"""The worked example of docs/FORMAT.md is what the library reads and writes."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

from manifestlog import DownloadManifestManager

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
    assert (record.checksum[:4], record.source_id, len(record.also_seen)) == ("5b80", "edsm_systems", 1)


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
