"""Inputs that are far too big, too deep or no text at all: a clear answer, in memory and time that are bounded.

Each runs in a child whose address space is limited: to some times the size of the input, and a constant.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from zlib import crc32

import pytest

from cli.program import Program, one_line
from manifestlog import DamagedManifestError, DownloadManifestManager, RecordRejectedError
from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.log import wal
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.extract.config.configuration import load_config
from manifestlog.extract.errors import ConfigError
from manifestlog.names import resolve
from support.engines import engine_of

from .builders import META, QUIET, line_at, record, salt_of, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Start

    from .conftest import Opener

SMALL, BIG = 1_000_000, 100_000_000
SIZES = [SMALL, pytest.param(BIG, marks=pytest.mark.slow)]
TIMES = 6
"""Of its size, what the worst input may cost in memory."""
TIMES_OTHER_TOOL = 24
"""The same for another tool's JSON that has an error: it is parsed as a whole."""
CONSTANT = 256 << 20
SALT = 12345
"""With one salt in forty, a hundred megabytes of junk lines are the proof of a move: their CRC fits another place there."""
SECONDS_PER_MB = 1.0

JUNK: dict[str, bytes] = {
    "text": b"x",
    "NULs": b"\0",
    "no UTF-8": b"\xff",
    "empty lines": b"\n",
    "lines": b"x\n",
    "lines of NULs": b"\0\0\0\n",
    "deep": b"[",
    "objects": b'{"a":',
    "beginnings of lines": b'{"op":"',
    "beginnings on lines of their own": b'{"op":"\n',
    "ends of lines": b',"crc":"00000000"}',
    "whole lines": b'{"op":"put","crc":"00000000"}\n',
    "backslashes": b"\\",
}


# Every junk in a small size, and in a big one what once took quadratic time or many times its size.
CASES = [(what, SMALL) for what in JUNK] + [
    pytest.param(what, BIG, marks=pytest.mark.slow)
    for what in ("text", "empty lines", "beginnings on lines of their own", "ends of lines")
]


