"""Configurations that cannot be parsed, and the error classes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extract.builders import config_error, raw_config
from manifestlog.errors import ManifestError
from manifestlog.extract.errors import ConfigError, ExtractError

if TYPE_CHECKING:
    from extract.builders import Write


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1, column 1: Expecting value; correct the syntax"),
        (b'{\n  "a": 1,\n  "b" 2\n}', "line 3, column 7"),
        (b"{'a': 1}", "line 1, column 2"),
        (b'{"a": 1} x', "line 1, column 10"),
        (b"[]", "expected an object at the top level"),
        (b"null", "expected an object at the top level"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "too many digits"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_invalid_json_is_refused(write: Write, content: bytes, words: str) -> None:
    error = config_error(write(content))
    assert (error.field, words in error.reason) == ("", True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('a = "1"\nb =', "line 2, column 4: Invalid value; correct the syntax"),
        ('a = "1"\nb = x y', "line 2, column 5"),
        ('a = """', "line 1, column 8"),
        ('a = "1"\na = "2"', "line 2, column 8: Cannot overwrite a value"),
    ],
)
def test_invalid_toml_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "etl.TOML").write_text(content, encoding="utf-8")
    assert words in config_error(tmp_path / "etl.TOML").reason


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"manifest": "a", "manifest": "b"}', "manifest"),
        ('{"sources": [{"url": 1}, {"url": 1, "x": 2, "url": 1}]}', "sources[1].url"),
        ('{"defaults": {"headers": {"X-Key": "a", "X-Key": "a"}}}', "defaults.headers.X-Key"),
        ('{"a": {}, "a": {}, "a": {}}', "a"),
    ],
)
def test_a_key_that_appears_twice_is_named(write: Write, text: str, field: str) -> None:
    error = config_error(write(text.encode()))
    assert (error.field, error.reason) == (field, "the key appears twice; keep one")


@pytest.mark.parametrize(("name", "is_said"), [("etl.conf", True), ("etl.JSON", False), ("etl.jsonc", False)])
def test_a_file_whose_name_says_nothing_is_said_to_be_read_as_json(tmp_path: Path, name: str, *, is_said: bool) -> None:
    path = tmp_path / name
    path.write_text('etl_version = "1"', "utf-8")
    assert ("it is read as JSON" in config_error(path).reason) is is_said


def test_keys_that_appear_twice_are_named_in_the_order_of_the_file(write: Write) -> None:
    error = config_error(write(b'{"b": [{"x": 1, "x": 2}], "a": 1, "a": 2}'))
    assert (error.field, error.reason) == ("b[0].x", "the key appears twice; keep one (and 1 more problem)")


def test_a_deeply_nested_value_is_a_problem_like_others(write: Write) -> None:
    """As deep as the JSON parser allows."""
    assert config_error(write(b'{"sources": ' + b"[" * 900 + b"]" * 900 + b"}")).exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    expected = f"{path}: No such file or directory; name a readable configuration file"
    assert str(config_error(path)) == expected


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert "Is a directory" in config_error(tmp_path).reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(write: Write) -> None:
    path = write(raw_config())
    path.chmod(0)
    assert "Permission denied" in config_error(path).reason


# -- the errors --------------------------------------------------------------------------------------------------------


def test_a_bad_configuration_has_exit_code_2() -> None:
    assert ConfigError("p", "f", "r").exit_code == 2


def test_extract_errors_are_the_librarys() -> None:
    assert ConfigError.__mro__[1:3] == (ExtractError, ManifestError)


def test_an_error_without_a_field_has_no_gap() -> None:
    assert str(ConfigError("etl.config.json", "", "wrong")) == "etl.config.json: wrong"


@pytest.mark.parametrize("error", [ConfigError("p", "sources[3].url", "r"), ExtractError("m"), ExtractError("m", "/p")])
def test_an_error_goes_to_another_process(error: ExtractError) -> None:
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent), vars(sent)) == (type(error), str(error), vars(error))
