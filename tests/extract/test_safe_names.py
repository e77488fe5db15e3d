"""Safe names, and how other texts become safe."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, strategies as st

from manifestlog import safe_names

SAFE = [
    "systems.json.gz",
    "v1.2.tar.gz",
    "a",
    "_",
    "100%.csv",
    "a b (1).csv",
    "station~names+x=1,2;3@4.csv",
    "Ærø-城市-🚀.json",
    "x..y",
    "part",
    "x.part.gz",
    "rejected.csv",
    "x.parts",
    "console.txt",
    "com10.txt",
    "xCON",
    "a" * 180,
]

UNSAFE = [
    # given, sanitized
    ("", "download"),
    (".", "_"),
    ("..", "__"),
    ("...", "___"),
    ("../../etc/passwd", "___.._etc_passwd"),
    ("/etc/passwd", "_etc_passwd"),
    ("..\\..\\boot.ini", "___.._boot.ini"),
    ("C:\\boot.ini", "C__boot.ini"),
    ("a/b", "a_b"),
    ("a\0b", "a_b"),
    ("a\nb\tc\x7f\x85", "a_b_c__"),
    ("a\u2028b\u2029c", "a_b_c"),
    ("gpj\u202e.exe", "gpj_.exe"),
    ("a\u200bb", "a_b"),
    ("a\ud800b", "a_b"),
    ("caf\ufffd.json", "caf_.json"),
    (".htaccess", "_htaccess"),
    ("...x", "___x"),
    ("-rf", "_rf"),
    (" x", "_x"),
    ("x.", "x_"),
    ("x. . ", "x____"),
    ("x ", "x_"),
    ('a:b*c?d"e<f>g|h', "a_b_c_d_e_f_g_h"),
    ("stream.csv:$DATA", "stream.csv_$DATA"),
    ("CON", "_CON"),
    ("nul.json.gz", "_nul.json.gz"),
    ("NUL .json", "_NUL .json"),
    ("Com1.txt", "_Com1.txt"),
    ("lpt³", "_lpt³"),
    ("CONIN$", "_CONIN$"),
    ("aux..", "aux__"),
    ("x.part", "x_part"),
    ("x.PART", "x_PART"),
    ("x.part.json", "x_part.json"),
    ("x.Part.JSON", "x_Part.JSON"),
    ("x.rejected", "x_rejected"),
    ("x.part.part", "x.part_part"),
    ("x.part ", "x.part_"),
    (".part", "_part"),
    (".part.json", "_part.json"),
    ("con.part", "con_part"),
    ("e\u0301", "\u00e9"),
    ("\u2126", "\u03a9"),
    ("x" * 300, "x" * 179),
    ("x" * 300 + ".json.gz", "x" * 171 + ".json.gz"),
    ("é" * 300 + ".csv", "é" * 87 + ".csv"),
    ("🚀" * 100 + ".tar.gz.asc", "🚀" * 42 + ".tar.gz.asc"),
    ("x" * 163 + ".part" + "y" * 100 + ".part.json", None),
    ("x" * 300 + ".part", None),
    ("con" + " " * 300 + "x.csv", None),
    (".gz" * 200, None),
    ("x" * 174 + ".part" + "." * 50, None),
]


@pytest.mark.parametrize("name", SAFE)
def test_a_safe_name_has_no_problem(name: str) -> None:
    assert safe_names.problem(name) is None


@pytest.mark.parametrize("name", SAFE)
def test_a_safe_name_stays_as_it_is(name: str) -> None:
    assert safe_names.sanitize(name) == name


@pytest.mark.parametrize("name", [name for name, _ in UNSAFE])
def test_an_unsafe_name_has_a_problem(name: str) -> None:
    assert safe_names.problem(name) is not None


@pytest.mark.parametrize(("name", "expected"), [(name, expected) for name, expected in UNSAFE if expected])
def test_an_unsafe_name_is_sanitized(name: str, expected: str) -> None:
    assert safe_names.sanitize(name) == expected


@pytest.mark.parametrize("name", [name for name, _ in UNSAFE])
def test_a_sanitized_name_is_safe(name: str) -> None:
    assert safe_names.problem(safe_names.sanitize(name)) is None


NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            ["..", "/", "\\", "\0", ".part", ".json", ".rejected", ".gz", "con", "NUL", " ", ".", "-", "%2F"]
        ),
        st.text(max_size=5),
        st.text(min_size=50, max_size=250),
        st.characters(categories=["Cs", "Cf", "Mn", "Cn"]),
    ),
    max_size=12,
).map("".join)


@given(NASTY)
@example("con" + " " * 300)
@example("e" * 178 + "\u0301" * 5)
def test_any_text_becomes_a_safe_name(text: str) -> None:
    assert safe_names.problem(safe_names.sanitize(text)) is None


@given(NASTY)
def test_a_safe_name_is_one_part_of_a_path(text: str) -> None:
    name = safe_names.sanitize(text)
    assert (name in ("", ".", ".."), {"/", "\\", "\0"} & set(name)) == (False, set())


@given(NASTY)
def test_sanitizing_twice_changes_nothing_more(text: str) -> None:
    once = safe_names.sanitize(text)
    assert safe_names.sanitize(once) == once


@given(st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=30))
def test_letters_and_digits_are_kept(text: str) -> None:
    name = unicodedata.normalize("NFC", text) + "x"  # no reserved name
    assert safe_names.sanitize(name) == name


@pytest.mark.parametrize(
    ("name", "stem", "suffixes"),
    [
        ("systems.json.gz", "systems", ".json.gz"),
        ("v1.2.tar.gz", "v1.2", ".tar.gz"),
        ("x.tar.gz.asc", "x", ".tar.gz.asc"),
        ("systems.2024.json.gz", "systems.2024", ".json.gz"),
        ("systems.2024.gz", "systems.2024", ".gz"),
        ("a.long.dotted.name.csv", "a.long.dotted.name", ".csv"),
        ("data.7z", "data", ".7z"),
        ("data.JSON.GZ", "data", ".JSON.GZ"),
        ("data.5", "data.5", ""),
        ("data", "data", ""),
        (".hidden", ".hidden", ""),
        (".tar.gz", ".tar", ".gz"),
        ("data.", "data.", ""),
        ("data.wide suffix", "data.wide suffix", ""),
        ("data.muchtoolongforone", "data.muchtoolongforone", ""),
        ("x.gz.gz.gz.gz", "x.gz", ".gz.gz.gz"),
        ("", "", ""),
    ],
)
def test_suffixes_are_split_off(name: str, stem: str, suffixes: str) -> None:
    assert safe_names.split_suffixes(name) == (stem, suffixes)
