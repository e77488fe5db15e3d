"""A canonical file that is damaged or was never one: an error with its place, and nothing is touched."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager

from .builders import META, QUIET, answers, at, files_of, record, sha

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROW: dict[str, Any] = {
    "source_id": "src",
    "dataset": "set",
    "checksum": sha("a"),
    "file_path": "/raw/a",
    "file_size": 2,
    "etag": None,
    "ts_downloaded": "2023-01-01T12:00:00Z",
    "version": "1.0.0",
}
HEAD = META.model_dump(mode="json") | {"total_records": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place that nobody checks afterwards, since what lies there is damaged on purpose."""
    return tmp_path / "systems_download.manifest.json"


def _document(row: Any = ROW, *, key: str = sha("a"), metadata: Any = HEAD) -> bytes:
    return json.dumps({"metadata": metadata, "records": {key: row}}).encode()


def _without(name: str, source: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in source.items() if k != name}


SHAPES: dict[str, bytes] = {
    "empty file": b"",
    "one newline": b"\n",
    "no JSON": b"once upon a time",
    "XML": b"<?xml version='1.0'?>",
    "null": b"null",
    "number": b"7",
    "text": b'"manifest"',
    "list": b"[]",
    "empty object": b"{}",
    "no metadata": json.dumps({"records": {}}).encode(),
    "no records": json.dumps({"metadata": HEAD}).encode(),
    "third key": json.dumps({"metadata": HEAD, "records": {}, "extra": 1}).encode(),
    "records list": json.dumps({"metadata": HEAD, "records": [ROW]}).encode(),
    "records null": json.dumps({"metadata": HEAD, "records": None}).encode(),
    "metadata list": json.dumps({"metadata": [], "records": {}}).encode(),
    "metadata null": json.dumps({"metadata": None, "records": {}}).encode(),
    "something behind": _document() + b"x",
    "two documents": _document() + _document(),
    "NULs": bytes(1000),
    "NULs behind": _document() + bytes(10),
    "NULs in front": bytes(10) + _document(),
    "NUL within": _document().replace(b'"set"', b'"s\0t"'),
    "not UTF-8": _document().replace(b"/raw/a", b"/raw/\xff"),
    "UTF-16": _document().decode().encode("utf-16"),
    "cut UTF-8": _document().replace(b"/raw/a", b"/raw/\xc3"),
    "lone surrogate": _document().replace(b"/raw/a", b"/raw/\\ud800"),
    "NaN": _document().replace(b'"file_size": 2', b'"file_size": NaN'),
    "infinity": _document().replace(b'"file_size": 2', b'"file_size": Infinity'),
    "deep list": b"[" * 100_000,
    "deep member": _document(ROW | {"x": 0}).replace(b'"x": 0', b'"x": ' + b"[" * 50_000 + b"]" * 50_000),
    "duplicate record": b'{"metadata": %b, "records": {"%b": %b, "%b": %b}}'
    % (json.dumps(HEAD).encode(), *(2 * (sha("a").encode(), json.dumps(ROW).encode()))),
    "duplicate member": _document().replace(b'"dataset": "set"', b'"dataset": "set", "dataset": "other"'),
    "duplicate top key": b'{"metadata": {}, "metadata": %b, "records": {}}' % json.dumps(HEAD).encode(),
    "a record that is a list": _document([]),
    "a record that is null": _document(None),
    "a short key": _document(ROW | {"checksum": "ab"}, key="ab"),
    "a key that is no hex": _document(ROW | {"checksum": "g" * 64}, key="g" * 64),
    "an empty key": _document(ROW | {"checksum": ""}, key=""),
    "another key than the record's checksum": _document(key=sha("b")),
    "a checksum that is a number": _document(ROW | {"checksum": 7}),
    "size zero": _document(ROW | {"file_size": 0}),
    "size below zero": _document(ROW | {"file_size": -1}),
    "size with a fraction": _document(ROW | {"file_size": 2.0}),
    "size as text": _document(ROW | {"file_size": "2"}),
    "size as truth": _document(ROW | {"file_size": True}),
    "size beyond 64 bits": _document(ROW | {"file_size": 1 << 70}),
    "an unknown member beyond 64 bits": _document(ROW | {"mirrors": [1 << 70]}),
    "unknown metadata beyond 64 bits": _document(metadata=HEAD | {"mirrors": 1 << 70}),
    "no text for a source": _document(ROW | {"source_id": 7}),
    "an empty source": _document(ROW | {"source_id": ""}),
    "an empty dataset": _document(ROW | {"dataset": ""}),
    "an ETag that is a number": _document(ROW | {"etag": 7}),
    "a rank below zero": _document(ROW | {"tie": -1}),
    "a rank with a fraction": _document(ROW | {"tie": 1.5}),
    "no time": _document(ROW | {"ts_downloaded": "yesterday"}),
    "a time that is a number": _document(ROW | {"ts_downloaded": 1672574400}),
    "a time before all times": _document(ROW | {"ts_downloaded": "0001-01-01T00:00:00+14:00"}),
    "also_seen is not a list": _document(ROW | {"also_seen": {"source_id": "x"}}),
    "also_seen holds text": _document(ROW | {"also_seen": ["x"]}),
    "also_seen holds half an observation": _document(ROW | {"also_seen": [{"source_id": "x", "dataset": "y"}]}),
    "derived_from is text": _document(ROW | {"derived_from": sha("b")}),
    "derived_from holds junk": _document(ROW | {"derived_from": ["junk"]}),
    "an unknown process": _document(metadata=HEAD | {"process": "cook"}),
    "a total that is text": _document(metadata=HEAD | {"total_records": "1"}),
    "a creation that is no time": _document(metadata=HEAD | {"ts_created": "soon"}),
    "a creation before all times": _document(metadata=HEAD | {"ts_created": "0001-01-01T00:00:00+14:00"}),
    "an empty version": _document(metadata=HEAD | {"etl_version": ""}),
    **{f"a record without {n}": _document(_without(n, ROW)) for n in ROW if n != "etag"},
    **{f"metadata without {n}": _document(metadata=_without(n, HEAD)) for n in HEAD if n != "total_records"},
}


