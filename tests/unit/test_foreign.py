"""Another tool's file read in pieces, against the same file parsed as a whole."""

from __future__ import annotations

import json
import tracemalloc
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog.engines.filelog.canonical import foreign
from manifestlog.engines.filelog.canonical.columns import rows_of
from manifestlog.errors import DamagedManifestError
from manifestlog.model import codec

from .builders import row, sha
from .test_canonical import METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from manifestlog.model.rows import Row

OTHER_SEEN = {name: value for name, value in row("x", source="other").items() if name not in ("checksum", "file_size")}
ROWS = [row(str(number), number, source=f"s{number}", etag='"a"') for number in range(30)]


def _document(rows: list[Row], **layout: Any) -> str:
    metadata = METADATA | {"total_records": len(rows)}
    return json.dumps({"metadata": metadata, "records": {one["checksum"]: one for one in rows}}, **layout)


def _with(**changes: Any) -> str:
    return _document([ROWS[0], ROWS[1] | changes, *ROWS[2:]], indent=4)


def _records_first() -> str:
    found = json.loads(_document(ROWS))
    return json.dumps({"records": found["records"], "metadata": found["metadata"]}, indent=2)


TEXT = _document(ROWS, indent=4)
FIRST, SECOND = ROWS[0]["checksum"], ROWS[1]["checksum"]
GOOD: dict[str, str] = {
    "indented": TEXT,
    "one line": _document(ROWS),
    "no blanks": _document(ROWS, separators=(",", ":")),
    "tabs": _document(ROWS, indent="\t"),
    "records first": _records_first(),
    "no records": _document([], indent=4),
    "no records, in front": json.dumps({"records": {}, "metadata": METADATA}),
    "a byte order mark": "\ufeff" + TEXT,
    "blanks around": f" \r\n{TEXT}\n\n",
    "members in another order": _document([dict(sorted(one.items())) for one in ROWS], indent=4),
    "empty members": _with(last_modified=None, also_seen=[], derived_from=[]),
    "empty members everywhere": _document([one | {"last_modified": None} for one in ROWS], indent=4),
    "inputs": _with(derived_from=[sha("x")]),
    "upper-case inputs": _with(derived_from=[sha("x").upper()]),
    "another zone": _with(ts_downloaded="2023-01-01T12:00:00+02:00"),
    "no zone": _with(ts_downloaded="2023-01-01T12:00:00"),
    "milliseconds": _with(ts_downloaded="2023-01-01T12:00:00.120Z"),
    "another observation": _with(also_seen=[OTHER_SEEN]),
    "an unknown member": _with(colour={"red": [0.5, None]}),
    "what looks like a cut": _with(colour={"a": {}, sha("x"): {}}, version='},{"source_id":"' + f'}}, "{SECOND}": {{'),
    "escapes": _with(source_id='\u0001é"\\\u2028\U0001f600/'),
    "escaped quotes": _with(version="x").replace('"x"', '"\\u0022x\\u0022"'),
    "an unknown member of the metadata": TEXT.replace('"process"', '"team": {"a": {}, "records": {}}, "process"'),
    "a wrong total": TEXT.replace('"total_records": 30', '"total_records": 7'),
    "a key in upper case": TEXT.replace(SECOND, SECOND.upper()),
    "two keys that differ in case": TEXT.replace(f'"{SECOND}": {{', f'"{FIRST.upper()}": {{').replace(SECOND, FIRST),
}
BAD: dict[str, str] = {
    "a key twice": TEXT.replace(SECOND, FIRST),
    "a member twice": TEXT.replace('"version": "1"', '"version": "2", "version": "1"', 1),
    "a member twice, behind escaped quotes": TEXT.replace(
        '"version": "1"', '"version": "2", "version": "\\u0022\\u0022\\u0022\\u0022"', 1
    ),
    "a comma more": TEXT.replace("},\n", "},,\n", 1),
    "a comma at the end": TEXT.replace("        }\n    }\n}", "        },\n    }\n}"),
    "no comma": TEXT.replace("        },\n", "        }\n", 2),
    "a form feed": TEXT.replace("        },\n", "        },\f\n"),
    "a member more": TEXT.removesuffix("\n}") + ',\n    "more": 1\n}',
    "metadata twice": TEXT.removesuffix("\n}") + ',\n    "metadata": {}\n}',
    "records twice": TEXT.removesuffix("\n}") + ',\n    "records": {}\n}',
    "text behind": TEXT + "x",
    "half": TEXT[: len(TEXT) // 2],
    "no end": TEXT[:-1],
    "a number beyond 64 bits": _with(colour=2**70),
    "a size beyond 64 bits": _with(file_size=2**70),
    "not a number": TEXT.replace('"file_size": 2', '"file_size": NaN', 1),
    "a record that is a list": TEXT.replace('"version": "1"\n        }', '"version": "1"\n        }', 1).replace(
        f'"{SECOND}": {{', f'"{SECOND}": [], "{sha("y")}": {{', 1
    ),
    "another key": TEXT.replace(f'"{SECOND}": {{', f'"{sha("y")}": {{'),
    "no key of a record": TEXT.replace(f'"{SECOND}": {{', '"x": {'),
    "no such day": _with(ts_downloaded="2023-02-30T12:00:00Z"),
    "no source": _with(source_id=""),
    "a wrong process": TEXT.replace("extractor", "painter"),
    "a large total": TEXT.replace('"total_records": 30', f'"total_records": {2**70}'),
}


@pytest.fixture(autouse=True, params=[1, 1_000, 1 << 18], ids=["cut everywhere", "cut sometimes", "not cut"])
def _piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "PARSED_BYTES", request.param)


