"""Every way in which a server refuses: one line that says what and what to do, never a secret, never a traceback."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from contract.builders import META, record, sha
from manifestlog import (
    DownloadManifestManager,
    IndeterminateWriteError,
    LockTimeoutError,
    ManifestError,
    ManifestNotFoundError,
    ManifestOptions,
    NewerFormatError,
    ServerError,
    ServerUnavailableError,
)
from manifestlog.engines.registry import driver_for
from support.postgres import PASSWORD, cluster, serving

from .places import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.postgres import Server

    from .places import Place

IMPATIENT = ManifestOptions(lock_timeout_s=0.2)


def refused(url: str, metadata: object = META, options: ManifestOptions = IMPATIENT) -> str:
    """What an opening says."""
    with pytest.raises(ManifestError) as found:
        DownloadManifestManager(url, metadata, options=options)  # type: ignore[arg-type] # None or metadata
    text = str(found.value)
    assert "\n" not in text
    assert PASSWORD not in text
    return text


def is_one_line(found: pytest.ExceptionInfo[ManifestError]) -> bool:
    """Whether the message is one line without a secret."""
    text = str(found.value)
    return "\n" not in text and PASSWORD not in text


# -- no connection -------------------------------------------------------------------------------------------------------


def test_a_wrong_password(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-secret")
    text = refused(place.tcp_url(user="reader"))
    assert "password authentication failed" in text
    assert "~/.pgpass" in text
    assert "wrong-secret" not in text


def test_no_password(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert "PGPASSWORD" in refused(place.tcp_url(user="reader"))


def test_a_password_file_is_libpqs(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it passes through the manifest: it is refused later, for its rights."""
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"*:*:*:reader:{PASSWORD}\n", encoding="utf-8")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    with DownloadManifestManager(place.url(), META):
        pass
    assert "GRANT" in refused(place.tcp_url(user="reader"))


def test_a_service_names_the_server(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services = tmp_path / "services"
    host, port = place.server.folder, place.server.port
    services.write_text(f"[etl]\nhost={host}\nport={port}\nuser=postgres\ndbname={place.database}\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with DownloadManifestManager("postgresql:///systems_download?service=etl", META) as manifest:
        manifest.add(record("a"))
    with DownloadManifestManager(place.url()) as manifest:
        assert sha("a") in manifest


def test_an_unknown_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "none"))
    assert "correct the location" in refused("postgresql:///systems_download?service=etl")


def test_no_such_database(place: Place) -> None:
    assert "createdb" in refused(place.server.url("systems_download", "nowhere"))


def test_no_such_user(place: Place) -> None:
    assert "create the role" in refused(place.server.url("systems_download", place.database, user="nobody_here"))


def test_nobody_listens() -> None:
    assert "start the server" in refused("postgresql://127.0.0.1:1/etl/systems_download")


def test_an_unknown_host() -> None:
    assert "correct the host" in refused("postgresql://host.invalid/etl/systems_download")


def test_a_parameter_that_libpq_does_not_know() -> None:
    assert "correct the location" in refused("postgresql://127.0.0.1/etl/systems_download?colour=red")


def test_encryption_that_the_server_does_not_offer(place: Place) -> None:
    assert "sslmode" in refused(place.tcp_url() + "?sslmode=require")


def test_no_place_for_another_connection(place: Place) -> None:
    place.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 0")
    try:
        assert "too many connections" in refused(place.server.url("systems_download", place.database, user="narrow"))
    finally:
        place.execute("DROP ROLE narrow")


# -- no manifest ---------------------------------------------------------------------------------------------------------


def test_a_database_without_manifests_has_none(place: Place) -> None:
    with pytest.raises(ManifestNotFoundError, match="manifestlog init"):
        DownloadManifestManager(place.url())


def test_reading_makes_no_schema(place: Place) -> None:
    refused(place.url(), None)
    with place.connect() as connection:
        found = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'manifestlog'").fetchall()
    assert found == [(0,)]


def test_a_database_without_this_manifest(place: Place) -> None:
    with DownloadManifestManager(place.url(), META), pytest.raises(ManifestNotFoundError):
        DownloadManifestManager(place.url("others_download"))


def test_the_schema_of_another_program(place: Place) -> None:
    place.execute("CREATE SCHEMA manifestlog", "CREATE TABLE manifestlog.customer (id int)")
    assert "another program" in refused(place.url())


def test_the_schema_of_another_program_with_a_table_of_the_same_name(place: Place) -> None:
    place.execute("CREATE SCHEMA manifestlog", "CREATE TABLE manifestlog.schema_version (number int)")
    assert "another program" in refused(place.url())


def test_a_newer_schema(place: Place) -> None:
    with DownloadManifestManager(place.url(), META):
        pass
    place.execute("INSERT INTO manifestlog.schema_version VALUES (99, now())")
    with pytest.raises(NewerFormatError, match=r"99.*upgrade manifestlog") as found:
        DownloadManifestManager(place.url(), META)
    assert is_one_line(found)


def test_an_older_schema_is_not_changed_by_reading(place: Place) -> None:
    with DownloadManifestManager(place.url(), META):
        pass
    place.execute("DELETE FROM manifestlog.schema_version WHERE version > 1")
    assert "manifestlog init" in refused(place.url(), None)


