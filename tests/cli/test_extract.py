"""`extract`: what it is told, what it says, and what it leaves alone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import children_of, finish, one_line
from cli.test_program import on_terminal
from extract.builders import raw_config
from manifestlog.cli.extraction import load
from support import answers
from support.badserver import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.program import Program, Result
    from support.badserver import BadServer

COUNTS = ["new", "changed", "alias", "reverted", "refreshed", "unchanged", "claimed", "failed"]
MANIFEST = "manifests/systems_download.manifest.json"
CONFIG = "etl.config.json"
BODIES = {"a.json": b"first", "b.json": b"second", "c.json": b"third"}


@pytest.fixture
def bad() -> Iterator[BadServer]:
    with misbehaving() as server:
        yield server


def entry(url: str, **more: Any) -> dict[str, Any]:
    return {"source_id": url.rpartition("/")[2], "dataset": "dumps", "url": url} | more


def configure(home: Path, *sources: dict[str, Any], name: str = CONFIG, **more: Any) -> Path:
    path = home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(raw_config(*sources, **({"defaults": {"jobs": 2, "retries": 0}} | more))))
    return path


@pytest.fixture
def urls(bad: BadServer) -> list[str]:
    return [bad.script(f"/{name}", answers.whole(body, f'"{name}"')) for name, body in BODIES.items()]


@pytest.fixture
def three(home: Path, urls: list[str]) -> Path:
    """A configuration of three good sources."""
    return configure(home, *map(entry, urls))


@pytest.fixture
def mixed(home: Path, urls: list[str], bad: BadServer) -> Path:
    """A configuration of three good sources and one that is not there."""
    return configure(home, *map(entry, [*urls, bad.script("/gone.json", answers.status(404))]))


def listing(home: Path) -> dict[str, tuple[bytes | None, int]]:
    """Everything below a folder: content and time of change."""
    found = {}
    for path in sorted(home.rglob("*")):
        found[str(path)] = (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
    return found


def without_body(bad: BadServer) -> bool:
    return all(request.method == "HEAD" for request in bad.requests) and not bad.bodies.total()


# -- what is wrong with the configuration ------------------------------------------------------------------------------


def test_without_a_configuration_it_is_a_usage_error(run: Program) -> None:
    result = run.here("extract")
    assert (result.code, result.out, one_line(result.err)) == (2, "", True)
    assert "CONFIG" in result.err


GOOD = {"source_id": "systems", "dataset": "dumps", "url": "https://host/systems.json"}
WRONG = {
    "bad JSON": ('{"sources": [', "line 1, column 14"),
    "no object": ("[]", "top level"),
    "a missing field": (raw_config() | {"etl_version": None}, "etl_version"),
    "an unknown field": (raw_config(colour="red"), "colour"),
    "a wrong type": (raw_config(defaults={"jobs": "four"}), "defaults.jobs"),
    "a wrong address": (raw_config(GOOD, GOOD | {"source_id": "x", "url": "host/x"}), "sources[1].url"),
    "a wrong manifest": (raw_config(manifest="systems"), "manifest"),
    "an unset variable in an address": (raw_config(GOOD | {"url": "https://host/${UNSET_HERE}"}), "sources[0].url"),
    "an unset variable in a header": (raw_config(defaults={"headers": {"X-Key": "${UNSET_HERE}"}}), "X-Key"),
    "no sources": (raw_config(sources=[]), "sources: the list is empty"),
    "a source that stands twice": (raw_config(GOOD, GOOD), "sources[1]"),
}


@pytest.fixture(params=WRONG)
def wrong(request: pytest.FixtureRequest, run: Program) -> tuple[Result, str]:
    """What the program makes of a wrong configuration, and the place of what is wrong."""
    content, place = WRONG[request.param]
    (run.home / CONFIG).write_text(content if isinstance(content, str) else json.dumps(content))
    return run.here("extract", CONFIG), place


def test_an_invalid_configuration_is_reported_in_one_line(wrong: tuple[Result, str]) -> None:
    result, _ = wrong
    assert (result.code, result.out, one_line(result.err)) == (2, "", True)


def test_an_invalid_configuration_is_reported_with_its_place(wrong: tuple[Result, str]) -> None:
    result, place = wrong
    assert result.err.startswith(f"manifestlog: {CONFIG}: ")
    assert place in result.err


@pytest.mark.usefixtures("wrong")
def test_an_invalid_configuration_creates_nothing(home: Path) -> None:
    assert [path.name for path in home.iterdir()] == [CONFIG]


def test_with_json_an_invalid_configuration_is_one_object(run: Program) -> None:
    (run.home / CONFIG).write_text("[]")
    error = run.here("extract", CONFIG, "--json").error
    assert (error["error"], error["exit_code"]) == ("ConfigError", 2)


def test_a_missing_configuration_is_reported_in_one_line(run: Program) -> None:
    result = run.here("extract", "nowhere.json")
    assert (result.code, one_line(result.err), "nowhere.json: No such file" in result.err) == (2, True, True)


@pytest.mark.parametrize("jobs", ["0", "-1", "x", "1025"])
@pytest.mark.parametrize("option", ["--jobs", "--connections"])
def test_an_invalid_number_of_jobs_is_a_usage_error(run: Program, option: str, jobs: str) -> None:
    configure(run.home)
    result = run.here("extract", CONFIG, option, jobs)
    assert (result.code, one_line(result.err)) == (2, True)


# -- what comes of a run -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mixed")
def test_the_report_has_the_keys_of_the_contract_in_their_order(run: Program) -> None:
    report = run("extract", CONFIG, "--json").json
    assert list(report) == ["sources", *COUNTS, "bytes_fetched", "bytes_saved", "seconds", "failures"]


@pytest.mark.usefixtures("mixed")
def test_the_report_counts_each_source_once(run: Program) -> None:
    report = run("extract", CONFIG, "--json").json
    assert (report["sources"], sum(report[name] for name in COUNTS)) == (4, 4)


@pytest.mark.usefixtures("mixed")
def test_the_report_names_what_failed_and_why(run: Program) -> None:
    (failure,) = run("extract", CONFIG, "--json").json["failures"]
    assert list(failure) == ["source_id", "dataset", "error"]
    assert (failure["source_id"], failure["dataset"]) == ("gone.json", "dumps")
    assert "404" in failure["error"]


@pytest.mark.usefixtures("mixed")
def test_a_failed_source_makes_the_exit_code_1(run: Program) -> None:
    assert run("extract", CONFIG).code == 1


@pytest.mark.usefixtures("mixed")
def test_a_failed_source_does_not_stop_the_others(run: Program) -> None:
    assert run("extract", CONFIG, "--json").json["new"] == 3


@pytest.mark.usefixtures("three")
def test_a_run_without_failures_ends_with_0(run: Program) -> None:
    assert run("extract", CONFIG).code == 0


def test_a_configuration_without_sources_ends_with_2(run: Program) -> None:
    configure(run.home, sources=[])
    result = run.here("extract", CONFIG)
    assert (result.code, "sources: the list is empty" in result.err) == (2, True)


# -- chosen sources, forced ones ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("patterns", "asked"),
    [(["a.json"], 1), (["[ab]*"], 2), (["dumps/*"], 3), (["a.json", "c.*"], 2), (["dumps/a.json"], 1)],
)
def test_only_the_named_sources_are_requested(run: Program, bad: BadServer, patterns: list[str], asked: int) -> None:
    options = [word for one in patterns for word in ("--only", one)]
    report = run("extract", CONFIG, "--json", *options).json
    assert (report["sources"], len(bad.requests)) == (asked, asked)


@pytest.mark.usefixtures("three")
def test_a_dry_run_requests_only_the_named_sources(run: Program, bad: BadServer) -> None:
    assert (run("extract", CONFIG, "--dry-run", "--only", "b*", "--json").json["sources"], len(bad.requests)) == (1, 1)


@pytest.mark.usefixtures("three")
def test_an_unknown_source_is_a_usage_error(run: Program, bad: BadServer) -> None:
    result = run.here("extract", CONFIG, "--only", "a.json", "--only", "x*")
    assert (result.code, one_line(result.err), "'x*' matches no source" in result.err) == (2, True, True)
    assert bad.requests == []


def test_a_day_is_chosen_by_an_option(run: Program, home: Path, bad: BadServer) -> None:
    url = bad.script("/2024-05-01/a.csv", answers.whole(b"that day"))
    configure(home, entry(url.replace("2024-05-01", "${DAY}")))
    assert run("extract", CONFIG, "--day", "2024-05-01", "--json").json["new"] == 1


@pytest.mark.usefixtures("three")
def test_a_forced_run_fetches_unchanged_sources(run: Program) -> None:
    run("extract", CONFIG)
    report = run("extract", CONFIG, "--force", "--json").json
    assert (report["unchanged"], report["bytes_fetched"]) == (3, sum(map(len, BODIES.values())))


@pytest.mark.usefixtures("three")
def test_changed_content_is_counted_as_changed(run: Program, bad: BadServer) -> None:
    run("extract", CONFIG)
    bad.script("/a.json", answers.whole(b"other", '"other"'))
    report = run("extract", CONFIG, "--json").json
    assert (report["changed"], report["unchanged"]) == (1, 2)


@pytest.mark.usefixtures("three")
def test_folders_are_relative_to_the_configuration(run: Program, home: Path, urls: list[str]) -> None:
    configure(home, *map(entry, urls), name="configured/etl.config.json")
    run("extract", "configured/etl.config.json")
    assert (home / "configured" / "data" / "raw" / "dumps" / "a.json").read_bytes() == b"first"
    assert (home / "configured" / MANIFEST).exists()


@pytest.mark.usefixtures("three")
def test_a_missing_manifest_is_created(run: Program) -> None:
    run("extract", CONFIG)
    metadata = json.loads(run("cat", MANIFEST).out)["metadata"]
    assert (metadata["etl_version"], metadata["total_records"]) == ("1.0.0", 3)


@pytest.mark.usefixtures("three")
def test_records_say_where_everything_came_from(run: Program, home: Path) -> None:
    run("extract", CONFIG)
    record = run("get", MANIFEST, "--source", "a.json", "--json").json
    said = [record[name] for name in ("dataset", "file_path", "file_size", "etag", "version")]
    assert said == ["dumps", str(home / "data" / "raw" / "dumps" / "a.json"), 5, '"a.json"', "1.0.0"]


def test_a_newer_version_is_recorded(run: Program, home: Path, urls: list[str]) -> None:
    configure(home, entry(urls[0]))
    run("extract", CONFIG)
    configure(home, *map(entry, urls), etl_version="2.0.0")
    run("extract", CONFIG)
    versions = {r["source_id"]: r["version"] for r in run("list", MANIFEST, "--json").json}
    assert versions == {"a.json": "1.0.0", "b.json": "2.0.0", "c.json": "2.0.0"}


def test_the_configuration_may_be_toml(run: Program, home: Path, urls: list[str]) -> None:
    (home / "etl.toml").write_text(
        f"""
        etl_version = "1.0.0"
        manifests_dir = "manifests"
        data_dir = "data/raw"
        manifest = "systems_download"
        [[sources]]
        source_id = "systems"
        dataset = "dumps"
        url = "{urls[0]}"
        """
    )
    assert run("extract", "etl.toml", "--json").json["new"] == 1


@pytest.mark.usefixtures("three")
def test_a_damaged_manifest_is_reported_and_not_changed(run: Program, home: Path, bad: BadServer) -> None:
    run("extract", CONFIG)
    (home / MANIFEST).write_bytes(b"{")
    before, asked = listing(home / "manifests"), len(bad.requests)
    result = run("extract", CONFIG)
    assert (result.code, one_line(result.err)) == (12, True)
    assert (listing(home / "manifests"), len(bad.requests)) == (before, asked)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("jobs", [1, 3])
def test_jobs_is_the_number_of_workers(run: Program, home: Path, bad: BadServer, jobs: int) -> None:
    """They share four sources, each of which waits."""
    event = threading.Event()
    gates = [bad.script(f"/gate-{n}", answers.slow_to_answer(b"%d" % n, event)) for n in range(4)]
    configure(home, *map(entry, gates))
    process = run.start("extract", CONFIG, "--json", "--jobs", jobs)
    bad.wait_until(lambda s: len(s.requests) == 4)
    workers = len(children_of(process.pid))
    event.set()
    assert (workers, finish(process).json["new"]) == (jobs, 4)


# -- in dry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("already", [False, True])
@pytest.mark.usefixtures("three")
def test_a_dry_run_writes_nothing(run: Program, home: Path, bad: BadServer, already: bool) -> None:
    if already:
        run("extract", CONFIG)
        bad.script("/a.json", answers.whole(b"other", '"other"'))
    before = listing(home)
    run("extract", CONFIG, "--dry-run")
    assert listing(home) == before


@pytest.mark.usefixtures("three")
def test_a_dry_run_requests_no_body(run: Program, bad: BadServer) -> None:
    run("extract", CONFIG, "--dry-run")
    assert len(bad.requests) == 3
    assert without_body(bad)


@pytest.mark.usefixtures("three")
def test_a_dry_run_says_what_it_would_fetch_and_why(run: Program) -> None:
    out = run("extract", CONFIG, "--dry-run").out
    assert out.count("it has no record") == 3
    assert "3 of 3 sources would be fetched" in out


@pytest.mark.usefixtures("three")
def test_a_dry_run_says_how_a_source_has_changed(run: Program, bad: BadServer) -> None:
    run("extract", CONFIG)
    bad.script("/a.json", answers.whole(b"other", '"other"'))
    out = run("extract", CONFIG, "--dry-run").out
    assert 'its ETag was "a.json", now "other"' in out
    assert "1 of 3 sources would be fetched" in out


@pytest.mark.usefixtures("three")
def test_a_dry_run_says_that_there_is_no_manifest_yet(run: Program) -> None:
    result = run("extract", CONFIG, "--dry-run")
    assert one_line(result.err)
    assert "a run would create it" in result.err


@pytest.mark.usefixtures("mixed")
def test_a_dry_run_is_one_document_with_json(run: Program) -> None:
    report = run("extract", CONFIG, "--dry-run", "--json", "--quiet").json
    assert {name: report[name] for name in ("sources", "fetch", "unchanged", "failed")} == {
        "sources": 4, "fetch": 3, "unchanged": 0, "failed": 1,
    }  # fmt: skip
    assert report["plans"][0] == {
        "source_id": "a.json", "dataset": "dumps", "action": "fetch", "why": "it has no record",
        "length_bytes": 5,
    }  # fmt: skip


@pytest.mark.usefixtures("mixed")
def test_a_dry_run_ends_with_1_if_a_source_would_fail(run: Program) -> None:
    assert run("extract", CONFIG, "--dry-run").code == 1


# -- what a person sees ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mixed")
def test_on_a_pipe_there_is_one_line_for_each_source(run: Program) -> None:
    lines = run("extract", CONFIG).err.splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == [
        "dumps/a.json", "dumps/b.json", "dumps/c.json", "dumps/gone.json",
    ]  # fmt: skip


@pytest.mark.usefixtures("mixed")
def test_at_the_end_there_is_a_table_of_all_counts(run: Program) -> None:
    out = run("extract", CONFIG).out
    assert [line.split()[0] for line in out.splitlines()[1:9]] == COUNTS
    assert out.splitlines()[9].startswith("16 B fetched, 0 B saved by not fetching")


@pytest.mark.usefixtures("mixed")
def test_quiet_reports_only_failures(run: Program) -> None:
    result = run("extract", CONFIG, "--quiet")
    assert (result.out, one_line(result.err), "gone.json" in result.err) == ("", True, True)


@pytest.mark.usefixtures("three")
def test_json_is_alone_on_stdout_and_stderr_is_empty(run: Program) -> None:
    result = run("extract", CONFIG, "--json")
    assert (result.json["new"], result.err) == (3, "")


def test_verbose_reports_failed_attempts(run: Program, home: Path, bad: BadServer) -> None:
    url = bad.script("/a.json", answers.status(503, retry_after=0), answers.whole(b"first"))
    configure(home, entry(url), defaults={"retries": 1})
    assert "dumps/a.json: HTTP 503; again in" in run("extract", CONFIG, "--verbose").err


def seen_on_terminal(run: Program, bad: BadServer, *arguments: str, **environment: str) -> str:
    """What a terminal shows of a download that stops in its middle until its line has been seen, and of the end."""
    event = threading.Event()
    url = bad.script("/systems.json", answers.slow(bytes(2_000_000), 1_000_000, event))
    missing = bad.script("/gone.json", answers.status(404))
    configure(run.home, entry(missing), entry(url))
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}}
    env |= {"TERM": "xterm-256color", "COLUMNS": "120"} | environment
    command = [sys.executable, "-m", "manifestlog", "extract", CONFIG, *arguments]
    shown = b""
    with subprocess.Popen(command, cwd=run.home, env=env, stdout=theirs, stderr=theirs):
        os.close(theirs)
        while block := _read(ours):
            shown += block
            if b"/2.0 MB" in shown and b"1 of 2" in shown:
                event.set()
    os.close(ours)
    return shown.decode()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


@pytest.fixture
def display(run: Program, bad: BadServer) -> str:
    return seen_on_terminal(run, bad)


def test_a_terminal_shows_active_downloads(display: str) -> None:
    assert "dumps/systems.json" in display
    assert "/2.0 MB" in display


def test_a_terminal_shows_a_total(display: str) -> None:
    assert "all sources" in display
    assert "1 of 2" in display


def test_failures_stay_on_a_terminal(display: str) -> None:
    assert "dumps/gone.json: failed: HTTP 404" in display


def test_a_terminal_shows_the_table_at_the_end(display: str) -> None:
    assert "saved by not fetching" in display.splitlines()[-1]


def test_a_terminal_shows_colours(display: str) -> None:
    assert "\x1b[3" in display


def test_no_color_turns_colours_off(run: Program, bad: BadServer) -> None:
    assert "\x1b[3" not in seen_on_terminal(run, bad, NO_COLOR="1")


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("option", ["--no-progress", "--quiet", "--json"])
def test_the_live_display_can_be_turned_off(run: Program, option: str) -> None:
    assert "all sources" not in on_terminal(run, "extract", CONFIG, option)


@pytest.mark.parametrize("options", [(), ("--json",), ("--dry-run",), ("--verbose",)])
def test_control_characters_in_names_are_escaped(
    run: Program, home: Path, bad: BadServer, options: tuple[str, ...]
) -> None:
    missing = entry(bad.script("/gone.json", answers.status(404)), source_id="b\x1b[31m\nlue\u202e")
    configure(home, missing, entry(bad.script("/a", answers.whole(b"a")), source_id="r\x1b[31med\u202e"))
    result = run("extract", CONFIG, *options)
    assert "\x1b" not in result.out + result.err
    assert all(line.startswith("manifestlog: ") for line in result.err.splitlines())


def test_control_characters_in_names_do_not_reach_a_terminal(run: Program, home: Path, bad: BadServer) -> None:
    missing = entry(bad.script("/gone.json", answers.status(404)), source_id="b\x1b[5mlue")
    configure(home, missing)
    shown = on_terminal(run, "extract", CONFIG)
    assert "b\\x1b[5mlue" in shown
    assert "\x1b[5m" not in shown


# -- secrets -----------------------------------------------------------------------------------------------------------

SECRETS = {"password": "pass-5ecret", "token": "token-5ecret", "header": "header-5ecret", "variable": "variable-5ecret"}


def with_secrets(bad: BadServer, path: str) -> dict[str, Any]:
    host = f"127.0.0.1:{bad.port}"
    url = f"http://someone:{SECRETS['password']}@{host}{path}?token={SECRETS['token']}&key=${{EXTRACT_KEY}}"
    headers = {"X-Token": SECRETS["header"], "X-Key": "Bearer ${EXTRACT_KEY}"}
    return entry(url, source_id=path.strip("/"), headers=headers)


@pytest.fixture
def secretive(home: Path, bad: BadServer) -> Path:
    """Sources with secrets: one is fine, the others fail in all ways."""
    steps = {
        "/fine": answers.whole(b"fine", '"fine"'),
        "/missing": answers.status(404),
        "/later": answers.status(503, retry_after=0),
        "/cut": answers.cut_at(3, b"content", '"cut"'),
        "/loop": answers.redirect_loop(),
        "/reset": answers.reset(),
        "/elsewhere": answers.redirect(f"http://u:{SECRETS['token']}@127.0.0.1:1/?t={SECRETS['token']}"),
    }
    query = f"?token={SECRETS['token']}&key={SECRETS['variable']}"
    for path, step in steps.items():
        bad.script(path + query, step)
    defaults = {"retries": 1, "backoff_s": 0, "redirects_max": 2}
    return configure(home, *(with_secrets(bad, path) for path in steps), defaults=defaults)


@pytest.mark.usefixtures("secretive")
@pytest.mark.parametrize("options", [(), ("--verbose",), ("--json",), ("--dry-run",), ("--dry-run", "--json")])
def test_secrets_are_in_no_output(run: Program, options: tuple[str, ...]) -> None:
    result = run("extract", CONFIG, *options, EXTRACT_KEY=SECRETS["variable"])
    assert result.code == 1
    assert [secret for secret in SECRETS.values() if secret in result.out + result.err] == []


@pytest.mark.usefixtures("secretive")
def test_secrets_are_on_no_terminal(run: Program) -> None:
    shown = on_terminal(run, "extract", CONFIG, EXTRACT_KEY=SECRETS["variable"])
    assert [secret for secret in SECRETS.values() if secret in shown] == []


def test_secrets_are_in_no_file(run: Program, home: Path, secretive: Path) -> None:
    run("extract", CONFIG, EXTRACT_KEY=SECRETS["variable"])
    secretive.unlink()
    kept = b"".join(path.encode() + (content or b"") for path, (content, _) in listing(home).items())
    assert [secret for secret in SECRETS.values() if secret.encode() in kept] == []


@pytest.mark.usefixtures("secretive")
def test_secrets_reach_their_server(run: Program, bad: BadServer) -> None:
    """The checks above are no empty ones."""
    result = run("extract", CONFIG, "--json", EXTRACT_KEY=SECRETS["variable"])
    (asked,) = [request for request in bad.requests if request.path.startswith("/fine")]
    assert (asked.headers["x-token"], asked.headers["x-key"]) == (SECRETS["header"], f"Bearer {SECRETS['variable']}")
    assert (result.json["new"], result.json["failed"]) == (1, 6)


# -- without the extra -------------------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["urllib3"] = sys.modules["fsspec"] = None
from manifestlog.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    run: Program, home: Path, options: tuple[str, ...]
) -> None:
    before = listing(home)
    command = [sys.executable, "-c", WITHOUT, "extract", CONFIG, *options]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, one_line(done.stderr)) == (1, "", True)
    assert "pip install 'manifestlog[extract]'" in done.stderr
    assert listing(home) == before


@pytest.mark.parametrize("verb", [("extract",), ("extract", "--dry-run"), ("extract", "--only", "a"), ("run",)])
@pytest.mark.parametrize("url", ["htp://host/b", "simplecache::htp://host/b", "nocache::file:///srv/b"])
def test_an_unknown_scheme_is_a_mistake_in_the_configuration(
    run: Program, home: Path, verb: tuple[str, ...], url: str
) -> None:
    configure(home, entry("http://127.0.0.1:1/a"), entry(url))
    before = listing(home)
    result = run.here(verb[0], CONFIG, *verb[1:])
    assert (result.code, result.out, one_line(result.err)) == (2, "", True)
    assert "sources[1].url: unknown scheme " in result.err
    assert listing(home) == before


@pytest.mark.parametrize("scheme", ["file", "FILE", "s3", "simplecache::file"])
def test_a_scheme_of_fsspec_is_no_mistake(home: Path, scheme: str) -> None:
    load(str(configure(home, entry(f"{scheme}://{home}/b"))))


def test_an_invalid_configuration_is_reported_even_without_the_extra(home: Path) -> None:
    (home / CONFIG).write_text("[]")
    command = [sys.executable, "-c", WITHOUT, "extract", CONFIG]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert (done.returncode, "top level" in done.stderr) == (2, True)


# -- whoever reads goes away -------------------------------------------------------------------------------------------


def test_closing_stderr_does_not_end_a_run(run: Program, home: Path, bad: BadServer) -> None:
    urls = [bad.script(f"/{n}", answers.whole(b"%d" % n)) for n in range(30)]
    configure(home, *map(entry, urls))
    process = run.start("extract", CONFIG)
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert run("extract", CONFIG, "--json").json["unchanged"] == 30


def test_a_closed_stdout_does_not_change_the_exit_code(run: Program, home: Path, bad: BadServer) -> None:
    configure(home, entry(bad.script("/a", answers.whole(b"a"))))
    process = run.start("extract", CONFIG)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert run("extract", CONFIG, "--json").json["unchanged"] == 1
