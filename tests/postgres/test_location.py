"""What a location of a manifest in a database may be; no server is asked."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from manifestlog import names
from manifestlog.engines.postgres.location import connection_text, locate
from manifestlog.engines.registry import driver_for
from manifestlog.errors import ManifestError
from manifestlog.server_errors import ServerError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "connection"),
    [
        ("postgresql://host/etl/systems_download", "postgresql://host/etl"),
        ("postgres://host/etl/systems_download", "postgresql://host/etl"),
        ("postgresql://user@host:5433/etl/systems_download", "postgresql://user@host:5433/etl"),
        ("postgresql:///systems_download?service=etl", "postgresql://?service=etl"),
        ("postgresql:///etl/systems_download?host=/run/pg&port=5433", "postgresql:///etl?host=/run/pg&port=5433"),
        ("postgresql://a,b:5433/etl/systems_download", "postgresql://a,b:5433/etl"),
        ("postgresql://host/systems_download?sslmode=verify-full", "postgresql://host?sslmode=verify-full"),
    ],
)
def test_what_comes_before_the_name_is_libpqs(text: str, connection: str) -> None:
    assert connection_text(locate(text)) == connection


@pytest.mark.parametrize(
    "other",
    [
        "postgres://host/etl/systems_download?b=2&a=1",
        "postgresql://host:5432/etl/systems_download?a=1&b=2",
        "POSTGRESQL://host/etl/systems_download?b=2&a=1",
    ],
)
def test_another_spelling_is_the_same_manifest(other: str) -> None:
    assert locate(other).key == locate("postgresql://host/etl/systems_download?a=1&b=2").key


def test_what_messages_name_can_be_opened_again() -> None:
    found = locate("postgresql://u@h/etl/systems_download?sslmode=require&connect_timeout=3")
    assert locate(found.display) == found


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:swordfish@host/etl/systems_download",
        "postgresql://host/etl/systems_download?password=swordfish",
        "postgresql://host/etl/systems_download?PASSWORD=swordfish",
        "postgresql://host/etl/systems_download?sslpassword=swordfish",
        "postgresql://:swordfish@host/etl/systems_download",
    ],
)
def test_a_password_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"~/\.pgpass") as refused:
        locate(text)
    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize("text", ["postgresql://host/etl/x", "postgresql://host/", "postgresql://host/etl/Systems_x"])
def test_a_bad_name_says_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match="two or more parts"):
        locate(text)


def test_a_name_that_is_too_long_says_how_long_it_may_be() -> None:
    with pytest.raises(ValueError, match="the name has 409 characters; a manifest's may have 200"):
        locate(f"postgresql://host/etl/{'a' * 400}_download")


def test_a_url_in_a_path_is_not_taken_for_a_directory() -> None:
    with pytest.raises(ManifestError, match="a Path cannot hold a URL"):
        driver_for("postgresql:/host/etl/systems_download")


@pytest.mark.parametrize(
    ("directory", "manifest"),
    [
        ("postgresql://host/etl?a=1", "postgresql://host/etl/x_y?a=1"),
        ("postgresql://host/etl/", "postgresql://host/etl/x_y"),
        ("postgresql://host", "postgresql://host/x_y"),
        ("postgresql:///?service=etl", "postgresql:///x_y?service=etl"),
        ("postgresql://?service=etl", "postgresql:///x_y?service=etl"),
    ],
)
def test_a_name_is_put_before_the_parameters(directory: str, manifest: str) -> None:
    assert names.joined(directory, "x_y") == manifest
    assert locate(manifest).name == "x_y"


# -- on the command line -------------------------------------------------------------------------------------------------

SECRET = "postgresql://me:swordfish@127.0.0.1:1/etl"
CHECKSUM = "a" * 64


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dir", SECRET, "status"),
        ("--dir", SECRET, "doctor"),
        ("--dir", SECRET, "list", "x_download"),
        ("--dir", SECRET, "init", "x_download"),
        ("--dir", SECRET, "has", "x_download", CHECKSUM),
        ("--dir", SECRET, "log"),
        ("--dir", SECRET, "unused", "x_download"),
        ("--dir", SECRET, "pending", "y_parse", "--of", "x_download"),
        ("doctor", SECRET),
        ("list", f"{SECRET}/x_download"),
        ("check", f"{SECRET}/x_download"),
        ("has", f"{SECRET}/x_download", CHECKSUM),
        ("copy", "x_download", f"{SECRET}/"),
        ("copy", f"{SECRET}/x_download", "other/"),
        ("mirror", f"{SECRET}/x_download", "other"),
    ],
    ids=" ".join,
)
def test_a_password_is_a_usage_error_of_every_verb_and_not_shown(arguments: tuple[str, ...], tmp_path: Path) -> None:
    found = Program(tmp_path).here(*arguments)
    assert (found.code, found.out, found.err.count("\n"), "~/.pgpass" in found.err) == (2, "", 1, True)
    assert "swordfish" not in found.err


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://127.0.0.1:five/etl",
        "postgresql://127.0.0.1:99999/etl",
        "postgresql://127.0.0.1/etl?port=five",
        "postgresql://127.0.0.1/etl?port=1,2",
        "postgresql://127.0.0.1:1/etl?sslmode=some",
        "postgresql://127.0.0.1:1/etl?colour=red",
        "postgresql://127.0.0.1:1/etl?connect_timeout=soon",
        "postgresql://127.0.0.1:1/etl?keepalives=often",
        "postgresql://[::1/etl",
    ],
)
def test_a_location_that_libpq_cannot_use_is_a_usage_error(place: str, tmp_path: Path) -> None:
    found = Program(tmp_path).here("--dir", place, "status")
    assert (found.code, found.out, found.err.count("\n"), "correct the location" in found.err) == (2, "", 1, True)


NO_PORT = "postgresql://127.0.0.1:five/etl"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dir", NO_PORT, "list", "x_download"),
        ("--dir", NO_PORT, "init", "x_download"),
        ("--dir", NO_PORT, "has", "x_download", CHECKSUM),
        ("--dir", NO_PORT, "check", "x_download"),
        ("--dir", NO_PORT, "unused", "x_download"),
        ("--dir", NO_PORT, "pending", "y_parse", "--of", "x_download"),
        ("--dir", NO_PORT, "record", "y_parse", "--nothing", "--from", CHECKSUM),
        ("copy", f"{NO_PORT}/x_download", "other/"),
        ("mirror", f"{NO_PORT}/x_download", "other"),
    ],
    ids=" ".join,
)
def test_a_wrong_port_is_a_usage_error_of_every_verb(arguments: tuple[str, ...], tmp_path: Path) -> None:
    found = Program(tmp_path).here(*arguments)
    assert (found.code, found.out, found.err.count("\n"), "correct the location" in found.err) == (2, "", 1, True)


def test_a_copy_to_a_wrong_port_is_a_usage_error(tmp_path: Path) -> None:
    run = Program(tmp_path)
    assert run.here("init", "x_download").code == 0
    assert run.here("copy", "x_download", f"{NO_PORT}/").code == 2


def test_a_server_that_cannot_be_reached_is_no_usage_error(tmp_path: Path) -> None:
    assert Program(tmp_path).here("--dir", "postgresql://127.0.0.1:1/etl", "status").code == 1


def test_a_name_that_is_too_long_is_a_usage_error(tmp_path: Path) -> None:
    found = Program(tmp_path).here("--dir", "postgresql://127.0.0.1:1/etl", "list", f"{'a' * 400}_download")
    assert (found.code, found.err.count("\n"), "may have 200" in found.err) == (2, 1, True)


def test_a_database_that_cannot_be_reached_is_named_without_a_manifest() -> None:
    url = "postgresql://127.0.0.1:1/galaxy"
    with pytest.raises(ServerError, match=f"^{url}: no connection"):
        driver_for(url).manifests(url)


def test_without_its_library_a_location_says_how_to_install_it() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None; from manifestlog.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "--dir", "postgresql://h/d", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "postgresql:// needs psycopg; install it: pip install 'manifestlog[postgres]'"
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