def _blocks(data: bytes, size: int = 3_000) -> Callable[[], Iterator[bytes]]:
    return lambda: (data[at : at + size] for at in range(0, len(data), size))


def _outcome(convert: Callable[[], foreign.Converted]) -> tuple[object, ...]:
    try:
        found = convert()
    except DamagedManifestError as error:
        return type(error), error.offset, error.reason
    records = found.records
    rows = sorted(rows_of(records.source_rows))
    return bytes(found.data), found.metadata, found.end, records.digests, records.offsets, records.crcs, rows


def _both(text: str) -> tuple[tuple[object, ...], tuple[object, ...]]:
    data = text.encode()
    in_pieces = _outcome(lambda: foreign.convert("p", _blocks(data)))
    return in_pieces, _outcome(lambda: foreign._as_a_whole("p", data))


@pytest.mark.parametrize("name", GOOD)
def test_the_pieces_give_what_the_whole_gives(name: str) -> None:
    in_pieces, whole = _both(GOOD[name])
    assert isinstance(whole[0], bytes)
    assert in_pieces == whole


@pytest.mark.parametrize("name", BAD)
def test_an_error_is_that_of_the_whole(name: str) -> None:
    assert BAD[name] != TEXT
    in_pieces, whole = _both(BAD[name])
    assert whole[0] is DamagedManifestError
    assert in_pieces == whole


NEEDS_NO_WHOLE = (
    "indented",
    "no blanks",
    "records first",
    "members in another order",
    "no zone",
    "another observation",
)


@pytest.mark.parametrize("name", NEEDS_NO_WHOLE)
def test_a_usual_file_is_read_in_pieces_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_as_a_whole", None)
    assert foreign.convert("p", _blocks(GOOD[name].encode())).records.crcs


def test_the_byte_order_mark_may_be_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_as_a_whole", None)
    data = BOM_UTF8 + TEXT.encode()
    assert bytes(foreign.convert("p", _blocks(data)).data) == bytes(foreign.convert("p", _blocks(TEXT.encode())).data)


def test_it_takes_less_than_four_times_the_files_size_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "PARSED_BYTES", 1 << 14)
    path = tmp_path / "a_b.manifest.json"
    path.write_text(_document([row(str(number), source=f"s{number}") for number in range(10_000)], indent=4))

    def blocks() -> Iterator[bytes]:
        with path.open("rb") as file:
            yield from iter(lambda: file.read(1 << 16), b"")

    tracemalloc.start()
    try:
        found = foreign.convert("p", blocks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(found.records.crcs), peak < 4 * path.stat().st_size) == (10_000, True)
