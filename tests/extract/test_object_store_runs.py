"""Whole runs into an object store: killed, overlapping, refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from cli.program import Program, Result, finish, wait_until
from extract.running import pattern
from extract.runs import counts, entry
from extract.stores import FarHome
from support import answers, s3
from support.nginx import serving

if TYPE_CHECKING:
    from pathlib import Path

    from support.badserver import BadServer
    from support.s3 import Folder

PART = 8 << 20
LARGE = pattern(PART + 100_000)
ETAG = '"one"'


@pytest.fixture
def home(s3_folder: Folder, tmp_path: Path) -> FarHome:
    return FarHome(tmp_path, s3_folder)


def kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


# -- killed ------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_in_the_middle_of_an_upload_leaves_nothing_behind(home: FarHome, bad: BadServer) -> None:
    go_on = threading.Event()
    url = bad.script("/a", answers.slow(LARGE, PART + 1000, go_on, ETAG), answers.whole(LARGE, ETAG))
    home.configure(entry(url))
    process = home.start()
    wait_until(lambda: home.bucket.uploads == [key for key in home.bucket.uploads if key.endswith(".part")] != [])
    kill(process)
    go_on.set()
    assert counts(home.run()) == {"new": 1}
    home.check({"a": LARGE})


@pytest.mark.slow
def test_runs_that_are_killed_at_random(home: FarHome, folder: Path) -> None:
    chance = random.Random(19)
    bodies = {f"large-{n}.gz": pattern(PART + chance.randint(1, PART), n) for n in range(2)}
    bodies |= {f"small-{n}.gz": pattern(chance.randint(1, 5_000), n) for n in range(6)}
    bodies |= {"large-again.gz": bodies["large-0.gz"], "small-again.gz": bodies["small-0.gz"]}
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    with serving(folder, limit_rate="8m") as web:
        home.configure(*(entry(f"{web.url}/{name}") for name in bodies), jobs=2)
        for _ in range(40):
            process = home.start()
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.5, 6))
            kill(process)
        assert home.run().code == 0
    home.check(bodies)


# -- overlapping -------------------------------------------------------------------------------------------------------


def test_of_two_runs_at_once_one_fetches_each_source(home: FarHome, folder: Path) -> None:
    bodies = {f"{number}.json": pattern(500, number) for number in range(20)}
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    with serving(folder) as web:
        home.configure(*(entry(f"{web.url}/{name}") for name in bodies))
        results = [finish(process) for process in [home.start(), home.start()]]
        assert sum(counts(result).get("new", 0) for result in results) == 20
        assert [result.json["failures"] for result in results] == [[], []]
        assert sum(web.bodies().values()) == 20
    home.check(bodies)


def test_a_live_upload_of_another_run_is_not_aborted(home: FarHome, bad: BadServer) -> None:
    go_on = threading.Event()
    large = entry(bad.script("/a", answers.slow(LARGE, PART + 1000, go_on, ETAG)))
    home.configure(large)
    process = home.start()
    wait_until(lambda: home.bucket.uploads != [])
    home.configure(entry(bad.script("/b", answers.whole(b"small"))))
    home.run()
    go_on.set()
    assert counts(finish(process)) == {"new": 1}
    home.check({"a": LARGE, "b": b"small"})


# -- refused -----------------------------------------------------------------------------------------------------------


def here(home: FarHome) -> Result:
    """Run it in this process: nothing may be started before the store has answered."""
    return Program(home.folder).here("extract", "etl.config.json", "--json")


def refused(home: FarHome, bad: BadServer) -> str:
    """Run one source, which must end before a request; return what is said."""
    home.configure(entry(bad.script("/a", answers.whole(b"body"))))
    done = here(home)
    assert (done.code, len(bad.requests), done.out) == (1, 0, "")
    (line,) = done.err.splitlines()
    assert not any(
        secret in line for secret in (s3.KEY, s3.SECRET, s3.READER, s3.READER_SECRET, "no-such-secret", "NOSUCHKEY")
    )
    return line


def test_wrong_credentials_end_a_run_before_it_begins(
    home: FarHome, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-such-secret")
    assert "rejects the credentials (SignatureDoesNotMatch): check AWS_PROFILE" in refused(home, bad)


def test_unknown_credentials_end_a_run_before_it_begins(
    home: FarHome, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOSUCHKEY")
    assert "rejects the credentials (InvalidAccessKeyId): check AWS_PROFILE" in refused(home, bad)


def test_missing_credentials_end_a_run_before_it_begins(
    home: FarHome, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "no usable credentials were found (NoCredentialsError): set AWS_PROFILE" in refused(home, bad)


def test_a_missing_profile_ends_a_run_before_it_begins(
    home: FarHome, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "no usable credentials were found (ProfileNotFound): set AWS_PROFILE" in refused(home, bad)


def test_who_may_only_read_ends_a_run_before_it_begins(
    home: FarHome, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.READER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.READER_SECRET)
    assert "denies access (AccessDenied, PutObject): grant" in refused(home, bad)


def test_a_missing_bucket_ends_a_run_before_it_begins(home: FarHome, bad: BadServer) -> None:
    home.configure(entry(bad.script("/a", answers.whole(b"body"))), data_dir="s3://no-such-bucket/raw")
    done = here(home)
    assert (done.code, len(bad.requests)) == (1, 0)
    assert "there is no bucket no-such-bucket: create it, or correct the URL" in done.err


def test_a_store_that_does_not_answer_ends_a_run_before_it_begins(
    home: FarHome, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "does not answer (EndpointConnectionError): check the network and AWS_ENDPOINT_URL" in refused(home, bad)


def test_a_store_that_ignores_conditions_is_refused(
    home: FarHome, bad: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad.script(f"/{s3.BUCKET}/{home.bucket.prefix}/raw/.parts/.manifestlog.probe", answers.status(200))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bad.url)
    home.configure(entry(bad.script("/a", answers.whole(b"body"))))
    done = here(home)
    assert (done.code, "the store ignores If-None-Match" in done.err) == (1, True)


# -- moving ------------------------------------------------------------------------------------------------------------


def test_a_pipeline_moves_from_its_disk_to_a_store(home: FarHome, folder: Path) -> None:
    (folder / "a.json").write_bytes(b"body")
    run = Program(home.folder)
    with serving(folder) as web:
        one = entry(f"{web.url}/a.json")
        home.configure(one, data_dir="data/raw")
        home.run()
        home.bucket.put("raw/dumps/a.json", (home.data / "dumps" / "a.json").read_bytes())
        run.here("relocate", home.manifest, "--from", home.data, "--to", f"{home.bucket.url}/raw")
        assert run.here("verify", home.manifest, "--quiet").code == 0
        home.configure(one)
        assert counts(home.run()) == {"unchanged": 1}
    home.check({"a.json": b"body"})


# -- the manifest ------------------------------------------------------------------------------------------------------


def test_the_root_of_the_manifest_stays_local(home: FarHome, bad: BadServer) -> None:
    home.configure(entry(bad.script("/a", answers.whole(b"body"))))
    home.run()
    listed = Program(home.folder).here("list", home.manifest, "--json").json
    assert [one["file_path"] for one in listed] == [f"{home.bucket.url}/raw/dumps/a"]
