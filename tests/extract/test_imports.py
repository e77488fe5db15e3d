"""What the pure modules may load, and who may know whom."""

from __future__ import annotations

import subprocess
import sys


def test_no_library_that_fetches_is_loaded() -> None:
    """Configuration, names and places work without the extra."""
    code = "import sys, manifestlog.extract.config.configuration, manifestlog.extract.config.redaction\n"
    code += "print({'requests', 'urllib3', 'fsspec'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
