"""The guide does what it says: the blocks of its pages are run in order, as `tests/support/reader.py` describes."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog.extract import load_config
from support import postgres, s3
from support.reader import Reader, blocks, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "guide"
INDEX = (FOLDER / "index.md").read_text("utf-8")
PAGES = {
    name: (FOLDER / name).read_text("utf-8") for name in re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", INDEX, re.MULTILINE)
}
SOURCE = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
OF_THE_SYSTEM = (
    *("No space left on device", "Permission denied", "Is a directory", "Not a directory", "claimed", "interrupted"),
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Run all pages; return the reader while its servers are still running."""
    home = tmp_path_factory.mktemp("guide")
    with s3.serving() as store, postgres.serving(postgres.DURABLE) as database, reading(home) as one:
        for name, page in PAGES.items():
            if name == "many-hosts.md":  # it moves the manifest away
                one.printed_by_cron = one.run(_cron_line())
                one.give(database, store)
            for block in blocks(page):
                try:
                    one.follow(block)
                except AssertionError as error:
                    error.add_note(f"docs/guide/{name}")
                    raise
        yield one


def _cron_line() -> str:
    (block,) = (block for block in blocks(PAGES["nightly-job.md"]) if block.kind == "crontab")
    return block.text.splitlines()[-1].split(maxsplit=5)[5]


def test_the_index_names_every_page() -> None:
    assert sorted({*PAGES, "index.md"}) == sorted(path.name for path in FOLDER.glob("*.md"))


def test_every_example_prints_what_is_shown(reader: Reader) -> None:
    """The reader compares each one as it goes; what is left to see is that it came to the end."""
    assert (reader.home / "manifestlog-extract.service").exists()


def test_the_json_and_the_toml_example_name_the_same_files(reader: Reader) -> None:
    secrets = {"DUMPS_KEY": "k", "DUMPS_TOKEN": "t"}
    one, other = (load_config(reader.home / f"etl.config.{kind}", secrets) for kind in ("json", "toml"))
    named = [[(s.source_id, s.dataset, s.url.partition("?")[0]) for s in config.sources] for config in (one, other)]
    assert named[0] == named[1]


def test_the_defaults_shown_are_the_defaults(reader: Reader) -> None:
    one, other = (
        load_config(reader.home / f"etl.config.{kind}", {"DUMPS_KEY": "k", "DUMPS_TOKEN": "t"})
        for kind in ("json", "toml")
    )
    assert other.defaults.model_copy(update={"headers": {}}) == one.defaults


def test_the_cron_line_fetches_and_prints_nothing(reader: Reader) -> None:
    assert reader.printed_by_cron == ""


def test_the_unit_of_the_nightly_job_runs_the_same_script(reader: Reader) -> None:
    text = (reader.home / "manifestlog-extract.service").read_text()
    (command,) = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
    assert command == str(reader.home / "nightly.sh")


def test_the_unit_that_compacts_runs_until_sigterm(reader: Reader) -> None:
    (command,) = re.findall("^ExecStart=(.*compact.*)$", PAGES["many-processes.md"], re.MULTILINE)
    with reader.start(command) as service:
        assert service.stderr
        service.stderr.readline()  # it prints a line when it has started
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0


def test_the_directory_looks_as_shown(reader: Reader) -> None:
    assert reader.missing == []


def _explained() -> list[str]:
    section = PAGES["messages.md"].partition("| message |")[2].partition("\n\n")[0]
    return [text for row in section.splitlines()[2:] for text in re.findall("`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("message", [text for text in _explained() if not text.startswith((".", *OF_THE_SYSTEM))])
def test_every_explained_message_is_in_the_source(message: str) -> None:
    assert message.removeprefix("HTTP 404: ") in SOURCE
