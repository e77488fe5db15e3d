"""Expectations about a content: failures are kept as rejected files, and HTML pages in place of data are reported."""

from __future__ import annotations

import gzip
import io
import os
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import config_error, raw_config, raw_source, source
from extract.runs import Home, entry
from manifestlog.extract import Result, load_config
from manifestlog.extract.claims import Claims
from manifestlog.extract.expectations import Content, Expectations, PreviousContent, html_warning, violation
from manifestlog.extract.register import finish_interrupted
from support import answers

if TYPE_CHECKING:
    from pathlib import Path

    from extract.builders import Write
    from extract.running import Here
    from manifestlog.extract import Outcome
    from support.badserver import BadServer, Step

CSV = b"id,name\n1,Sol\n"
PAGE = b"<!DOCTYPE html>\n<html><body>We are down for maintenance.</body></html>"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "b")
    return buffer.getvalue()


def sent(body: bytes, content_type: str | None = "text/csv") -> Step:
    """A complete body of this type."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    return answers.exactly(200, headers | {"Content-Length": str(len(body))}, body)


def fetch(here: Here, url: str, defaults: dict[str, Any] | None = None, **expected: Any) -> Outcome:
    return here.one(source(url, **{"source_id": "a", "dataset": "systems"} | expected), **defaults or {})


def content(head: bytes, name: str = "a.csv", content_type: str | None = None) -> Content:
    return Content(name, content_type, len(head), head[:4096], head[-4:])


UNMET = [
    pytest.param({"content_type": "application/json"}, id="content_type"),
    pytest.param({"bytes_min": len(CSV) + 1}, id="bytes_min"),
    pytest.param({"bytes_max": len(CSV) - 1}, id="bytes_max"),
    pytest.param({"starts_with": "gzip"}, id="magic"),
    pytest.param({"starts_with": "id;name"}, id="text"),
    pytest.param({"validate": ["false"]}, id="validate"),
]
MET = [
    pytest.param({"content_type": "text/csv"}, id="content_type"),
    pytest.param({"content_type": ["application/json", "TEXT/*"]}, id="one of many, a pattern"),
    pytest.param({"bytes_min": len(CSV), "bytes_max": len(CSV)}, id="sizes"),
    pytest.param({"starts_with": "csv"}, id="magic"),
    pytest.param({"starts_with": "id,name"}, id="text"),
    pytest.param({"validate": ["grep", "-q", "Sol"]}, id="validate"),
]


@pytest.mark.parametrize("expected", MET)
def test_content_that_meets_expectations_is_registered(here: Here, bad: BadServer, expected: dict[str, Any]) -> None:
    assert fetch(here, bad.script("/a.csv", sent(CSV)), **expected).result is Result.NEW


@pytest.mark.parametrize("expected", UNMET)
def test_a_failed_expectation_fails_the_source(here: Here, bad: BadServer, expected: dict[str, Any]) -> None:
    assert fetch(here, bad.script("/a.csv", sent(CSV)), **expected).result is Result.FAILED


@pytest.mark.parametrize("expected", UNMET)
def test_content_that_fails_is_not_registered(here: Here, bad: BadServer, expected: dict[str, Any]) -> None:
    fetch(here, bad.script("/a.csv", sent(CSV)), **expected)
    assert not here.manifest.records


@pytest.mark.parametrize("expected", UNMET)
def test_content_that_fails_is_kept_as_rejected(here: Here, bad: BadServer, expected: dict[str, Any]) -> None:
    fetch(here, bad.script("/a.csv", sent(CSV)), **expected)
    (name,) = here.files
    assert (name.endswith(".rejected"), (here.data_dir / name).read_bytes()) == (True, CSV)


@pytest.mark.parametrize("expected", UNMET)
def test_defaults_count_for_every_source(here: Here, bad: BadServer, expected: dict[str, Any]) -> None:
    assert fetch(here, bad.script("/a.csv", sent(CSV)), expected).result is Result.FAILED


@pytest.mark.parametrize(
    ("default", "own"),
    [
        ({"content_type": "application/json"}, {"content_type": []}),
        ({"bytes_min": 1000}, {"bytes_min": 0}),
        ({"bytes_max": 1}, {"bytes_max": 1000}),
        ({"starts_with": "gzip"}, {"starts_with": ""}),
        ({"content_type": "text/plain"}, {"content_type": ""}),
        ({"bytes_max": 1}, {"bytes_max": 0}),
        ({"validate": "false"}, {"validate": []}),
    ],
)
def test_a_source_overrides_the_defaults(
    here: Here, bad: BadServer, default: dict[str, Any], own: dict[str, Any]
) -> None:
    assert fetch(here, bad.script("/a.csv", sent(CSV)), default, **own).result is Result.NEW


def test_a_refused_content_leaves_the_last_one_current(here: Here, bad: BadServer) -> None:
    url = bad.script("/a.csv", sent(CSV), sent(b""), sent(PAGE, "text/html"))
    fetch(here, url)
    fetch(here, url, content_type="text/csv")
    assert here.body() == CSV


def test_a_missing_content_type_fails_the_expectation(here: Here, bad: BadServer) -> None:
    assert fetch(here, bad.script("/a.csv", sent(CSV, None)), content_type="text/csv").result is Result.FAILED


def test_a_content_type_is_remembered_while_a_body_is_cut(here: Here, bad: BadServer) -> None:
    headers = {"Content-Type": "text/csv", "ETag": '"a"', "Content-Length": str(len(CSV))}

    def cut(exchange: Any) -> None:
        exchange.head(200, headers)
        exchange.body(CSV[:5])
        exchange.hang_up()

    rest = {"ETag": '"a"', "Content-Range": f"bytes 5-{len(CSV) - 1}/{len(CSV)}", "Content-Length": str(len(CSV) - 5)}
    url = bad.script("/a.csv", cut, answers.exactly(206, rest, CSV[5:]))
    assert fetch(here, url, content_type="text/csv").result is Result.NEW


@pytest.mark.parametrize(("size", "result"), [(50, Result.CHANGED), (49, Result.FAILED)])
def test_a_content_may_shrink_by_a_share(here: Here, bad: BadServer, size: int, result: Result) -> None:
    url = bad.script("/a.csv", sent(b"a" * 100), sent(b"b" * size))
    fetch(here, url, shrink_max=0.5)
    assert fetch(here, url, shrink_max=0.5).result is result


@pytest.mark.usefixtures("no_small_bodies")
def test_decoded_content_is_checked_by_the_run_that_finishes_it(here: Here, bad: BadServer) -> None:
    """A run that is killed in between leaves a part with a recorded intent."""
    url = bad.script("/a.csv", sent(CSV))
    one = source(url, source_id="a", dataset="systems", bytes_min=1000)
    from manifestlog.extract.fetchers.protocol import ResponseHead
    from manifestlog.extract.part_file import PartFile, PartWriter
    from manifestlog.extract.paths import SourcePaths
    from manifestlog.extract.register import UnexpectedError
    from manifestlog.extract.writing_files import make_directory

    part = PartFile(SourcePaths.of(here.data_dir, one))
    make_directory(part.path.parent)
    with PartWriter(part, ResponseHead(200, encoding="gzip")) as writer:
        writer.write(gzip.compress(CSV))
    part.decode()
    with Claims(here.manifest, here.data_dir) as claims, pytest.raises(UnexpectedError):
        finish_interrupted(here.context(claims), one, PartFile(part.paths))


# -- an HTML page instead of data --------------------------------------------------------------------------------------


def test_an_html_page_under_another_suffix_gives_a_warning(here: Here, bad: BadServer) -> None:
    outcome = fetch(here, bad.script("/m.csv", sent(PAGE, "text/html; charset=utf-8")))
    assert "m.csv says otherwise" in (outcome.warning or "")


def test_an_html_page_in_place_of_data_gives_a_warning(here: Here, bad: BadServer) -> None:
    url = bad.script("/export", sent(CSV), sent(PAGE, "text/html"))
    fetch(here, url)
    assert "the previous content was not HTML" in (fetch(here, url).warning or "")


def test_an_html_page_after_an_html_page_gives_no_warning(here: Here, bad: BadServer) -> None:
    url = bad.script("/export", sent(PAGE, "text/html"), sent(PAGE + b" ", "text/html"))
    fetch(here, url)
    assert fetch(here, url).warning is None


def test_an_html_page_named_html_gives_no_warning(here: Here, bad: BadServer) -> None:
    assert fetch(here, bad.script("/index.html", sent(PAGE, "text/html"))).warning is None


def test_an_expected_html_page_gives_no_warning(here: Here, bad: BadServer) -> None:
    assert fetch(here, bad.script("/m.csv", sent(CSV, "text/html")), content_type="text/html").warning is None


def test_strict_refuses_a_page(here: Here, bad: BadServer) -> None:
    assert fetch(here, bad.script("/m.csv", sent(PAGE, "text/html")), {"strict": True}).result is Result.FAILED


def test_a_source_may_be_less_strict(here: Here, bad: BadServer) -> None:
    url = bad.script("/m.csv", sent(PAGE, "text/html"))
    assert fetch(here, url, {"strict": True}, strict=False).result is Result.NEW


def test_quiet_shows_the_warning(tmp_path: Path, bad: BadServer) -> None:
    home = Home(tmp_path)
    home.configure(entry(bad.script("/m.csv", sent(PAGE, "text/html"))))
    assert "says otherwise" in home.run("--quiet").err


def test_json_carries_the_warning(tmp_path: Path, bad: BadServer) -> None:
    home = Home(tmp_path)
    home.configure(entry(bad.script("/m.csv", sent(PAGE, "text/html"))))
    (warning,) = home.run().json["warnings"]
    assert "says otherwise" in warning["warning"]


# -- the decision ------------------------------------------------------------------------------------------------------

STARTS = {
    "gzip": gzip.compress(CSV),
    "zip": zipped(),
    "parquet": b"PAR1" + bytes(20) + b"PAR1",
    "json": b"\xef\xbb\xbf\n {}",
    "xml": b'<?xml version="1.0"?>\n<systems/>',
    "csv": CSV,
}


@pytest.mark.parametrize("start", STARTS)
def test_a_format_is_known_by_its_beginning(start: str) -> None:
    assert violation(Expectations(starts_with=start), content(STARTS[start]), None) is None


@pytest.mark.parametrize("start", STARTS)
def test_an_html_page_is_none_of_the_formats(start: str) -> None:
    assert violation(Expectations(starts_with=start), content(PAGE), None) is not None


def test_a_truncated_parquet_file_is_not_parquet() -> None:
    cut = content(STARTS["parquet"][:-1])
    assert violation(Expectations(starts_with="parquet"), cut, None) is not None


def test_utf_16_is_text() -> None:
    assert violation(Expectations(starts_with="csv"), content("id,name".encode("utf-16")), None) is None


def test_binary_content_is_not_csv() -> None:
    assert violation(Expectations(starts_with="csv"), content(b"\x00\x01\x02"), None) is not None


@pytest.mark.parametrize(
    ("name", "is_told"),
    [("m.csv", True), ("m.json.gz", True), ("m.html", False), ("m.html.gz", False), ("get.php", False), ("m", False)],
)
def test_which_names_say_otherwise(name: str, is_told: bool) -> None:
    assert (html_warning(Expectations(), content(PAGE, name, "text/html"), None) is not None) == is_told


def test_the_type_of_unreadable_previous_content_is_unknown() -> None:
    assert html_warning(Expectations(), content(PAGE, "m", "text/html"), PreviousContent(10, "m", None)) is None


# -- validate ----------------------------------------------------------------------------------------------------------


def test_the_command_gets_the_name_that_the_file_is_to_have(here: Here, bad: BadServer, tmp_path: Path) -> None:
    name = tmp_path / "name"
    fetch(here, bad.script("/a.csv", sent(CSV)), validate=["sh", "-c", f'basename "$1" > {name}', "-"])
    assert name.read_text() == "a.csv\n"


def test_no_shell_reads_the_command(here: Here, bad: BadServer) -> None:
    assert fetch(here, bad.script("/a.csv", sent(CSV)), validate="true; false").result is Result.FAILED


def test_the_output_of_the_command_is_shown(here: Here, bad: BadServer) -> None:
    outcome = fetch(here, bad.script("/a.csv", sent(CSV)), validate=["sh", "-c", "echo 'too few rows'; exit 3"])
    assert "exited with 3, output: too few rows" in (outcome.error or "")


def test_a_missing_command_is_named(here: Here, bad: BadServer) -> None:
    outcome = fetch(here, bad.script("/a.csv", sent(CSV)), validate=["/nowhere/check"])
    assert "/nowhere/check: No such file" in (outcome.error or "")


def test_a_command_must_not_change_the_file(here: Here, bad: BadServer) -> None:
    outcome = fetch(here, bad.script("/a.csv", sent(CSV)), validate=["sh", "-c", 'echo x >> "$1"', "-"])
    assert "changed the file" in (outcome.error or "")


def test_a_command_that_takes_too_long_is_ended(here: Here, bad: BadServer) -> None:
    outcome = fetch(here, bad.script("/a.csv", sent(CSV)), {"timeout_total_s": 1.0}, validate=["sh", "-c", "sleep 60"])
    assert "took longer than timeout_total_s" in (outcome.error or "")


def test_a_run_that_is_stopped_leaves_no_command_running(tmp_path: Path, bad: BadServer) -> None:
    home, noted = Home(tmp_path), tmp_path / "pids"
    command = ["sh", "-c", f"sleep 300 & echo $$ $! > {noted}.new; mv {noted}.new {noted}; wait"]
    home.configure(entry(bad.script("/a.csv", sent(CSV)), validate=command))
    process = home.start()
    while not noted.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=60)
    assert not [pid for pid in map(int, noted.read_text().split()) if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- the configuration -------------------------------------------------------------------------------------------------


def test_a_relative_program_path_starts_at_the_configuration(write: Write) -> None:
    path = write(raw_config(raw_source(validate="bin/check --rows 10")))
    (found,) = load_config(path, {}).sources
    assert found.validate_command == (os.path.join(path.parent, "bin/check"), "--rows", "10")


def test_a_program_of_the_path_is_not_changed(write: Write) -> None:
    (found,) = load_config(write(raw_config(raw_source(validate="xmllint --noout"))), {}).sources
    assert found.validate_command == ("xmllint", "--noout")


@pytest.mark.parametrize(
    "wrong",
    [
        {"content_type": "csv"}, {"content_type": [1]}, {"bytes_min": -1}, {"bytes_max": "1"}, {"shrink_max": 2},
        {"shrink_max": "half"}, {"starts_with": 1}, {"validate": 1}, {"validate": [1]}, {"validate": "'a"},
        {"validate": [""]}, {"strict": "yes"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("in_defaults", [True, False])
def test_a_wrong_expectation_is_named(write: Write, wrong: dict[str, Any], in_defaults: bool) -> None:
    raw = raw_config(defaults=wrong) if in_defaults else raw_config(raw_source(**wrong))
    (key,) = wrong
    prefix = "defaults." if in_defaults else "sources[0]."
    assert config_error(write(raw)).field.startswith(prefix + key)


def test_an_unknown_key_is_reported_with_its_name_in_a_configuration(write: Write) -> None:
    assert "expected validate, or another of" in config_error(write(raw_config(raw_source(validat="x")))).reason


def test_the_name_of_the_attribute_is_no_key(write: Write) -> None:
    assert "unknown key" in config_error(write(raw_config(raw_source(validate_command="x")))).reason
