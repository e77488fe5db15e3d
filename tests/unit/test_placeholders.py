"""Statements in the five styles of PEP 249."""

from __future__ import annotations

import pytest

from manifestlog.loading.placeholders import bound

STATEMENT = "UPDATE t SET a = {new} WHERE b = {key} AND a <> {new}"
VALUES = {"new": "n", "key": "k", "other": "o"}


@pytest.mark.parametrize(
    ("style", "text", "parameters"),
    [
        ("qmark", "UPDATE t SET a = ? WHERE b = ? AND a <> ?", ("n", "k", "n")),
        ("format", "UPDATE t SET a = %s WHERE b = %s AND a <> %s", ("n", "k", "n")),
        ("numeric", "UPDATE t SET a = :1 WHERE b = :2 AND a <> :3", ("n", "k", "n")),
        ("named", "UPDATE t SET a = :new WHERE b = :key AND a <> :new", {"new": "n", "key": "k"}),
        ("pyformat", "UPDATE t SET a = %(new)s WHERE b = %(key)s AND a <> %(new)s", {"new": "n", "key": "k"}),
    ],
)
def test_a_statement_has_the_placeholders_of_its_style(style: str, text: str, parameters: object) -> None:
    assert bound(STATEMENT, VALUES, style) == (text, parameters)
