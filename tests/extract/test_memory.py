"""A worker holds one block of a body in memory, never the whole body."""

from __future__ import annotations

import pytest

from cli.program import finish
from extract.runs import Home, entry
from support.nginx import serving

WORKER_BYTES_MAX = 80_000_000

PROGRAM = """
import resource, sys
from manifestlog.cli.app import main

if __name__ == "__main__":
    code = main(["extract", "etl.config.json", "--jobs", "1", "--quiet"])
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    sys.exit(code)
"""
"""Runs the program, then prints the peak memory of its only child, the worker."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(200_000_000, id="200 MB"),
        pytest.param(2_000_000_000, id="2 GB", marks=pytest.mark.slow),
    ],
)
def fetched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """Return (peak memory of the worker, length of the file it fetched)."""
    home, served = Home(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("served")
    with (served / "large.bin").open("wb") as file:
        file.truncate(request.param)  # a sparse file: it takes no space
    with serving(served) as server:
        home.configure(entry(f"{server.url}/large.bin"))
        result = finish(home.start_python("-c", PROGRAM))
    assert (result.code, result.err) == (0, "")
    fetched = home.data / "dumps" / "large.bin"
    length = fetched.stat().st_size
    fetched.unlink()  # pytest keeps temporary directories, and this one would be large
    return int(result.out), length


def test_a_worker_stays_small_whatever_it_fetches(fetched: tuple[int, int]) -> None:
    assert fetched[0] < WORKER_BYTES_MAX


def test_the_whole_of_a_large_file_is_fetched(fetched: tuple[int, int]) -> None:
    assert fetched[1] >= 200_000_000


def test_the_measured_process_is_the_worker(fetched: tuple[int, int]) -> None:
    """A child that does nothing is much smaller than one that has loaded the libraries."""
    assert fetched[0] > 20_000_000
