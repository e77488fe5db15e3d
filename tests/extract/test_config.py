"""The configuration: accepted values, and the messages for refused ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from extract.builders import CHECKSUM, config_error, raw_config, raw_source
from manifestlog.extract.config.configuration import Defaults, ExtractConfig, load_config
from manifestlog.extract.config.redaction import Redactor
from manifestlog.extract.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from extract.builders import Write

SECRET = "s3cret-value"


def _load(path: Path, environ: Mapping[str, str] | None = None) -> ExtractConfig:
    return load_config(path, environ or {})


# -- accepted configurations -------------------------------------------------------------------------------------------


def test_the_shortest_configuration_has_all_defaults(write: Write) -> None:
    assert _load(write(raw_config())).defaults == Defaults(
        jobs=2,
        connections=64,
        connections_per_host=8,
        request_pause_s=0.0,
        retries=5,
        backoff_s=0.5,
        timeout_connect_s=10.0,
        timeout_read_s=60.0,
        redirects_max=10,
        headers={},
    )


def test_sources_keep_their_order(write: Write) -> None:
    config = _load(write(raw_config(raw_source(source_id="b"), raw_source(source_id="a"))))
    assert [source.source_id for source in config.sources] == ["b", "a"]


@pytest.mark.parametrize("keep", ["forever", "90d", "1GiB", "off"])
def test_the_history_to_keep_may_be_set(write: Write, keep: str) -> None:
    assert _load(write(raw_config(history=keep))).history == keep


def test_by_default_all_of_the_history_is_kept(write: Write) -> None:
    assert _load(write(raw_config())).history == "forever"


def test_a_source_may_set_every_option(write: Write) -> None:
    full = raw_source(file_name="x.json", headers={"X-Key": "1"}, checksum=CHECKSUM.upper())
    (source,) = _load(write(raw_config(full))).sources
    assert (source.file_name, source.headers, source.checksum) == ("x.json", {"X-Key": "1"}, CHECKSUM)


def test_relative_folders_lie_beside_the_configuration(write: Write, tmp_path: Path) -> None:
    config = _load(write(raw_config(data_dir="../data")))
    assert (config.manifests_dir, config.data_dir) == (tmp_path / "manifests", tmp_path.parent / "data")


@pytest.mark.parametrize("folder", ["./s3://x", "a:b", "./~", "a~", "a/~", "a$", "$", "$1", "a $ b"])
def test_a_name_that_no_shell_expands_is_accepted(write: Write, tmp_path: Path, folder: str) -> None:
    assert _load(write(raw_config(data_dir=folder))).data_dir == tmp_path / folder


def test_relative_folders_do_not_follow_the_working_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(raw_config())
    monkeypatch.chdir(tmp_path)
    assert _load(Path("etl.config.json")).data_dir == tmp_path / "data/raw"


def test_absolute_folders_stay(write: Write) -> None:
    assert _load(write(raw_config(data_dir="/srv/data"))).data_dir == Path("/srv/data")


TOML = """
etl_version = "1.0.0"
manifests_dir = "manifests"
data_dir = "data/raw"
manifest = "systems_download"
defaults = {jobs = 2, backoff_s = 1}

