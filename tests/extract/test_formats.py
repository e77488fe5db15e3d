"""Configurations that are not strict JSON, and the messages when their parser is not installed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from extract.builders import config_error, raw_config, raw_source
from manifestlog.extract import load_config

if TYPE_CHECKING:
    from pathlib import Path

RELAXED = """// what to fetch
{
  "etl_version": "1.0.0", "manifests_dir": "manifests", /* beside this file */
  "data_dir": "data/raw", "manifest": "systems_download",
  "sources": [
    {"source_id": "a", "dataset": "d", "url": "https://host/a//b"},
  ],
}
"""
YAML = """
etl_version: "1.0.0"
manifests_dir: manifests
data_dir: data/raw
manifest: systems_download
defaults: {jobs: 2, backoff_s: 1.5}
sources:
  - &first
    source_id: no
    dataset: 2024-05-01
    url: https://host/$${A}/x
  - <<: *first
    source_id: other
"""


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["a.json", "a.jsonc", "a.json5"])
def test_comments_and_trailing_commas_are_read(tmp_path: Path, name: str) -> None:
    assert load_config(written(tmp_path, name, RELAXED), {}).sources[0].url == "https://host/a//b"


@pytest.mark.parametrize("one", ['{"a": 1,}', "// x\n{}", "{/* x */}"])
def test_without_the_parser_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str) -> None:
    monkeypatch.setitem(sys.modules, "json5", None)
    reason = config_error(written(tmp_path, "a.json", one)).reason
    assert reason.startswith("line 1, column ")
    assert "pip install 'manifestlog[formats]'" in reason


def test_a_mistake_beside_comments_is_named_by_its_place(tmp_path: Path) -> None:
    reason = config_error(written(tmp_path, "a.json", '// x\n{"secret" "s3cret"}')).reason
    assert (reason, "s3cret" in reason) == ("line 2, column 11: invalid syntax; correct it", False)


def test_a_key_that_appears_twice_beside_comments_is_found(tmp_path: Path) -> None:
    error = config_error(written(tmp_path, "a.json", '{"etl_version": 1, "etl_version": 2} // x'))
    assert (error.field, "the key appears twice" in error.reason) == ("etl_version", True)


def test_two_slashes_in_an_address_are_not_a_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "json5", None)
    text = json.dumps(raw_config(raw_source()))[:-1]
    assert "json5" not in config_error(written(tmp_path, "a.json", text)).reason


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "A.YAML"])
def test_yaml_is_read(tmp_path: Path, name: str) -> None:
    config = load_config(written(tmp_path, name, YAML), {})
    assert (config.defaults.jobs, config.defaults.backoff_s) == (2, 1.5)


def test_words_and_days_in_yaml_are_strings(tmp_path: Path) -> None:
    source = load_config(written(tmp_path, "a.yaml", YAML), {}).sources[0]
    assert (source.source_id, source.dataset) == ("no", "2024-05-01")


def test_shared_values_in_yaml_are_expanded_once(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "a.yaml", YAML), {})
    assert [source.url for source in config.sources] == ["https://host/${A}/x"] * 2


def test_without_its_parser_yaml_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "pip install 'manifestlog[formats]'" in config_error(written(tmp_path, "a.yaml", YAML)).reason


def test_a_key_that_appears_twice_in_yaml_is_found(tmp_path: Path) -> None:
    error = config_error(written(tmp_path, "a.yaml", YAML + "manifest: x\n"))
    assert (error.field, "the key appears twice" in error.reason) == ("manifest", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 1, column 5"),
        ("a: b: c", "line 1, column 5"),
        ("? [a]\n: b", "expected a string as a key"),
        ("<<: 5", "expected a mapping after <<"),
        ("a: \x01", "characters"),
        ("--- a\n--- b", "line 2"),
        ("a: *b", "line 1, column 4"),
        ("a: &a [*a]", "nested too deeply"),
        ("- a", "top level"),
        ("", "top level"),
    ],
)
def test_unsupported_yaml_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in config_error(written(tmp_path, "a.yaml", text)).reason


def test_yaml_that_expands_to_billions_is_rejected(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(9)]
    assert "too many values" in config_error(written(tmp_path, "a.yaml", "\n".join(lines))).reason