def _as_ours(data: bytes) -> bytes | None:
    """The same document in the layout that we write, where it has one."""
    try:
        document = json.loads(data)
        records = document["records"].items()
        text = json.dumps({"metadata": document["metadata"], "records": {}}, indent=4)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    rows = [f"        {json.dumps(key)}: {json.dumps(row, separators=(',', ':'))}" for key, row in records]
    return (text[: -len("}\n}")] + "\n" + ",\n".join(rows) + "\n    }\n}\n").encode() if rows else text.encode()


SHAPES |= {f"{name}, as ours": ours for name, data in SHAPES.items() if (ours := _as_ours(data))}
SHAPES["a key that is no hex, as ours"] = _as_ours(_document(ROW, key="x" + sha("a")[1:])) or b""
for _name in ("UTF-16", "third key", "duplicate record", "duplicate member", "duplicate top key"):
    SHAPES.pop(f"{_name}, as ours", None)  # another layout has another meaning

WAYS: dict[str, Callable[[Path], DownloadManifestManager]] = {
    "open": lambda path: DownloadManifestManager(path, options=QUIET),
    "open or create": lambda path: DownloadManifestManager(path, META, options=QUIET),
    "read only": lambda path: DownloadManifestManager(path, options=QUIET, read_only=True),
}


def _refused(path: Path, way: str = "open or create") -> DamagedManifestError:
    with pytest.raises(DamagedManifestError) as refused:
        WAYS[way](path).close()
    return refused.value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_bad_canonical_is_refused(path: Path, shape: str, way: str) -> None:
    """Whatever stands in the file, it is an error, however it is opened, and never a fresh manifest."""
    path.write_bytes(SHAPES[shape])
    _refused(path, way)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bad_canonical_is_not_changed(path: Path, shape: str) -> None:
    """A refused file stays byte for byte, and nothing appears beside it."""
    path.write_bytes(SHAPES[shape])
    _refused(path)
    assert files_of(path.parent) == {path.name: SHAPES[shape]}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bad_canonical_is_reported_with_an_offset(path: Path, shape: str) -> None:
    """The error has the file and an offset within it."""
    path.write_bytes(SHAPES[shape])
    error = _refused(path)
    assert error.path == str(path)
    assert 0 <= error.offset <= len(SHAPES[shape])


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ("something behind", b"}x"),
        ("not UTF-8", b"\xff"),
        ("NUL within", b"\0"),
        ("NaN", b"NaN"),
        ("records list", b'"records"'),
        ("another key than the record's checksum", b'"' + sha("b").encode()),
        ("an unknown process", b'"metadata"'),
        ("size zero", b'"' + sha("a").encode()),
    ],
)
def test_the_offset_is_that_of_the_error(path: Path, shape: str, word: bytes) -> None:
    """The offset leads to what is wrong, give or take a word."""
    path.write_bytes(SHAPES[shape])
    assert abs(_refused(path).offset - SHAPES[shape].index(word)) <= 2


