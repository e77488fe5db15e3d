"""The short way of `has` and `extract` says what the full command line says, or leaves it to that."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from extract.builders import raw_config, raw_source
from manifestlog.cli import fast_path, program

if TYPE_CHECKING:
    from pathlib import Path

    from cli.program import Program, Result

KNOWN = hashlib.sha256(b"a").hexdigest()
UNKNOWN = hashlib.sha256(b"nowhere").hexdigest()
NAME = "files_extractor"

PLAIN = [
    ["has", NAME, KNOWN],
    ["has", NAME, UNKNOWN],
    ["has", NAME, KNOWN.upper()],
    ["has", f"manifests/{NAME}.manifest.json", KNOWN],
    ["has", NAME, KNOWN, "--json"],
    ["--json", "has", NAME, UNKNOWN],
    ["-q", "has", NAME, KNOWN, "--no-progress"],
    ["has", "-v", "--dir", "manifests", NAME, KNOWN],
    ["--dir", "manifests", "has", NAME, UNKNOWN],
]
ELSE = [
    [],
    ["has"],
    ["has", "--help"],
    ["has", NAME],
    ["has", NAME, "short"],
    ["has", "no name", KNOWN],
    ["has", NAME, KNOWN, UNKNOWN],
    ["has", NAME, KNOWN, "--unknown"],
    ["has", NAME, KNOWN, "--dir"],
    ["has", NAME, KNOWN, "--lock-timeout", "1"],
    ["--dir", "nowhere", "has", NAME, KNOWN, "--dir", "manifests"],
    ["has", "--", NAME, KNOWN],
    ["get", NAME, KNOWN],
    ["extract"],
    ["extract", ""],
    ["extract", "--help"],
    ["extract", "etl.config.json", "more"],
    ["extract", "etl.config.json", "--dry-run"],
    ["extract", "etl.config.json", "--dir", "manifests"],
    [NAME, "has", KNOWN],
]


@pytest.mark.parametrize("given", PLAIN, ids=" ".join)
@pytest.mark.usefixtures("filled")
def test_it_answers_like_the_full_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    monkeypatch.chdir(home)
    short = fast_path.answer(given), capsys.readouterr().out
    full = program.run(given, as_json="--json" in given), capsys.readouterr().out
    assert short == full


@pytest.mark.parametrize("given", ELSE, ids=" ".join)
@pytest.mark.usefixtures("filled")
def test_other_calls_are_left_to_the_full_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    monkeypatch.chdir(home)
    assert fast_path.answer(given) is None


def test_a_missing_manifest_gives_the_usual_message(run: Program, home: Path) -> None:
    (home / "manifests").mkdir()
    short, full = (run.here("has", "no_download", KNOWN, *more) for more in ((), ("--lock-timeout", "30")))
    assert short == full
    assert short.code == 10


# -- extract -----------------------------------------------------------------------------------------------------------


def both_ways(run: Program, *more: str) -> tuple[Result, Result]:
    """What the short way says to a configuration, and then the full command line."""
    short = run.here("extract", "etl.config.json", *more)
    return short, run.here("extract", "etl.config.json", "--connections", "32", *more)


@pytest.mark.parametrize("more", [(), ("--json",), ("-q",)], ids=" ".join)
@pytest.mark.parametrize(
    "config", [None, {"sources": []}, {"data_dir": "etl.config.json"}], ids=["missing", "empty", "no directory"]
)
def test_a_configuration_with_a_mistake_gives_the_usual_message(
    run: Program, home: Path, config: dict[str, Any] | None, more: tuple[str, ...]
) -> None:
    if config is not None:
        content = raw_config(raw_source(url="http://127.0.0.1:1/a")) | config
        (home / "etl.config.json").write_text(json.dumps(content), encoding="utf-8")
    short, full = both_ways(run, *more)
    assert short == full
    assert short.code != 0


def test_a_plain_extract_shows_what_the_full_command_line_shows(run: Program, home: Path) -> None:
    content = raw_config(raw_source(url="http://127.0.0.1:1/a"), defaults={"retries": 0})
    (home / "etl.config.json").write_text(json.dumps(content), encoding="utf-8")
    short, full = (result._replace(out=re.sub(r"in [0-9.]+ ?m?s", "", result.out)) for result in both_ways(run))
    assert short == full
    assert short.code == 1


def test_a_plain_call_loads_neither_parser_nor_models(filled: Path) -> None:
    code = "import sys\nfrom manifestlog.cli.app import main\ncode = main(sys.argv[1:])\n"
    code += "sys.exit(code or any(name in sys.modules for name in ('typer', 'pydantic', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code, "has", str(filled), KNOWN], check=False)
    assert done.returncode == 0
