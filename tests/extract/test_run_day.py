"""The day of a run: which one it is, where it is inserted, and that records of different days are never confused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from extract.builders import raw_config, raw_source
from manifestlog.extract import ConfigError, Result, load_config

if TYPE_CHECKING:
    from extract.builders import Write
    from extract.running import Here
    from manifestlog.extract import ETLSource, Outcome
    from support.badserver import BadServer, Exchange

DAY = "2026-11-26"
URL = "https://host/${DAY}/sales.csv"


def load(write: Write, raw: dict[str, Any], day: str | None = DAY, **environ: str) -> ETLSource:
    (source,) = load_config(write(raw), environ, day=day).sources
    return source


@pytest.mark.parametrize("field", ["url", "file_name", "dataset", "source_id"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [("x-${DAY}", "x-2026-11-26"), ("x-{date:%Y%m%d}", "x-20261126"), ("{date:%G-W%V}.x", "2026-W48.x")],
)
def test_the_day_is_inserted(write: Write, field: str, text: str, expected: str) -> None:
    before = "https://host/" if field == "url" else ""
    assert getattr(load(write, raw_config(raw_source(**{field: before + text}))), field) == before + expected


def test_the_day_is_inserted_into_headers(write: Write) -> None:
    assert load(write, raw_config(raw_source(headers={"X-Day": "${DAY}"}))).headers == {"X-Day": DAY}


def test_the_day_is_not_a_secret(write: Write) -> None:
    config = load_config(write(raw_config(raw_source(url=URL))), {"DAY": DAY})
    assert config.from_environment == frozenset()


def test_the_day_may_name_a_file(write: Write) -> None:
    assert load(write, raw_config(raw_source(url="https://host/sales-${DAY}.csv"))).url.endswith(f"sales-{DAY}.csv")


def test_the_variable_counts_without_the_option(write: Write) -> None:
    assert (
        load(write, raw_config(raw_source(url=URL)), None, DAY="2026-11-20").url == "https://host/2026-11-20/sales.csv"
    )


def test_the_option_beats_the_variable(write: Write) -> None:
    assert DAY in load(write, raw_config(raw_source(url=URL)), DAY, DAY="2026-11-20").url


@pytest.mark.parametrize(("said", "back"), [(None, 0), ("today", 0), ("yesterday", 1)])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_today_is_that_of_the_stated_zone(write: Write, said: str | None, back: int, zone: str) -> None:
    """The last two are never on the same day."""
    raw = raw_config(raw_source(url=URL), time_zone=zone)
    moments = [datetime.now(ZoneInfo(zone))]
    url = load(write, raw, said).url
    moments.append(datetime.now(ZoneInfo(zone)))
    assert url in {f"https://host/{(moment - timedelta(days=back)).date()}/sales.csv" for moment in moments}


def test_without_a_zone_it_is_utc(write: Write) -> None:
    before, url = datetime.now(UTC).date(), load(write, raw_config(raw_source(url=URL)), None).url
    assert url in {f"https://host/{day}/sales.csv" for day in (before, datetime.now(UTC).date())}


@pytest.mark.parametrize("day", ["", "2026-11-31", "26.11.2026", "20261126", "tomorrow", "2026-11"])
def test_an_invalid_day_is_rejected(write: Write, day: str) -> None:
    with pytest.raises(ConfigError, match="--day: expected a day such as"):
        load(write, raw_config(raw_source(url=URL)), day)


def test_an_invalid_day_in_the_variable_is_rejected(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"sources\[0\]\.url: the environment variable DAY: expected a day"):
        load(write, raw_config(raw_source(url=URL)), None, DAY="monday")


def test_an_invalid_day_is_one_problem_also_if_no_source_uses_a_day(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"--day: expected a day such as 2024-05-01, today or yesterday$"):
        load(write, raw_config(), "monday")


def test_an_invalid_day_in_the_variable_is_one_problem_of_all_that_use_it(write: Write) -> None:
    raw = raw_config(raw_source(url=URL, file_name="x-${DAY}"), raw_source(url=URL, dataset="b"))
    with pytest.raises(ConfigError, match=r"expected a day such as 2024-05-01, today or yesterday$"):
        load(write, raw, None, DAY="monday")


def test_an_unused_variable_may_have_any_value(write: Write) -> None:
    assert load(write, raw_config(), None, DAY="monday").source_id == "spansh_systems"


def test_a_day_that_no_source_uses_is_rejected(write: Write) -> None:
    with pytest.raises(ConfigError, match="--day: no source uses the day"):
        load(write, raw_config())


@pytest.mark.parametrize("form", ["", "Y-m", "%H", "%Y-%", "%s"])
def test_an_invalid_date_format_is_rejected(write: Write, form: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a date format"):
        load(write, raw_config(raw_source(url=f"https://host/{{date:{form}}}")))


@pytest.mark.parametrize("zone", ["Nowhere/Here", "", "../etc", 5])
def test_an_unknown_time_zone_is_rejected(write: Write, zone: object) -> None:
    with pytest.raises(ConfigError, match="time_zone: expected a time zone"):
        load(write, raw_config(raw_source(url=URL), time_zone=zone))


# -- one day is not another --------------------------------------------------------------------------------------------


@pytest.fixture
def a_day(here: Here, bad: BadServer, write: Write) -> Any:
    """Fetch a source for a day from a server with one file a day, with times and without ETags."""

    def answer(exchange: Exchange) -> None:
        day = re.findall(r"\d{4}-\d\d-\d\d", exchange.request.path)[0]
        time = datetime.fromisoformat(f"{day}T01:00:00+00:00")
        since = exchange.request.headers.get("If-Modified-Since") or exchange.request.headers.get("if-modified-since")
        if since and time <= parsedate_to_datetime(since):
            exchange.head(304, {})
            return
        body = f"sales of {day}".encode()
        modified = format_datetime(time, usegmt=True)
        exchange.head(200, {"Content-Length": str(len(body)), "Last-Modified": modified})
        exchange.body(body)

    def run(day: str, **fields: Any) -> Outcome:
        path = f"/{day}/sales.csv"
        bad.script(path, answer)
        url = bad.script(path, answer).replace(day, "${DAY}")
        raw = raw_config(raw_source(**{"source_id": "a", "dataset": "systems", "url": url} | fields))
        return here.one(load(write, raw, day))

    return run


HOWEVER = pytest.mark.parametrize(
    "fields",
    [{}, {"file_name": "sales.csv"}, {"file_name": "sales-${DAY}.csv"}, {"file_name": "{date:%Y-%m}.csv"}],
    ids=["no name", "a fixed name", "a name for the day", "a name for the month"],
)


@HOWEVER
def test_an_earlier_day_is_fetched(here: Here, a_day: Any, fields: dict[str, Any]) -> None:
    a_day("2026-11-27", **fields)
    assert a_day("2026-11-26", **fields).result is Result.CHANGED


@HOWEVER
def test_an_earlier_day_has_its_own_content(here: Here, a_day: Any, fields: dict[str, Any]) -> None:
    a_day("2026-11-27", **fields)
    a_day("2026-11-26", **fields)
    assert here.body() == b"sales of 2026-11-26"


@pytest.mark.parametrize("fields", [{}, {"file_name": "sales-${DAY}.csv"}], ids=["no name", "a name for the day"])
def test_the_same_day_is_asked_with_its_time(here: Here, a_day: Any, fields: dict[str, Any]) -> None:
    a_day("2026-11-27", **fields)
    assert a_day("2026-11-27", **fields).bytes_fetched == 0


def test_a_day_in_a_folder_of_the_address_names_the_file(here: Here, a_day: Any) -> None:
    a_day("2026-11-27")
    assert here.files == ["systems/sales-2026-11-27.csv"]


def test_days_as_sources_keep_the_name_of_the_address(here: Here, a_day: Any) -> None:
    for day in ("2026-11-27", "2026-11-26"):
        a_day(day, source_id="${DAY}", dataset="systems/${DAY}")
    assert here.files == ["systems/2026-11-26/sales.csv", "systems/2026-11-27/sales.csv"]