# -- no rights -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(place: Place) -> Iterator[str]:
    """The location of a manifest for a role that may only read."""
    with DownloadManifestManager(place.url(), META) as manifest:
        manifest.add(record("a"))
    place.execute("CREATE ROLE onlooker LOGIN", "GRANT USAGE ON SCHEMA manifestlog TO onlooker")
    place.execute("GRANT SELECT ON ALL TABLES IN SCHEMA manifestlog TO onlooker")
    yield place.url(user="onlooker").replace("user=postgres&", "")
    place.execute("DROP OWNED BY onlooker", "DROP ROLE onlooker")


def test_who_may_read_reads(reader: str) -> None:
    with DownloadManifestManager(reader, read_only=True) as manifest:
        assert (sha("a") in manifest, len(list(manifest.rows()))) == (True, 1)


def test_who_may_only_read_cannot_write(reader: str) -> None:
    with DownloadManifestManager(reader) as manifest, pytest.raises(ServerError, match="GRANT") as found:
        manifest.add(record("b"))
    assert is_one_line(found)


def test_after_a_refused_write_the_manager_goes_on(reader: str) -> None:
    with DownloadManifestManager(reader) as manifest:
        with pytest.raises(ServerError):
            manifest.add(record("b"))
        assert len(manifest) == 1


def test_who_may_not_make_a_schema(place: Place) -> None:
    place.execute("CREATE ROLE guest LOGIN")
    try:
        assert "GRANT" in refused(place.server.url("systems_download", place.database, user="guest"))
    finally:
        place.execute("DROP ROLE guest")


def test_a_server_that_accepts_no_writes(place: Place, opener: Callable[..., DownloadManifestManager]) -> None:
    """As a standby does."""
    opener().close()
    url = place.url(options="-c default_transaction_read_only=on".replace(" ", "%20").replace("=", "%3D"))
    manifest = opener(url)
    assert manifest.metadata.process == "extractor"
    with pytest.raises(ServerError, match="accepts no writes: name the primary") as found:
        manifest.add(record("a"))
    assert is_one_line(found)


# -- no time -------------------------------------------------------------------------------------------------------------


def test_a_statement_timeout(place: Place, opener: Callable[..., DownloadManifestManager]) -> None:
    opener().close()
    manifest = opener(place.url(options="-c%20statement_timeout%3D50"))
    with place.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM manifestlog.lane FOR UPDATE")
        with pytest.raises(ServerError, match="raise statement_timeout") as found:
            manifest.add(record("a"))
    assert is_one_line(found)


def test_a_lock_that_does_not_come(place: Place, opener: Callable[..., DownloadManifestManager]) -> None:
    manifest = opener(options=IMPATIENT)
    with place.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM manifestlog.lane FOR UPDATE")
        with pytest.raises(LockTimeoutError, match=r"within 0\.2 s, held by another session") as found:
            manifest.add(record("a"))
    assert is_one_line(found)
    assert len(manifest) == 0


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may stop."""
    with serving() as server:
        yield server


def test_a_server_that_goes_away_and_comes_back_is_waited_for(own_server: Server) -> None:
    with DownloadManifestManager(own_server.url("systems_download"), META) as manifest:
        manifest.add(record("a"))
        own_server.stop()
        back = threading.Timer(0.3, own_server.start)
        back.start()
        added = manifest.add(record("b", 1))
        back.join()
        assert (added.verdict, len(manifest)) == ("changed", 2)


def test_a_server_that_stays_away_is_told_in_time(own_server: Server) -> None:
    with DownloadManifestManager(own_server.url("systems_download"), META, options=IMPATIENT) as manifest:
        manifest.add(record("a"))
        own_server.stop()
        with pytest.raises(ServerUnavailableError, match=r"within 0\.2 s") as found:
            manifest.has_checksum(sha("a"))
        assert is_one_line(found)
        with pytest.raises((ServerUnavailableError, IndeterminateWriteError)):
            manifest.add(record("b", 1))


def test_a_write_that_a_server_never_answers_says_that_nobody_knows(own_server: Server) -> None:
    url = own_server.url("systems_download")
    with DownloadManifestManager(url, META, options=IMPATIENT) as manifest:
        manifest.add(record("a"))
        own_server.stop()
        with pytest.raises(IndeterminateWriteError) as found:
            manifest.add(record("b", 1))
    text = str(found.value)
    assert text.startswith(f"{url}: the server did not answer within 0.2 s (")
    assert text.endswith("; this write may or may not be stored, and if it is repeated, it is stored once")
    assert (text.count(url), is_one_line(found), found.value.exit_code) == (1, True, 11)


def test_a_server_that_is_not_there_at_the_opening_is_told_at_once() -> None:
    with cluster({}) as server, pytest.raises(ServerError, match="start the server"):
        DownloadManifestManager(server.url("systems_download"), META)


def test_there_is_nothing_to_repair_from_here(place: Place) -> None:
    driver = driver_for(place.url())
    with pytest.raises(ManifestError, match="backup"):
        driver.repair(driver.locate(place.url()), dry_run=True, lock_timeout_s=1.0)


def test_what_a_lost_connection_held_is_given_back(place: Place, manifest: DownloadManifestManager) -> None:
    """An administrator ends every session; the next call has a new one."""
    manifest.add(record("a"))
    place.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert (manifest.add(record("b", 1)).verdict, len(manifest)) == ("changed", 2)
    assert not engine_of(manifest).closed