[[sources]]
source_id = "spansh_systems"
dataset = "star_systems"
url = "https://host/${NAME}.json"
headers = {X-Key = "1"}
"""


def test_toml_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "etl.toml").write_text(TOML, encoding="utf-8")
    config = _load(tmp_path / "etl.toml", {"NAME": "x"})
    assert (config.defaults.jobs, config.sources[0].url) == (2, "https://host/x.json")


def test_a_byte_order_mark_is_accepted(write: Write) -> None:
    assert _load(write(b"\xef\xbb\xbf" + json.dumps(raw_config()).encode())).manifest == "systems_download"


def test_a_name_in_two_datasets_is_two_sources(write: Write) -> None:
    assert len(_load(write(raw_config(raw_source(), raw_source(dataset="other")))).sources) == 2


def test_a_configuration_can_be_pickled(write: Write) -> None:
    config = _load(write(raw_config(raw_source(url="https://host/x?${NAME}"))), {"NAME": SECRET})
    sent: ExtractConfig = pickle.loads(pickle.dumps(config))
    assert (sent, sent.from_environment) == (config, frozenset({SECRET}))


def test_stages_are_left_to_their_own_reader(write: Write) -> None:
    assert _load(write(raw_config(stages=[{"any": "${thing}"}]))).stages == ({"any": "${thing}"},)


def test_with_stages_a_configuration_may_have_no_sources(write: Write) -> None:
    raw = raw_config(stages=[{}])
    del raw["sources"], raw["manifest"]
    config = _load(write(raw))
    assert (config.sources, config.manifest) == ((), "")


def test_sources_need_a_manifest_also_beside_stages(write: Write) -> None:
    raw = raw_config(stages=[{}])
    del raw["manifest"]
    with pytest.raises(ConfigError, match="manifest: the key is missing; add it: the name of a manifest"):
        _load(write(raw))


def test_stages_that_are_no_list_are_a_problem(write: Write) -> None:
    with pytest.raises(ConfigError, match="stages: expected a list of objects; correct it"):
        _load(write(raw_config(stages={})))


# -- variables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/${A}", "https://host/1"),
        ("https://${A}:${B_2}@host/${A}", "https://1:two@host/1"),
        ("https://host/?$$top=5", "https://host/?$top=5"),
        ("https://host/$${A}", "https://host/${A}"),
        ("https://host/$$${A}", "https://host/$1"),
        ("${URL}", "https://other/x"),
        ("https://host/?${NESTED}", "https://host/?${A}"),
        ("https://host/${EMPTY}", "https://host/"),
    ],
)
def test_variables_are_expanded_in_addresses(write: Write, text: str, expected: str) -> None:
    environ = {"A": "1", "B_2": "two", "URL": "https://other/x", "NESTED": "${A}", "EMPTY": ""}
    assert _load(write(raw_config(raw_source(url=text))), environ).sources[0].url == expected


def test_variables_are_expanded_in_a_sources_headers(write: Write) -> None:
    config = _load(write(raw_config(raw_source(headers={"X-Key": "Bearer ${T}"}))), {"T": "x"})
    assert config.sources[0].headers == {"X-Key": "Bearer x"}


def test_variables_are_expanded_in_default_headers(write: Write) -> None:
    config = _load(write(raw_config(defaults={"headers": {"X-Key": "${T}$$"}})), {"T": "x"})
    assert config.defaults.headers == {"X-Key": "x$"}


@pytest.mark.parametrize("text", ["${T}", "a-${T}", "{date:%Y}"])
@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("etl_version", lambda text: raw_config(etl_version=text)),
        ("manifest", lambda text: raw_config(manifest=text)),
        ("sources[0].checksum", lambda text: raw_config(raw_source(checksum=text))),
    ],
)
def test_variables_are_expanded_nowhere_else(write: Write, field: str, raw: Callable[[str], Any], text: str) -> None:
    error = config_error(write(raw(text)), {"T": "x"})
    assert (error.field, error.reason) == (field, "variables are not expanded here; write the value out")


@pytest.mark.parametrize("field", ["source_id", "dataset", "file_name"])
def test_names_accept_no_variable_but_the_day(write: Write, field: str) -> None:
    error = config_error(write(raw_config(raw_source(**{field: "${T}"}))), {"T": "x"})
    assert (error.field, "only ${DAY}" in error.reason) == (f"sources[0].{field}", True)


@pytest.mark.parametrize(("text", "name"), [("a$b", "a$b"), ("a$$b", "a$$b"), ("a$${T}", "a${T}"), ("{T}", "{T}")])
def test_other_dollars_of_names_stay(write: Write, text: str, name: str) -> None:
    assert _load(write(raw_config(raw_source(source_id=text)))).sources[0].source_id == name


def test_values_from_the_environment_are_known(write: Write) -> None:
    raw = raw_config(raw_source(url="https://host/${A}"), defaults={"headers": {"X": "${B}"}})
    assert _load(write(raw), {"A": "a", "B": "b", "C": "c"}).from_environment == {"a", "b"}


def test_values_from_the_environment_can_be_redacted(write: Write) -> None:
    config = _load(write(raw_config(raw_source(url="https://host/${A}/x"))), {"A": SECRET})
    redactor = Redactor.of(config.sources[0], config.defaults.headers, config.from_environment)
    assert redactor.redact(f"no {SECRET} there") == "no *** there"


@pytest.mark.parametrize("show", [repr, str, lambda config: repr(config.model_dump(exclude={"sources", "defaults"}))])
def test_a_configuration_does_not_show_its_secrets(write: Write, show: Callable[[ExtractConfig], str]) -> None:
    source = raw_source(url="https://host/?t=${A}", headers={"X-Key": "${A}"})
    assert SECRET not in show(_load(write(raw_config(source, defaults={"headers": {"X": "${A}"}})), {"A": SECRET}))


UNSET = "the environment variable TOKEN is not set; set it, or write $$ for a plain $"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (raw_config(raw_source(), raw_source(dataset="b", url="https://host/${TOKEN}")), "sources[1].url"),
        (raw_config(raw_source(url="${TOKEN}/x")), "sources[0].url"),
        (raw_config(raw_source(headers={"X-Key": "${TOKEN}"})), "sources[0].headers.X-Key"),
        (raw_config(defaults={"headers": {"X-Key": "Bearer ${TOKEN}"}}), "defaults.headers.X-Key"),
    ],
)
def test_a_variable_that_is_not_set_is_named(write: Write, raw: Any, field: str) -> None:
    error = config_error(write(raw), {"token": "x", "TOKEN2": "y"})
    assert (error.field, error.reason) == (field, UNSET)


@pytest.mark.parametrize(
    "url", ["https://host/$", "https://host/$A", "https://host/${}", "https://host/${A", "https://host/${1}"]
)
def test_an_unexpected_dollar_is_rejected(write: Write, url: str) -> None:
    error = config_error(write(raw_config(raw_source(url=url))), {"A": "1", "1": "1", "": "1"})
    assert error.reason == "expected ${NAME} after a $; write $$ for a plain $"


def test_a_variable_that_makes_the_address_wrong_is_named_by_its_place(write: Write) -> None:
    error = config_error(write(raw_config(raw_source(url="https://u:${P}@host/"))), {"P": "pass/word"})
    assert (error.field, "pass" in str(error)) == ("sources[0].url", False)


# -- refused configurations --------------------------------------------------------------------------------------------

WRONG = [
    # configuration, field, part of the reason
    (raw_config(etl_version=""), "etl_version", "expected a non-empty string"),
    (raw_config(etl_version=1), "etl_version", "expected a non-empty string"),
    (raw_config(manifests_dir=""), "manifests_dir", "expected the path of a directory"),
    (raw_config(data_dir=None), "data_dir", "expected the path of a directory"),
    (raw_config(data_dir="a\0b"), "data_dir", "expected the path of a directory"),
    (raw_config(data_dir="~"), "data_dir", "~ and variables are not expanded"),
    (raw_config(data_dir="~/data"), "data_dir", "~ and variables are not expanded"),
    (raw_config(manifests_dir="~etl/manifests"), "manifests_dir", "~ and variables are not expanded"),
    (raw_config(data_dir="$DATA/raw"), "data_dir", "~ and variables are not expanded"),
    (raw_config(manifests_dir="/srv/${NAME}"), "manifests_dir", "~ and variables are not expanded"),
    *[
        (raw_config(data_dir=where), "data_dir", "expected a local directory")
        for where in ("gs:/bucket", "file:///srv/data", "simplecache::s3://bucket")
    ],
    *[
        (raw_config(manifests_dir=where), "manifests_dir", "expected the path of a directory, or the URL of a database")
        for where in (5, "s3://bucket/raw", "file:///srv/data", "memory://")
    ],
    (raw_config(manifests_dir="gs:/bucket"), "manifests_dir", "expected a local directory"),
    (raw_config(manifests_dir="postgresql://u:swordfish@host/etl"), "manifests_dir", "without a password"),
    (raw_config(manifests_dir="postgresql:///etl?password=swordfish"), "manifests_dir", "without a password"),
    (raw_config(manifests_dir="postgresql://${HOST}/etl"), "manifests_dir", "variables are not expanded"),
    (raw_config(manifests_dir="postgresql://host/e\ttl"), "manifests_dir", "without control characters"),
    (raw_config(data_dir="s3://key:secret@bucket/raw"), "data_dir", "expected a bucket alone"),
    (raw_config(data_dir="s3://bucket:9000/raw"), "data_dir", "expected a bucket alone"),
    (raw_config(data_dir="s3:///raw"), "data_dir", "expected a bucket of letters"),
    (raw_config(data_dir="s3://bucket//raw"), "data_dir", "without empty parts"),
    (raw_config(data_dir="s3://bucket/../raw"), "data_dir", "without empty parts"),
    (raw_config(data_dir="s3://bucket/raw?versionId=1"), "data_dir", "without ?"),
    (raw_config(data_dir="s3://bucket/ra\tw"), "data_dir", "without control characters"),
    (raw_config(raw_source(validate="gzip -t"), data_dir="s3://bucket"), "sources[0].validate", "an object store"),
    (raw_config(data_dir="s3://bucket", defaults={"validate": "true"}), "defaults.validate", "an object store"),
    (raw_config(manifest="systems"), "manifest", "<domain>_<process>"),
    (raw_config(manifest="m/systems_download"), "manifest", "without directory"),
    (raw_config(manifest="systems_download.manifest.json"), "manifest", "suffix"),
    (raw_config(defaults=[]), "defaults", "expected an object"),
    (raw_config(defaults={"jobs": 0}), "defaults.jobs", "expected an integer from 1 to 1024"),
    (raw_config(defaults={"jobs": 1025}), "defaults.jobs", "from 1 to 1024"),
    (raw_config(defaults={"jobs": "4"}), "defaults.jobs", "an integer"),
    (raw_config(defaults={"jobs": 4.0}), "defaults.jobs", "an integer"),
    (raw_config(defaults={"jobs": True}), "defaults.jobs", "an integer"),
    (raw_config(defaults={"jobs": 10**400}), "defaults.jobs", "an integer"),
    (raw_config(defaults={"retries": -1}), "defaults.retries", "from 0 to 100"),
    (raw_config(defaults={"redirects_max": 101}), "defaults.redirects_max", "from 0 to 100"),
    (raw_config(defaults={"backoff_s": -0.1}), "defaults.backoff_s", "seconds, from 0"),
    (raw_config(defaults={"backoff_s": float("nan")}), "defaults.backoff_s", "seconds"),
    (raw_config(defaults={"timeout_read_s": 0}), "defaults.timeout_read_s", "more than 0"),
    (raw_config(defaults={"timeout_read_s": "60"}), "defaults.timeout_read_s", "seconds"),
    (raw_config(defaults={"timeout_connect_s": float("inf")}), "defaults.timeout_connect_s", "seconds"),
    (raw_config(history="a week"), "history", "expected forever, off, an age such as 90d, or a size such as 1GiB"),
    (
        raw_config(history=90),
        "history",
        "expected forever, off, an age such as 90d, or a size such as 1GiB; correct it",
    ),
    (raw_config(defaults={"timeout": 1}), "defaults.timeout", "unknown key; expected timeout_"),
    (raw_config(defaults={"headers": []}), "defaults.headers", "object"),
    (raw_config(defaults={"headers": {"X Y": "1"}}), 'defaults.headers["X Y"]', "header name"),
    (raw_config(jobs=4), "jobs", "unknown key"),
    (raw_config(source=[]), "source", "unknown key; expected sources, or another of etl_version, "),
    (raw_config(sources={}), "sources", "expected a list of objects"),
    (raw_config(sources=None), "sources", "expected a list of objects"),
    (raw_config(5), "sources[0]", "expected an object with source_id, dataset and url"),
    (raw_config("https://host/x"), "sources[0]", "expected an object"),
    (raw_config(raw_source(), {}), "sources[1].source_id", "is missing; add it: a non-empty string"),
    (raw_config(raw_source(url="host/x")), "sources[0].url", "https://host/path/file"),
    (raw_config(raw_source(url=None)), "sources[0].url", "expected a URL like"),
    (raw_config(raw_source(url=["x"])), "sources[0].url", "expected a URL like"),
    (raw_config(raw_source(dataset="../x")), "sources[0].dataset", "inside data_dir"),
    (raw_config(raw_source(file_name="a/b")), "sources[0].file_name", "a safe file name"),
    (raw_config(raw_source(file_name=5)), "sources[0].file_name", "a safe file name"),
    (raw_config(raw_source(checksum="x")), "sources[0].checksum", "64 hexadecimal digits"),
    (raw_config(raw_source(headers={"X-Key": 5})), "sources[0].headers.X-Key", "expected a string"),
    (raw_config(raw_source(headers={"X-Key": "a\nb"})), "sources[0].headers.X-Key", "one line"),
    (raw_config(raw_source(headers={"": "a"})), 'sources[0].headers[""]', "header name"),
    (raw_config(raw_source(URL="https://host")), "sources[0].URL", "unknown key"),
    (
        raw_config(raw_source(uri="https://host")),
        "sources[0].uri",
        "expected url, or another of source_id, dataset, url",
    ),
    (raw_config(raw_source(state={"last_etag": "x"})), "sources[0].state", "unknown key"),
    (raw_config(raw_source(dataset="raw"), data_dir=".", manifests_dir="./raw"), "sources[0].dataset", "manifests_dir"),
]


@pytest.mark.parametrize(("raw", "field", "words"), WRONG, ids=[field for _, field, _ in WRONG])
def test_a_problem_is_named_by_its_place(write: Write, raw: Any, field: str, words: str) -> None:
    assert config_error(write(raw)).field == field


@pytest.mark.parametrize(("raw", "field", "words"), WRONG, ids=[field for _, field, _ in WRONG])
def test_a_problem_says_what_was_expected(write: Write, raw: Any, field: str, words: str) -> None:
    assert words in config_error(write(raw)).reason


@pytest.mark.parametrize("key", ["etl_version", "manifests_dir", "data_dir", "manifest", "sources"])
def test_a_missing_key_is_named(write: Write, key: str) -> None:
    raw = raw_config()
    del raw[key]
    assert config_error(write(raw)).field == key


def test_a_message_begins_with_file_and_place(write: Write) -> None:
    path = write(raw_config(defaults={"retries": 101}))
    assert str(config_error(path)) == f"{path}: defaults.retries: expected an integer from 0 to 100; correct it"


@pytest.mark.parametrize(("problems", "more"), [(1, None), (2, "(and 1 more problem)"), (4, "(and 3 more problems)")])
def test_several_problems_are_counted(write: Write, problems: int, more: str | None) -> None:
    reason = config_error(write(raw_config(*[raw_source(url="x")] * problems))).reason
    assert reason.endswith(more) if more else "more" not in reason


def test_of_a_misspelt_key_the_error_names_the_spelling(write: Write) -> None:
    """It is also a missing key, which would be named first."""
    raw = raw_config()
    raw["manifest_dir"] = raw.pop("manifests_dir")
    error = config_error(write(raw))
    assert (error.field, "expected manifests_dir, or another of" in error.reason) == ("manifest_dir", True)


def test_of_a_missing_key_and_another_unknown_one_the_missing_one_is_named(write: Write) -> None:
    raw = raw_config(colour="red")
    del raw["manifests_dir"]
    assert config_error(write(raw)).field == "manifests_dir"


def test_one_wrong_text_is_one_problem(write: Write) -> None:
    """A URL with an unset variable is not reported as invalid too."""
    assert "more" not in config_error(write(raw_config(raw_source(url="${TOKEN}")))).reason


def test_a_source_that_appears_twice_names_both_places(write: Write) -> None:
    error = config_error(write(raw_config(raw_source(), raw_source(dataset="b"), raw_source(url="https://other/"))))
    assert (error.field, "same source_id and dataset as sources[0]" in error.reason) == ("sources[2]", True)


def test_sources_whose_names_look_the_same_are_the_same(write: Write) -> None:
    error = config_error(write(raw_config(raw_source(dataset="st\u00e4dte"), raw_source(dataset="sta\u0308dte"))))
    assert error.field == "sources[1]"


_HIDDEN = f'"{SECRET}"'


@pytest.mark.parametrize(
    "raw",
    [
        raw_config(raw_source(url=f"u:{SECRET}@host")),
        raw_config(raw_source(url=f"https://u:{SECRET}@host:x/")),
        raw_config(raw_source(url=[SECRET])),
        raw_config(raw_source(headers={"X-Key": f"{SECRET}\n"})),
        raw_config(raw_source(headers={"X-Key": [SECRET]})),
        raw_config(raw_source(headers=SECRET)),
        raw_config(raw_source(checksum=SECRET)),
        raw_config(raw_source(dataset=f"{SECRET}\0")),
        raw_config(raw_source(file_name=f"/{SECRET}")),
        raw_config(raw_source(token=SECRET)),
        raw_config(raw_source(url=f"https://host/${SECRET}")),
        raw_config(raw_source(url="https://host:${A}/")),
        raw_config(raw_source(headers={"X-Key": " ${A}"})),
        raw_config(raw_source(url="https://host/?a=${A}"), raw_source(url="https://host/?a=${A}")),
        raw_config(defaults={"jobs": SECRET}),
        raw_config(manifest=SECRET),
        raw_config(SECRET),
        raw_config(data_dir=f"{SECRET}\n"),
        raw_config(manifests_dir=f"postgresql://u:{SECRET}@host/etl"),
        raw_config(manifests_dir=f"postgresql:///etl?password={SECRET}"),
        SECRET,
        [SECRET],
        f'{{"a": {_HIDDEN} {_HIDDEN}}}'.encode(),
        f'{{"a": {_HIDDEN}, "a": {_HIDDEN}}}'.encode(),
        f'{{"a": "\\x{SECRET}"}}'.encode(),
        f"{SECRET}\xff".encode("latin-1"),
    ],
    ids=str,
)
def test_no_error_shows_a_value(write: Write, raw: Any) -> None:
    error = config_error(write(raw), {"A": SECRET})
    shown = f"{error} {error!r} {error.__cause__!r} {None if error.__suppress_context__ else error.__context__!r}"
    assert SECRET not in shown


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["${A}", "$"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["url", "headers", "source_id", "dataset", "state", "x y", ""]), inner, max_size=4
        ),
    ),
    max_leaves=8,
)


@given(st.sampled_from([*raw_config(), "defaults", "x"]), VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_any_json_is_accepted_or_refused(write: Write, key: str, value: Any) -> None:
    """No other error is raised."""
    path = write(raw_config(raw_source(), **{key: value}) if key != "sources" else raw_config(value))
    try:
        _load(path)
    except ConfigError as error:
        assert error.field  # noqa: PT017 -- both ends are right


def test_a_value_from_the_environment_never_names_a_file(write: Write) -> None:
    raw = raw_config(raw_source(url="https://host/${TOKEN}"))
    with pytest.raises(ConfigError, match=r"sources\[0\]\.url: .*file_name"):
        _load(write(raw), {"TOKEN": SECRET})


def test_with_a_file_name_it_may_stand_in_the_path(write: Write) -> None:
    raw = raw_config(raw_source(url="https://host/${TOKEN}", file_name="a.json"))
    assert _load(write(raw), {"TOKEN": SECRET}).sources[0].file_name == "a.json"