def junk(what: str, size: int) -> bytes:
    piece = JUNK[what]
    return piece * (size // len(piece))


def limited(start: Start, size: int, times: int, act: Callable[[], Any]) -> Any:
    """What `act` gives in a process that may take so many times `size` of memory more than it has."""

    def run(_link: object) -> tuple[Any, float]:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + times * size + CONSTANT
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        began = time.process_time()
        return act(), time.process_time() - began

    answer, seconds = start(run).result(600)
    assert seconds < 2 + SECONDS_PER_MB * size / 1e6
    return answer


def _opened(path: Path) -> object:
    """What opening and asking gives: the number of records, or the kind of error and whether it names the file."""
    try:
        with DownloadManifestManager(path, META, options=QUIET) as manifest:
            found = len(manifest)
            assert manifest.has_checksum(sha("one"))
            manifest.add(record("another"))
            assert manifest.get(sha("another")) is not None
            return found
    except DamagedManifestError as error:
        return "damaged" if len(str(error)) < 1000 else str(error)


def _checked(path: Path) -> tuple[bool, int]:
    report = check(resolve(path))
    return report.damaged, len(report.findings)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A manifest of two compacted records and two in the log; nobody checks it, it is damaged on purpose."""
    path = tmp_path / "systems_download.manifest.json"
    with (
        patch.object(wal, "secrets", SimpleNamespace(randbits=lambda _: SALT)),
        DownloadManifestManager(path, META, options=QUIET) as manifest,
    ):
        manifest.add_many([record("zero", 0), record("one", 1)])
        manifest.compact()
        manifest.add(record("two", 2))
        manifest.add(record("three", 3))
    return path


@pytest.mark.parametrize(("what", "size"), CASES)
def test_a_canonical_of_junk_is_damage(path: Path, start: Start, what: str, size: int) -> None:
    path.write_bytes(junk(what, size))
    assert limited(start, size, TIMES, lambda: _opened(path)) == "damaged"


@pytest.mark.parametrize(("what", "size"), CASES)
def test_junk_in_a_segments_first_line_is_damage(path: Path, start: Start, what: str, size: int) -> None:
    segments_of(path.parent)[-1].write_bytes(junk(what, size))
    assert limited(start, size, TIMES, lambda: _opened(path)) == "damaged"


@pytest.mark.parametrize(("what", "size"), CASES)
def test_junk_behind_the_log_costs_no_record(path: Path, start: Start, what: str, size: int) -> None:
    with segments_of(path.parent)[-1].open("ab") as segment:
        segment.write(junk(what, size))
    assert limited(start, size, TIMES, lambda: _opened(path)) == 4


@pytest.mark.parametrize(("what", "size"), CASES)
def test_junk_in_the_middle_of_a_segment_costs_no_record(path: Path, start: Start, what: str, size: int) -> None:
    """Nothing there is known to be synced, so a crash may explain it."""
    segment = segments_of(path.parent)[-1]
    data = segment.read_bytes()
    body = data.split(b"\n")[-2][: -checksums.CRC_TAIL]
    at = len(data) - len(body) - checksums.CRC_TAIL - 1
    more = junk(what, size)
    segment.write_bytes(data[:at] + more + line_at(body, salt_of(data), at + len(more)))
    assert limited(start, size, TIMES, lambda: _opened(path)) == 4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("what", ["text", "empty lines", "beginnings on lines of their own", "whole lines"])
def test_check_reports_junk_in_few_findings(path: Path, start: Start, what: str, size: int) -> None:
    with segments_of(path.parent)[-1].open("ab") as segment:
        segment.write(junk(what, size))
    damaged, findings = limited(start, size, TIMES, lambda: _checked(path))
    assert (damaged, findings <= 3) == (False, True)


@pytest.mark.parametrize(("what", "size"), CASES)
def test_an_index_of_junk_is_ignored(path: Path, start: Start, what: str, size: int) -> None:
    path.with_name("systems_download.manifest.idx").write_bytes(junk(what, size))
    assert limited(start, size, TIMES, lambda: _opened(path)) == 4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "data",
    [b'{"metadata":[0%b]}', b'{"metadata":{},"records":{"a":[0%b]}}', b'{"metadata":"0%b"}'],
    ids=["metadata", "record", "text"],
)
def test_another_tools_json_takes_a_few_times_its_size_in_memory(
    path: Path, start: Start, data: bytes, size: int
) -> None:
    path.write_bytes(data % (b",0" * (size // 2)))
    assert limited(start, size, TIMES_OTHER_TOOL, lambda: _opened(path)) == "damaged"


# -- claims of the index -----------------------------------------------------------------------------------------------


def _with_header(index: bytes, header: bytes, length: int | None = None) -> bytes:
    old = int.from_bytes(index[8:12], "little")
    header += b" " * (-(16 + len(header)) % 8)
    told = len(header) if length is None else length
    return index[:8] + told.to_bytes(4, "little") + crc32(header).to_bytes(4, "little") + header + index[16 + old :]


def _header(index: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(index[16 : 16 + int.from_bytes(index[8:12], "little")])
    return found


CLAIMS: dict[str, Callable[[bytes], bytes]] = {
    "4 GB of header": lambda index: _with_header(index, index[16:], 0xFFFF_FFFF),
    "no header": lambda index: _with_header(index, b"", 0),
    "a header of NULs": lambda index: _with_header(index, bytes(800)),
    "a deep header": lambda index: _with_header(index, b"[" * 100_000),
    "a list": lambda index: _with_header(index, b"[]"),
    "no UTF-8": lambda index: _with_header(index, b'{"byteorder":"\xff"}'),
    "many records": lambda index: _with_header(index, json.dumps(_header(index) | {"records": 1 << 40}).encode()),
    "many sources": lambda index: _with_header(index, json.dumps(_header(index) | {"sources": 1 << 40}).encode()),
    "less than no records": lambda index: _with_header(index, json.dumps(_header(index) | {"records": -1}).encode()),
    "half a record": lambda index: _with_header(index, json.dumps(_header(index) | {"records": 1.5}).encode()),
    "records by name": lambda index: _with_header(index, json.dumps(_header(index) | {"records": "2"}).encode()),
    "nothing": lambda _index: b"",
    "the magic alone": lambda index: index[:8],
}


@pytest.mark.parametrize("what", CLAIMS)
def test_an_index_that_claims_too_much_is_ignored(path: Path, start: Start, what: str) -> None:
    index = path.with_name("systems_download.manifest.idx")
    index.write_bytes(CLAIMS[what](index.read_bytes()))
    assert limited(start, 0, 0, lambda: _opened(path)) == 4


# -- values that can be read, and not be written again -----------------------------------------------------------------

TOO_MUCH = {
    "deep": "[" * 300 + "]" * 300,
    "deeper": "[" * 900 + "]" * 900,
    "deepest": "[" * 100_000 + "]" * 100_000,
    "a great number": "1" + "0" * 30,
    "a number of many digits": "1" * 10_000,
}


@pytest.mark.parametrize("place", ["record", "metadata"])
@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_value_that_cannot_be_written_again_is_damage(path: Path, start: Start, what: str, place: str) -> None:
    before = b'"version":"1.0.0"}' if place == "record" else b'"etl_version": "1.0.0",'
    more = (
        f'"version":"1.0.0","x":{TOO_MUCH[what]}}}'
        if place == "record"
        else f'"etl_version": "1.0.0", "x": {TOO_MUCH[what]},'
    )
    data = path.read_bytes()
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_bytes(data.replace(before, more.encode(), 1))
    assert limited(start, 0, 0, lambda: _opened(path)) == "damaged"


@pytest.mark.parametrize("what", ["deep", "deeper", "deepest"])
def test_a_line_that_cannot_be_written_again_is_damage(path: Path, start: Start, what: str) -> None:
    """Its CRC is right."""
    segment = segments_of(path.parent)[-1]
    data = segment.read_bytes()
    row = json.dumps(record("five").model_dump(mode="json"))[:-1]
    body = f'{{"op":"put","ts":"2026-01-01T00:00:00.000000Z","record":{row},"x":{TOO_MUCH[what]}}}'.encode()
    segment.write_bytes(data + line_at(body, salt_of(data), len(data)))
    assert limited(start, 0, 0, lambda: _opened(path)) == "damaged"


# -- what a program hands over -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2_000_000, pytest.param(BIG, marks=pytest.mark.slow)])
@pytest.mark.parametrize("field", ["source_id", "dataset", "file_path", "etag", "version", "last_modified"])
def test_a_record_that_is_too_big_is_rejected_before_the_lock(path: Path, start: Start, field: str, size: int) -> None:
    def add() -> str:
        options = QUIET.__class__(lock_timeout_s=0.0, auto_compact=False, compact_on_close=False)
        with DownloadManifestManager(path, META, options=options) as manifest:
            value: Any = Path("x" * size) if field == "file_path" else "x" * size
            with pytest.raises(RecordRejectedError) as error:
                manifest.add(record("huge", **{field: value}))
            return str(error.value)

    def hold(link: Any) -> None:
        with (
            DownloadManifestManager(path, META, options=QUIET) as manifest,
            engine_of(manifest).session._append_lock.file,
        ):
            link.send("held")
            link.recv()

    holder = start(hold)
    assert holder.receive() == "held"
    assert "bytes as JSON" in limited(start, size, TIMES, add)
    holder.send("enough")
    holder.join()


@pytest.mark.parametrize("text", ["\0", "a\0b", "\n", "\x1b[2J", "\ufeff", "\U0010ffff", "'; DROP TABLE --", "{0}%s"])
def test_unusual_strings_are_stored_unchanged(opener: Opener, tmp_path: Path, text: str) -> None:
    manifest = opener(path=tmp_path / "odd" / "systems_download.manifest.json")
    manifest.add(record("odd", 0, text, text, etag=text, version=text, file_path=Path(f"/raw/{text}")))
    manifest.compact()
    found = manifest.get_record_by_source(text, text)
    assert found is not None
    assert (found.etag, found.version, str(found.file_path)) == (text, text, f"/raw/{text}")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["etl.config.json", "etl.config.toml"])
@pytest.mark.parametrize("what", ["text", "NULs", "no UTF-8", "deep", "objects", "backslashes"])
def test_a_configuration_of_junk_is_rejected(tmp_path: Path, start: Start, what: str, name: str, size: int) -> None:
    path = tmp_path / name
    path.write_bytes(junk(what, size))

    def load() -> str:
        with pytest.raises(ConfigError) as error:
            load_config(path, {})
        return str(error.value)

    assert len(limited(start, size, TIMES, load)) < 1000


NO_TEXT = "\udcff\udcfe"
"""How Python hands over bytes that are no UTF-8."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["has", NO_TEXT, sha("a")],
        ["has", "systems_download", NO_TEXT],
        ["get", "systems_download", "--source", NO_TEXT],
        ["list", "systems_download", "--source", NO_TEXT],
        ["list", "systems_download", "--since", NO_TEXT],
        ["add", "systems_download", NO_TEXT],
        ["init", NO_TEXT],
        ["init", f"{NO_TEXT}.manifest.json"],
        ["--dir", NO_TEXT, "status"],
        ["--dir", NO_TEXT, "check"],
        ["doctor", NO_TEXT],
        ["extract", NO_TEXT],
        [NO_TEXT],
        [f"--{NO_TEXT}"],
    ],
)
def test_arguments_that_are_not_utf_8_are_rejected_in_one_line(path: Path, arguments: list[str]) -> None:
    result = (
        Program(path.parent)("--dir", ".", *arguments) if "--dir" not in arguments else Program(path.parent)(*arguments)
    )
    assert result.code in (0, 1, 2, 10)
    assert result.err == "" or one_line(result.err)


@pytest.mark.parametrize(
    "verb", ["has", "get", "list", "add", "init", "status", "check", "compact", "doctor", "extract"]
)
def test_an_argument_with_a_nul_is_rejected_in_one_line(path: Path, verb: str) -> None:
    """A caller within the same process may hand one over; the system would not."""
    result = Program(path.parent).here(verb, "a_b\0c.manifest.json", *([sha("a")] if verb == "has" else []))
    assert result.code in (1, 2, 10)
    assert one_line(result.err)
