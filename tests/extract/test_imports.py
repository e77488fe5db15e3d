"""Which libraries an import loads, and which former names still work."""

from __future__ import annotations

import subprocess
import sys

import pytest

import manifestlog.extract


def test_no_library_that_fetches_is_loaded() -> None:
    """Configuration, names and paths work without the extra."""
    code = "import sys, manifestlog.extract.config.configuration, manifestlog.extract.config.redaction\n"
    code += "print({'urllib3', 'certifi', 'fsspec'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize(("former", "name"), [("Ask", "FetchRequest"), ("Head", "ResponseHead")])
def test_a_former_name_still_works_and_warns(former: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{former} is deprecated: use {name}"):
        assert getattr(manifestlog.extract, former) is getattr(manifestlog.extract, name)
