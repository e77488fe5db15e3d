"""Runs of stages as OpenLineage events: what they say, that they fit the specification, and what happens if nobody listens."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from manifestlog import ManifestError
from manifestlog.stages import loaded, nothing, valid
from manifestlog.stages.openlineage import OpenLineage
from support import openlineage_schema
from support.accepting import accepting
from support.openlineage_rules import violations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from manifestlog.stages import Stage

    from .home import Home


def copy(item: Any) -> bytes:
    return bytes(item.path.read_bytes()) + b"!"


def fail_on_b(item: Any) -> bytes:
    if item.source_id == "b":
        raise ValueError("b is bad")
    return copy(item)


def _sent(home: Home, function: Callable[..., Any], **settings: Any) -> list[dict[str, Any]]:
    """Run a stage; return the events that it sent."""
    target = home.root / "lineage.jsonl"
    stage = home.stage(function, **settings)
    with OpenLineage(str(target), [stage], home.manifests) as lineage:
        home.run_stage(stage, on_event=lineage)
    return _read(target)


def _read(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


def _datasets(event: dict[str, Any], side: str) -> list[str]:
    return [one["name"] for one in event[side]]


def test_a_run_is_a_start_and_a_complete(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    assert [event["eventType"] for event in _sent(home, copy)] == ["START", "COMPLETE"]


def test_both_are_of_one_run(home: Home) -> None:
    home.download(("a", "1"))
    start, end = _sent(home, copy)
    assert start["run"]["runId"] == end["run"]["runId"]


def test_another_run_has_another_id(home: Home) -> None:
    home.download(("a", "1"))
    first = _sent(home, copy)[0]
    home.download(("b", "2"))
    assert _sent(home, copy)[-1]["run"]["runId"] != first["run"]["runId"]


def test_the_job_is_the_stage(home: Home) -> None:
    home.download(("a", "1"))
    job = _sent(home, copy, name="parse")[0]["job"]
    assert (job["namespace"], job["name"]) == ("manifestlog", "parse")


def test_the_end_names_the_datasets_that_were_read_and_written(home: Home) -> None:
    home.download(("a", "1"), dataset="one")
    home.download(("b", "2"), dataset="two")
    end = _sent(home, copy)[-1]
    assert _datasets(end, "inputs") == ["x_download/one", "x_download/two"]
    assert _datasets(end, "outputs") == ["x_parse/one", "x_parse/two"]


def test_the_outputs_have_their_number_and_size(home: Home) -> None:
    home.download(("a", "1"), ("b", "22"))
    (output,) = _sent(home, copy)[-1]["outputs"]
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["fileCount"], statistics["size"]) == (2, 5)


def test_a_load_has_its_rows(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    (output,) = _sent(home, lambda _: loaded(5))[-1]["outputs"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 10


def test_a_judged_input_is_an_output(home: Home) -> None:
    home.download(("a", "1"))
    assert _datasets(_sent(home, lambda _: valid())[-1], "outputs") == ["x_parse/set"]


def test_nothing_to_do_with_an_input_is_no_output(home: Home) -> None:
    home.download(("a", "1"))
    end = _sent(home, lambda _: nothing())[-1]
    assert (_datasets(end, "inputs"), end["outputs"]) == (["x_download/set"], [])


def test_a_run_with_nothing_pending_sends_nothing(home: Home) -> None:
    home.download(("a", "1"))
    before = _sent(home, copy)
    assert _sent(home, copy) == before


def test_a_failed_item_makes_the_run_a_fail_that_says_why(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    end = _sent(home, fail_on_b)[-1]
    assert end["eventType"] == "FAIL"
    assert end["run"]["facets"]["errorMessage"]["message"] == "1 of 2 items failed; the first: ValueError: b is bad"


def test_what_a_failed_run_has_written_is_named(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    (output,) = _sent(home, fail_on_b)[-1]["outputs"]
    assert output["outputFacets"]["outputStatistics"]["fileCount"] == 1


def test_a_run_that_an_error_ends_is_a_fail(home: Home) -> None:
    home.download(("a", "1"))
    target = home.root / "lineage.jsonl"
    stage = home.stage(copy)

    def run() -> None:
        with OpenLineage(str(target), [stage], home.manifests) as lineage:

            def stumble(event: Any) -> None:
                lineage(event)
                if type(event).__name__ == "Finished":
                    raise ManifestError("the disk is gone")

            home.run_stage(stage, on_event=stumble)

    with pytest.raises(ManifestError):
        run()
    end = _read(target)[-1]
    assert end["eventType"] == "FAIL"
    assert end["run"]["facets"]["errorMessage"]["message"] == "ManifestError: the disk is gone"


def test_an_interrupted_run_is_an_abort(home: Home) -> None:
    home.download(("a", "1"), ("b", "2"))
    target = home.root / "lineage.jsonl"
    stage = home.stage(copy)
    done: list[Any] = []
    with OpenLineage(str(target), [stage], home.manifests) as lineage:

        def receive(event: Any) -> None:
            lineage(event)
            done.extend([event] * (type(event).__name__ == "Finished"))

        home.run_stage(stage, on_event=receive, asked_to_stop=lambda: bool(done))
    assert _read(target)[-1]["eventType"] == "ABORT"


every_kind = pytest.mark.parametrize("function", [copy, fail_on_b, lambda _: loaded(3), lambda _: nothing()])


@every_kind
def test_every_event_fits_the_specification(home: Home, function: Callable[..., Any]) -> None:
    home.download(("a", "1"), ("b", "2"))
    assert [violations(event) for event in _sent(home, function)] == [[], []]


@every_kind
def test_every_event_fits_the_published_schema(home: Home, function: Callable[..., Any]) -> None:
    home.download(("a", "1"), ("b", "2"))
    assert [openlineage_schema.violations(event) for event in _sent(home, function)] == [[], []]


def test_the_rules_of_the_specification_find_a_wrong_event(home: Home) -> None:
    home.download(("a", "1"))
    event = _sent(home, copy)[-1]
    event["run"]["runId"] = "20260101T120000Z-5eed1234"
    event["outputs"][0]["outputFacets"]["outputStatistics"].pop("_producer")
    with pytest.raises(ValueError, match="UUID"):
        violations(event)
    event["run"]["runId"] = "72331fb7-9c34-51bf-94c2-f7f86245c9b8"
    assert violations(event) == ["outputs.outputStatistics lacks _producer"]


# -- servers -----------------------------------------------------------------------------------------------------------


class _Post(NamedTuple):
    path: str
    key: str | None
    event: dict[str, Any]


@contextmanager
def _server(status: int = 200) -> Iterator[tuple[str, list[_Post]]]:
    posts: list[_Post] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.append(_Post(self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server, accepting(server):
        yield f"http://127.0.0.1:{server.server_port}", posts


def _post(home: Home, target: str) -> Stage:
    home.download(("a", "1"))
    stage = home.stage(copy)
    with OpenLineage(target, [stage], home.manifests) as lineage:
        assert home.run_stage(stage, on_event=lineage).is_ok
    return stage


def test_a_server_receives_the_events(home: Home) -> None:
    with _server() as (url, posts):
        _post(home, url)
    assert [(post.path, post.event["eventType"]) for post in posts] == [
        ("/api/v1/lineage", "START"),
        ("/api/v1/lineage", "COMPLETE"),
    ]


def test_a_url_with_a_path_is_used_as_it_is(home: Home) -> None:
    with _server() as (url, posts):
        _post(home, f"{url}/lineage/here")
    assert {post.path for post in posts} == {"/lineage/here"}


def test_the_key_is_sent(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "swordfish")
    with _server() as (url, posts):
        _post(home, url)
    assert {post.key for post in posts} == {"Bearer swordfish"}


def test_a_server_that_refuses_is_one_warning_and_the_run_goes_on(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    with _server(403) as (url, posts), caplog.at_level(logging.WARNING, "manifestlog"):
        _post(home, url)
    assert len(posts) == 1
    assert [
        one.message.count("cannot be delivered") for one in caplog.records if one.name.startswith("manifestlog")
    ] == [1]


def test_a_server_that_is_down_stops_no_run(home: Home) -> None:
    with _server() as (url, _):
        pass
    _post(home, url)
    assert home.outputs()


# -- the package and the file ------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_fails_before_the_run(home: Home) -> None:
    with pytest.raises(ManifestError, match="cannot be written there"):
        OpenLineage(str(home.root / "missing" / "lineage.jsonl"), [], home.manifests)


def test_without_the_package_the_error_says_what_to_install(home: Home) -> None:
    code = (
        "import sys; sys.modules['openlineage'] = None\n"
        "from manifestlog.stages.openlineage import OpenLineage\n"
        "OpenLineage('lineage.jsonl', [])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=home.root)
    assert "pip install 'manifestlog[openlineage]'" in done.stderr
