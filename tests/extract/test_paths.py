"""The paths of a source's files."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given, strategies as st
from pydantic import ValidationError

from extract.builders import CHECKSUM, source
from manifestlog import names
from manifestlog.extract import paths
from manifestlog.extract.config.source import ETLSource
from manifestlog.extract.errors import ExtractError

DATA = Path("/srv/data/raw")
NAME_MAX = 255


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/dumps/systems.json.gz", "systems.json.gz"),
        ("https://host/dumps/systems.json.gz?token=/../../x#frag/y", "systems.json.gz"),
        ("https://host/a%20b.csv", "a b.csv"),
        ("https://host/st%C3%A4dte.csv", "städte.csv"),
        ("https://host/städte.csv", "städte.csv"),
        ("https://host/sta%CC%88dte.csv", "städte.csv"),
        ("https://host/caf%E9.csv", "caf_.csv"),
        ("https://host/100%.csv", "100%.csv"),
        ("https://host/%zz.csv", "%zz.csv"),
        ("https://host", "download"),
        ("https://host/", "download"),
        ("https://host/dumps/", "download"),
        ("https://host?x=/y.csv", "download"),
        ("https://host/..", "__"),
        ("https://host/a/../../..", "__"),
        ("https://host/%2e%2e", "__"),
        ("https://host/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "___.._etc_passwd"),
        ("https://host/..%5C..%5Cboot.ini", "___.._boot.ini"),
        ("https://host/a\\..\\b", "a_.._b"),
        ("https://host/a%2Fb", "a_b"),
        ("https://host/a%252Fb", "a%2Fb"),  # decoded once: a percent sign is not a separator
        ("https://host/%00", "_"),
        ("https://host/a%00.csv", "a_.csv"),
        ("https://host/a%0D%0Ab", "a__b"),
        ("https://host/%E2%80%AEgpj.exe", "_gpj.exe"),
        ("https://host/.bashrc", "_bashrc"),
        ("https://host/CON", "_CON"),
        ("https://host/nul.csv", "_nul.csv"),
        ("https://host/x.part", "x_part"),
        ("https://host/x.part.json", "x_part.json"),
        ("https://host/x.rejected", "x_rejected"),
        ("https://host/x%2Epart", "x_part"),
        ("https://host/x;v=1.csv", "x;v=1.csv"),
        ("file:///etc/passwd", "passwd"),
        ("file:///c:/boot.ini", "boot.ini"),
        ("s3://bucket/a/b.parquet", "b.parquet"),
        ("s3://bucket", "download"),
        ("memory://x", "download"),
        ("simplecache::s3://bucket/b.csv", "b.csv"),
    ],
)
def test_a_name_comes_from_the_address(url: str, name: str) -> None:
    assert paths.file_name_of(source(url)) == name


def test_a_configured_name_wins() -> None:
    assert paths.file_name_of(source("https://host/x.csv", file_name="y.csv")) == "y.csv"


def test_a_data_file_is_in_its_dataset() -> None:
    assert paths.path_for(DATA, source(dataset="a/b")) == DATA / "a/b/systems.json.gz"


@pytest.mark.parametrize(
    "wrong", [{"dataset": "../x"}, {"dataset": "/x"}, {"file_name": "../x"}, {"file_name": "/etc/x"}]
)
def test_an_unvalidated_source_does_not_leave_it_either(wrong: dict[str, str]) -> None:
    with pytest.raises(ExtractError, match="source spansh_systems"):
        paths.path_for(DATA, source().model_copy(update=wrong))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("systems.json.gz", "systems-0a4d12345678.json.gz"),
        ("v1.2.tar.gz", "v1.2-0a4d12345678.tar.gz"),
        ("data.5", "data.5-0a4d12345678"),
        ("data", "data-0a4d12345678"),
        (".hidden", ".hidden-0a4d12345678"),
    ],
)
def test_the_checksum_goes_before_the_suffixes(name: str, other: str) -> None:
    assert paths.alternate_path(DATA / name, CHECKSUM) == DATA / other


def test_a_part_is_beside_its_target() -> None:
    assert paths.part_path(DATA / "x.csv", source()) == DATA / "x.csv.5afb65ea.part"


def test_a_parts_state_is_beside_the_part() -> None:
    assert paths.part_state_path(DATA / "x.csv.12345678.part") == DATA / "x.csv.12345678.part.json"


def test_a_rejected_file_is_beside_its_target() -> None:
    assert paths.rejected_path(DATA / "x.csv", source()) == DATA / "x.csv.5afb65ea.rejected"


@pytest.mark.parametrize("other", [{"source_id": "x"}, {"dataset": "x"}, {"source_id": "spansh_systems\0x"}])
def test_another_source_has_another_part(other: dict[str, str]) -> None:
    assert paths.part_path(DATA / "x", source(**other)) != paths.part_path(DATA / "x", source())


def test_the_part_does_not_depend_on_the_address() -> None:
    """A new token in the query must not discard the part."""
    moved = source("https://other/systems.json.gz?t=2")
    assert paths.part_path(DATA / "x", moved) == paths.part_path(DATA / "x", source())


SEGMENTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["..", ".", "/", "%2e", "%2F", "%5c", "\\", "%00", ".part", ".json", ".gz", "CON", "%25", "?", "#"]
        ),
        st.text(max_size=4),
        st.text(max_size=300).map(lambda text: quote(text, safe="", errors="replace")),
    ),
    max_size=8,
)


@st.composite
def sources(draw: st.DrawFn) -> ETLSource:
    """Sources with URLs of any shape."""
    url = draw(st.sampled_from(["https://host/", "https://host", "file:///", "s3://b/k", "x+y::z://"])) + "".join(
        draw(SEGMENTS)
    )
    try:
        return source(url)
    except ValidationError:
        assume(False)
        raise


@given(sources())
def test_a_target_never_leaves_its_folder(made: ETLSource) -> None:
    assert Path(os.path.normpath(paths.path_for(DATA, made))).parent == DATA / "star_systems"


@given(sources())
def test_every_name_fits_the_file_system(made: ETLSource) -> None:
    target = paths.alternate_path(paths.path_for(DATA, made), CHECKSUM)
    longest = [target, paths.part_state_path(paths.part_path(target, made)), paths.rejected_path(target, made)]
    assert max(len(os.fsencode(path.name)) for path in longest) <= NAME_MAX


@given(sources())
def test_no_data_file_is_mistaken_for_a_working_file(made: ETLSource) -> None:
    target = paths.path_for(DATA, made)
    data = [target.name, paths.alternate_path(target, CHECKSUM).name]
    assert [name for name in data if name.endswith((names.PART, names.PART_STATE, names.REJECTED))] == []
