"""`doctor` of a database: each problem is named with what to do, and nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from contract.builders import META, record
from manifestlog import DownloadManifestManager, ManifestError, NewerFormatError, maintenance
from manifestlog.engines.postgres import doctor
from manifestlog.engines.postgres.connections import Pool
from manifestlog.engines.postgres.location import locate
from manifestlog.engines.postgres.told import (
    Commits,
    Open,
    Role,
    Room,
    Server,
    Session,
    Standby,
    Tables,
    Told,
    Unknown,
    ask,
)
from manifestlog.engines.reports import ProbeStatus
from support.pgbouncer import pooling
from support.postgres import PASSWORD

from .places import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifestlog.engines.reports import ProbeResult

OK, WARNING, FAILED = ProbeStatus.OK, ProbeStatus.WARNING, ProbeStatus.FAILED
SERVER = Server(160000, "etl", "me")
PRIMARY = Role(is_standby=False, is_read_only=False)
TABLES = Tables(True, 11, True, True, True, True, True, True)
COMMITS = Commits("on", "")
ROOM = Room(5, 97, 1, -1)
SESSION = Session(0.001, 0.0, "", False, "prefer", False)
FAR = SESSION._replace(address="192.0.2.1")


def told(server: Server = SERVER, session: Session = SESSION) -> Told:
    return Told(server, PRIMARY, TABLES, COMMITS, "on", "on", [], [], True, ROOM, session)


def directory(place: Place, **parameters: str) -> str:
    """What `--dir` is."""
    return place.url("", **parameters).replace("/?", "?")


def results(url: str) -> dict[str, ProbeResult]:
    """The results by their test; each has one line, and advice unless all is well."""
    found = list(maintenance.diagnose(url))
    for one in found:
        assert "\n" not in one.found + one.advice
        assert PASSWORD not in one.found + one.advice
        assert one.status is OK or one.advice
    assert len({one.test for one in found}) == len(found)
    return {one.test: one for one in found}


# -- a real server -------------------------------------------------------------------------------------------------------


def test_a_good_database_passes_every_test_but_those_that_the_tests_turn_off(place: Place) -> None:
    found = results(directory(place))
    assert [name for name, one in found.items() if one.status is not OK] == ["fsync", "full_page_writes"]
    assert len(found) == 13


def test_it_changes_nothing(place: Place) -> None:
    results(directory(place))
    with place.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'manifestlog'").fetchall() == [
            (0,)
        ]


def test_it_names_server_database_and_user(place: Place) -> None:
    assert f"database {place.database}, user postgres" in results(directory(place))["connection"].found


def test_a_database_without_tables_says_who_makes_them(place: Place) -> None:
    found = results(directory(place))
    assert "manifestlog init" in found["tables"].found
    assert found["rights"].found == "this user may make the tables"


@pytest.fixture
def made(place: Place) -> Place:
    """A database with a manifest."""
    with DownloadManifestManager(place.url(), META) as manifest:
        manifest.add(record("a"))
    return place


def test_tables_of_this_program_are_fine(made: Place) -> None:
    found = results(directory(made))
    assert (found["tables"].status, found["rights"].found) == (OK, "this user may read and write")


def test_tables_of_an_older_program_are_brought_up_to_date_by_init(made: Place) -> None:
    made.execute("DELETE FROM manifestlog.schema_version WHERE version > 1")
    found = results(directory(made))["tables"]
    assert (found.status, "manifestlog init" in found.advice) == (FAILED, True)


def test_tables_of_a_newer_program_ask_for_an_upgrade(made: Place) -> None:
    made.execute("INSERT INTO manifestlog.schema_version VALUES (99, now())")
    found = results(directory(made))["tables"]
    assert (found.status, "upgrade" in found.advice) == (FAILED, True)


def test_the_schema_of_another_program_is_not_ours(place: Place) -> None:
    place.execute("CREATE SCHEMA manifestlog", "CREATE TABLE manifestlog.customer (id int)")
    found = results(directory(place))["tables"]
    assert (found.status, "a database of its own" in found.advice) == (FAILED, True)


@pytest.fixture
def guest(place: Place) -> Iterator[Place]:
    """A database with a role `guest`, which has no rights."""
    place.execute("CREATE ROLE guest LOGIN")
    yield place
    place.execute("DROP OWNED BY guest", "DROP ROLE guest")


def as_guest(place: Place) -> str:
    return directory(place, user="guest").replace("user=postgres&", "")


def test_who_may_not_make_tables_is_told_before_there_are_any(guest: Place) -> None:
    found = results(as_guest(guest))["rights"]
    assert (found.status, "manifestlog init" in found.advice) == (WARNING, True)


@pytest.mark.usefixtures("made")
def test_who_may_not_read_needs_a_grant(guest: Place) -> None:
    found = results(as_guest(guest))
    assert (found["rights"].status, "GRANT USAGE" in found["rights"].advice) == (FAILED, True)
    assert (found["tables"].status, found["tables"].found[-22:]) == (OK, "not read their version")


@pytest.mark.usefixtures("made")
def test_who_may_only_read_is_told(guest: Place) -> None:
    guest.execute("GRANT USAGE ON SCHEMA manifestlog TO guest")
    guest.execute("GRANT SELECT ON ALL TABLES IN SCHEMA manifestlog TO guest")
    found = results(as_guest(guest))["rights"]
    assert (found.status, found.found) == (WARNING, "this user may read, and not write")


@pytest.mark.usefixtures("made")
def test_the_rights_that_the_guide_grants_are_enough(guest: Place) -> None:
    guest.execute("GRANT USAGE ON SCHEMA manifestlog TO guest")
    guest.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA manifestlog TO guest")
    assert results(as_guest(guest))["rights"].status is OK


def test_what_a_user_may_not_see_is_said(guest: Place) -> None:
    assert "are not shown: GRANT pg_read_all_stats" in results(as_guest(guest))["open transactions"].found


def test_a_limit_of_the_user_counts(guest: Place) -> None:
    guest.execute("ALTER ROLE guest CONNECTION LIMIT 3")
    found = results(as_guest(guest))["connections"]
    assert (found.status, found.found[:24]) == (WARNING, "1 of 3 of user guest are")


def test_sessions_that_accept_no_writes(place: Place) -> None:
    found = results(directory(place, options="-c%20default_transaction_read_only%3Don"))["role"]
    assert (found.status, "name the primary" in found.advice) == (WARNING, True)


def test_synchronous_commit_is_that_of_the_user_not_of_our_sessions(place: Place) -> None:
    assert results(directory(place))["synchronous_commit"].found[:2] == "on"
    assert (
        results(directory(place, options="-c%20synchronous_commit%3Dlocal"))["synchronous_commit"].found[:5] == "local"
    )


def test_an_open_transaction_is_seen_with_its_owner(place: Place) -> None:
    with place.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_current_xact_id()")
        ((pid,),) = other.execute("SELECT pg_backend_pid()").fetchall()
        assert f"process {pid} of postgres" in open_in(place)


def test_a_session_that_holds_nothing_back_is_not_seen(place: Place) -> None:
    with place.connect() as other:
        other.execute("BEGIN")
        ((pid,),) = other.execute("SELECT pg_backend_pid()").fetchall()
        assert f"process {pid} of postgres" not in open_in(place)


def open_in(place: Place) -> list[str]:
    """Who has a transaction open."""
    pool = Pool(locate(place.url()), 0.0)
    try:
        found = pool.open(ask).open
    finally:
        pool.close()
    assert not isinstance(found, Unknown)
    return [one.who for one in found]


def test_behind_a_pooler_session_locks_are_not_real(place: Place) -> None:
    with pooling(place.server) as port:
        found = results(f"postgresql://postgres@127.0.0.1:{port}/{place.database}")
    assert (found["session locks"].status, "a pooler" in found["session locks"].found) == (WARNING, True)
    assert [name for name, one in found.items() if one.status is FAILED] == ["fsync", "full_page_writes"]


def test_a_wrong_password_is_the_only_result(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-secret")
    (found,) = results(place.tcp_url("", user="reader").rstrip("/")).values()
    assert (found.test, found.status, "~/.pgpass" in found.advice) == ("connection", FAILED, True)
    assert "wrong-secret" not in found.found + found.advice


def test_a_server_that_is_not_there_is_the_only_result() -> None:
    (found,) = results("postgresql://127.0.0.1:1/etl").values()
    assert (found.status, "start the server" in found.advice) == (FAILED, True)


# -- a server that does not tell everything ------------------------------------------------------------------------------


@pytest.fixture
def bare(place: Place) -> Iterator[Place]:
    """A database of its own, in which a test may take away what belongs to the server; with a role `guest`."""
    found = Place(place.server, "bare")
    place.execute("CREATE ROLE guest LOGIN", "CREATE DATABASE bare")
    yield found
    place.execute("DROP DATABASE bare WITH (FORCE)", "DROP ROLE guest")


def not_known(found: dict[str, ProbeResult]) -> set[str]:
    """The tests that could not be made."""
    return {name for name, one in found.items() if one.found.startswith("not known here: ")}


@pytest.mark.parametrize(
    ("view", "tests"),
    [
        ("pg_stat_replication", {"standbys"}),
        ("pg_stat_activity", {"open transactions", "connections"}),
        ("pg_prepared_xacts", {"open transactions"}),
        ("pg_stat_database", {"connections"}),
        ("pg_roles", {"connections"}),
        ("pg_settings", {"synchronous_commit", "standbys"}),
        ("pg_stat_gssapi", set()),
    ],
)
def test_a_view_that_is_forbidden_leaves_the_other_tests_as_they_were(bare: Place, view: str, tests: set[str]) -> None:
    url = as_guest(bare)
    others = {name: one.status for name, one in results(url).items() if name not in tests}
    bare.execute(f"REVOKE SELECT ON pg_catalog.{view} FROM PUBLIC")
    found = results(url)
    assert not_known(found) == tests
    assert {name: one.status for name, one in found.items() if name not in tests} == others


def test_a_view_that_is_forbidden_asks_for_a_right(bare: Place) -> None:
    bare.execute("REVOKE SELECT ON pg_catalog.pg_stat_replication FROM PUBLIC")
    found = results(as_guest(bare))["standbys"]
    assert (found.status, found.found) == (WARNING, "not known here: permission denied for view pg_stat_replication")
    assert found.advice.startswith("ask the administrator: GRANT pg_monitor")


def shadowed(place: Place, *statements: str) -> str:
    """The directory for sessions that find these objects, in the schema `shadow`, before those of the server."""
    place.execute("CREATE SCHEMA shadow", "GRANT USAGE ON SCHEMA shadow TO PUBLIC", *statements)
    return directory(place, options="-c%20search_path%3Dshadow,pg_catalog")


def test_a_view_without_a_column_leaves_the_other_tests(bare: Place) -> None:
    url = shadowed(bare, "CREATE VIEW shadow.pg_stat_replication AS SELECT 1 AS pid")
    found = results(url)
    assert (not_known(found), len(found)) == ({"standbys"}, 13)
    assert "application_name" in found["standbys"].found


LACKS_SETTINGS = """
    CREATE FUNCTION shadow.current_setting(name text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        IF name IN ('fsync', 'full_page_writes', 'synchronous_standby_names', 'superuser_reserved_connections') THEN
            RAISE undefined_object USING MESSAGE = format('unrecognized configuration parameter "%s"', name);
        END IF;
        RETURN pg_catalog.current_setting(name);
    END $$"""


def test_settings_that_a_server_does_not_have_leave_the_other_tests(bare: Place) -> None:
    found = results(shadowed(bare, LACKS_SETTINGS))
    assert not_known(found) == {"synchronous_commit", "fsync", "full_page_writes", "standbys", "connections"}
    assert found["fsync"].found == 'not known here: unrecognized configuration parameter "fsync"'


def test_a_view_without_rows_is_no_answer(bare: Place) -> None:
    url = shadowed(bare, "CREATE VIEW shadow.pg_stat_database AS SELECT 1 AS numbackends WHERE false")
    assert results(url)["connections"].found == "not known here: the server does not say"


def test_session_locks_that_there_are_none_of_are_not_real(bare: Place) -> None:
    bare.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_try_advisory_lock(bigint) FROM PUBLIC")
    found = results(as_guest(bare))["session locks"]
    assert (found.status, "or to nobody" in found.found) == (WARNING, True)


def test_without_session_locks_a_claim_is_kept_by_its_row(bare: Place) -> None:
    bare.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_try_advisory_lock(bigint) FROM PUBLIC")
    bare.execute("GRANT CREATE ON DATABASE bare TO guest")
    with (
        DownloadManifestManager(bare.url(user="guest"), META) as manifest,
        manifest.claims("/data") as claims,
        claims.claim("part", "a"),
    ):
        assert [one.name for one in manifest._engine.holders("/data", "part")] == ["a"]


# -- on the command line -------------------------------------------------------------------------------------------------


def test_dir_names_the_database(place: Place, tmp_path: Path) -> None:
    url = directory(place)
    found = Program(tmp_path).here("--dir", url, "doctor", "--json")
    assert (found.code, found.json["directory"], found.json["failed"], found.err) == (1, url, True, "")
    assert found.json["tests"][6]["test"] == "fsync"


def test_the_table_has_a_line_for_each_test(place: Place, tmp_path: Path) -> None:
    found = Program(tmp_path).here("doctor", directory(place))
    assert found.out.count("\n") == 14


# -- judgements: pure functions ------------------------------------------------------------------------------------------


def test_an_old_server_is_refused() -> None:
    assert doctor.connection(told(SERVER._replace(version=130011))).status is FAILED


@pytest.mark.parametrize(
    ("session", "status"),
    [
        (SESSION, OK),
        (SESSION._replace(address="127.0.0.1"), OK),
        (SESSION._replace(address="::1"), OK),
        (FAR, WARNING),
        (FAR._replace(has_tls=True, sslmode="require"), WARNING),
        (FAR._replace(has_tls=True, sslmode="verify-ca"), WARNING),
        (FAR._replace(has_tls=True, sslmode="verify-full"), OK),
        (FAR._replace(address="fe80::1%eth0"), WARNING),
    ],
)
def test_a_server_elsewhere_must_prove_who_it_is(session: Session, status: ProbeStatus) -> None:
    assert doctor.encryption(told(session=session)).status is status


def test_kerberos_encrypts_too() -> None:
    assert doctor.encryption(told(session=FAR._replace(gss_encrypts=True))).status is OK


def test_who_cannot_know_whether_kerberos_encrypts_says_so() -> None:
    found = doctor.encryption(told(session=FAR._replace(gss_encrypts=Unknown("no such view"))))
    assert (found.status, found.found) == (WARNING, "not known here: no such view")


def test_a_standby_is_named() -> None:
    assert doctor.role(PRIMARY._replace(is_standby=True)).found.startswith("a standby")


@pytest.mark.parametrize(
    ("version", "status"), [(0, OK), (None, OK), (1, FAILED), (2, OK), (NewerFormatError("x", 3, 2), FAILED)]
)
def test_the_version_of_the_tables_decides(version: int | ManifestError | None, status: ProbeStatus) -> None:
    assert doctor.tables(TABLES, version).status is status


NAMED = COMMITS._replace(standbys="two")


@pytest.mark.parametrize(
    ("commits", "status"),
    [
        (COMMITS, OK),
        (COMMITS._replace(level="off"), OK),
        (COMMITS._replace(level="local"), OK),
        (NAMED, OK),
        (NAMED._replace(level="off"), OK),
        (NAMED._replace(level="remote_apply"), OK),
        (NAMED._replace(level="local"), WARNING),
        (NAMED._replace(level="remote_write"), WARNING),
    ],
)
def test_with_a_standby_an_addition_should_wait_for_it(commits: Commits, status: ProbeStatus) -> None:
    assert doctor.synchronous_commit(commits).status is status


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_what_a_power_cut_needs_must_be_on(name: str) -> None:
    assert [doctor.setting(name, value).status for value in ("on", "off")] == [OK, FAILED]


NEAR = Standby("two", "async", 0.1, 1000)


@pytest.mark.parametrize(
    ("commits", "found", "status"),
    [
        (COMMITS, [], OK),
        (COMMITS, [NEAR], OK),
        (COMMITS, [NEAR._replace(lag_s=None)], OK),
        (COMMITS, [NEAR._replace(lag_s=300.0)], WARNING),
        (COMMITS, [NEAR._replace(lag_bytes=1 << 30)], WARNING),
        (COMMITS, [Standby("two", None, None, None)], OK),
        (NAMED, [], FAILED),
        (NAMED, [NEAR], FAILED),
        (NAMED, [NEAR._replace(sync_state="sync")], OK),
        (NAMED, [Standby("two", None, None, None)], OK),
        (NAMED._replace(level="local"), [], OK),
    ],
)
def test_standbys_must_follow(commits: Commits, found: list[Standby], status: ProbeStatus) -> None:
    assert doctor.standbys(PRIMARY, commits, found).status is status


def test_a_standby_needs_none() -> None:
    assert doctor.standbys(PRIMARY._replace(is_standby=True), NAMED, []).status is OK


def test_a_standby_that_lags_is_named() -> None:
    late = doctor.standbys(PRIMARY, COMMITS, [NEAR._replace(lag_s=300.0)])
    assert "two (async), 300.0 s and 0.0 MB behind" in late.found


@pytest.mark.parametrize(("age_s", "status"), [(10.0, OK), (90_000.0, WARNING)])
def test_a_transaction_that_is_open_for_long_is_named(age_s: float, status: ProbeStatus) -> None:
    assert doctor.open_transactions([Open("process 7 of me", age_s)], sees_all=True).status is status


def test_the_oldest_transaction_comes_first() -> None:
    found = doctor.open_transactions([Open("process 7 of me", 7200.0), Open("b", 7000.0)], sees_all=True).found
    assert found.startswith("process 7 of me has one open for 2.0 h and 1 more")


@pytest.mark.parametrize(
    ("room", "status"),
    [
        (ROOM, OK),
        (ROOM._replace(used=90), WARNING),
        (ROOM._replace(of_user_max=30), OK),
        (ROOM._replace(of_user_max=20), WARNING),
    ],
)
def test_there_must_be_room_for_a_run(room: Room, status: ProbeStatus) -> None:
    assert doctor.connections("me", room).status is status


@pytest.mark.parametrize(
    ("ahead_s", "round_trip_s", "status"),
    [(0.5, 0.0, OK), (-30.0, 0.0, WARNING), (30.0, 0.0, WARNING), (3.0, 8.0, OK)],
)
def test_clocks_must_agree_as_far_as_that_can_be_told(ahead_s: float, round_trip_s: float, status: ProbeStatus) -> None:
    assert doctor.clock(round_trip_s, ahead_s).status is status


def test_a_clock_that_is_wrong_says_which_way() -> None:
    assert "30.0 s behind the server's" in doctor.clock(0.001, -30.0).found


@pytest.mark.parametrize(
    ("are_real", "has_sessions", "why"), [(True, True, "exclude"), (False, True, "everybody"), (False, False, "pooler")]
)
def test_session_locks_that_are_not_real_say_why(are_real: bool, has_sessions: bool, why: str) -> None:
    assert why in doctor.session_locks(are_real=are_real, has_sessions=has_sessions).found