def test_the_message_says_what_to_do(path: Path) -> None:
    """The message tells how to go on."""
    path.write_bytes(b"{}")
    assert "`manifestlog repair`" in str(_refused(path))


# -- cut and flipped ---------------------------------------------------------------------------------------------------


@pytest.fixture
def canonical(path: Path) -> bytes:
    """A canonical with one record, its log and its index beside it."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add(record("a", etag="e"))
        manager.save()
    return path.read_bytes()


def _answers(path: Path) -> object:
    with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
        return answers(manager)


@pytest.mark.parametrize("beside", ["log and index", "log", "nothing"])
def test_a_canonical_cut_anywhere_is_refused(path: Path, canonical: bytes, beside: str) -> None:
    """Cut at every length, a canonical is refused; only its last newline is no loss when it stands alone."""
    for other in path.parent.glob("*.*"):
        if (beside == "nothing" and other != path) or (beside == "log" and other.suffix == ".idx"):
            other.unlink()
    lengths = len(canonical) - (1 if beside == "nothing" else 0)
    wrong = []
    for length in range(lengths):
        path.write_bytes(canonical[:length])
        try:
            _answers(path)
            wrong.append(length)
        except DamagedManifestError as error:
            if not 0 <= error.offset <= length or path.read_bytes() != canonical[:length]:
                wrong.append(length)
    assert wrong == []


def test_a_canonical_without_its_last_newline_is_whole(path: Path, canonical: bytes) -> None:
    """An editor that takes the last newline away takes no record away."""
    expected = _answers(path)
    for other in path.parent.glob("*.*"):
        other.unlink()
    path.write_bytes(canonical[:-1])
    assert _answers(path) == expected


@pytest.mark.slow  # tests/damage has every byte in make test
def test_every_flipped_bit_is_found_by_the_log(path: Path, canonical: bytes) -> None:
    """A canonical with any one bit flipped is not the file that its log belongs to."""
    missed = []
    for bit in range(8 * len(canonical)):
        data = bytearray(canonical)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        os.utime(path, ns=(0, bit))
        try:
            _answers(path)
            missed.append(bit)
        except DamagedManifestError:
            pass
    assert missed == []


@pytest.mark.slow  # tests/damage has every byte in make test
def test_no_flipped_bit_behind_the_index_gives_a_wrong_answer(path: Path, canonical: bytes) -> None:
    """Rot that moves no time stamp is found when the record is read, or it changes no answer."""
    expected = _answers(path)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    wrong = []
    for bit in range(8 * len(canonical)):
        data = bytearray(canonical)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        os.utime(path, ns=times)
        try:
            if _answers(path) != expected:
                wrong.append(bit)
        except DamagedManifestError:
            pass
    assert wrong == []


def test_no_flipped_byte_behind_the_index_is_compacted_away(path: Path, canonical: bytes) -> None:
    """Rot that moves no time stamp stops the next compaction, wherever it is; the file stays."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.add(record("b", 1))
    laundered = []
    for place in range(0, len(canonical), 7):
        data = bytearray(canonical)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        os.utime(path, ns=times)
        with DownloadManifestManager(path, options=QUIET) as manager:
            try:
                manager.compact()
                laundered.append(place)
            except DamagedManifestError:
                if path.read_bytes() != data:
                    laundered.append(place)
    assert laundered == []


# -- manifests of other tools ------------------------------------------------------------------------------------------


def _earlier(count: int = 5, *, indent: int | None = 2, upper: bool = True, naive: bool = False) -> bytes:
    """Indented, unsorted, upper-case: what a home-made manifest looks like."""
    records = {}
    for number in range(count):
        row = record(f"c{number}", number, source=f"s{number}", etag=f"e{number}").model_dump(mode="json")
        key = row["checksum"].upper() if upper else row["checksum"]
        if naive:
            row["ts_downloaded"] = row["ts_downloaded"].removesuffix("Z")
        records[key] = dict(reversed(list((row | {"checksum": key}).items())))
    return json.dumps({"records": records, "metadata": HEAD | {"total_records": count}}, indent=indent).encode()


EXPECTED = {sha(f"c{n}"): record(f"c{n}", n, source=f"s{n}", etag=f"e{n}") for n in range(5)}


@pytest.mark.parametrize("indent", [None, 0, 1, 2, 4])
@pytest.mark.parametrize("upper", [False, True])
def test_a_manifest_of_another_tool_loads(path: Path, indent: int | None, *, upper: bool) -> None:
    """Any indentation, any order, any case: every record is there."""
    path.write_bytes(_earlier(indent=indent, upper=upper))
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert dict(manager.records) == EXPECTED


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"  ", b"\t"),
        lambda data: b"\n\n" + data + b"\n \t\n",
        lambda data: data.replace(b"/raw", b"\\u002Fraw"),
        lambda data: data.replace(b'"total_records": 5', b'"total_records": 99'),
        lambda data: data.replace(b'      "etag": "e0",\n', b"").replace(b'"etag": "e0"', b'"etag": "e0"'),
    ],
    ids=["BOM", "CRLF", "tabs", "white space", "escapes", "wrong total", "nothing"],
)
def test_a_harmless_oddity_loads(path: Path, change: Callable[[bytes], bytes]) -> None:
    """What changes no record stands in nobody's way."""
    path.write_bytes(change(_earlier()))
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert len(manager.records) == 5


def test_another_source_without_an_etag_loads(path: Path) -> None:
    """Also where it saw the content last, so that its observation becomes the record's own."""
    other = _without("etag", ROW) | {"source_id": "other", "ts_downloaded": "2024-01-01T00:00:00Z"}
    path.write_bytes(_document(ROW | {"also_seen": [_without("file_size", _without("checksum", other))]}))
    with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
        found = manager.get_record_by_source("other")
    assert (found.etag if found else "none found") is None


def test_opening_does_not_change_a_manifest_of_another_tool(path: Path) -> None:
    """Reading it changes no byte."""
    path.write_bytes(_earlier())
    with DownloadManifestManager(path, options=QUIET) as manager:
        list(manager.records)
    assert files_of(path.parent) == {path.name: _earlier()}


def test_a_manifest_of_another_tool_is_found_by_source(path: Path) -> None:
    """Its sources are indexed."""
    path.write_bytes(_earlier())
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert manager.get_record_by_source("s3", "set") == EXPECTED[sha("c3")]


def test_after_a_compaction_it_is_canonical(path: Path) -> None:
    """The next compaction gives the bytes that our own records would have given."""
    path.write_bytes(_earlier())
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.save()
    other = path.with_name("other_download.manifest.json")
    with DownloadManifestManager(other, META, options=QUIET) as manager:
        manager.add_many(EXPECTED.values())
        manager.save()
    one, same = (p.read_bytes().split(b'"records"')[1] for p in (path, other))
    assert one == same


def test_after_a_compaction_json_still_reads_it(path: Path) -> None:
    """A plain `json.load` sees the same keys in lower case, and what was added."""
    path.write_bytes(_earlier())
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.add(record("more", 9))
        manager.save()
    with path.open() as file:
        assert set(json.load(file)["records"]) == {*EXPECTED, sha("more")}


def test_records_of_another_tool_can_be_forgotten(path: Path) -> None:
    """A tombstone for a record of another tool's manifest holds."""
    path.write_bytes(_earlier())
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.forget(sha("c2"))
        manager.save()
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert sorted(manager) == sorted(set(EXPECTED) - {sha("c2")})


def test_naive_times_are_read_as_utc(path: Path) -> None:
    """A time without a zone is taken for UTC."""
    path.write_bytes(_earlier(naive=True))
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert manager.records[sha("c1")].ts_downloaded == at(1)


def test_naive_times_are_logged_as_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A time without a zone is told of."""
    path.write_bytes(_earlier(naive=True))
    with caplog.at_level(logging.WARNING, "manifestlog"), DownloadManifestManager(path, options=QUIET):
        assert "zone" in caplog.text


def test_a_wrong_total_is_logged_as_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A `total_records` that does not add up is told of, and put right."""
    path.write_bytes(_earlier().replace(b'"total_records": 5', b'"total_records": 99'))
    with caplog.at_level(logging.WARNING, "manifestlog"), DownloadManifestManager(path, options=QUIET) as manager:
        assert ("99" in caplog.text, manager.metadata.total_records) == (True, 5)


def test_other_zones_are_read_as_utc(path: Path) -> None:
    """A time with another offset is the same moment in UTC."""
    path.write_bytes(_document(ROW | {"ts_downloaded": "2023-01-01T14:00:00+02:00"}))
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert manager.records[sha("a")].ts_downloaded == at(0)


def test_a_path_of_another_file_is_rejected(tmp_path: Path) -> None:
    """A directory in the manifest's place is an error, and no manifest."""
    folder = tmp_path / "systems_download.manifest.json"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        DownloadManifestManager(folder, META)
