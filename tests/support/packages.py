"""Programs of the system that tests run beside ours, installed where they are missing and that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from fcntl import LOCK_EX, flock
from pathlib import Path

from support.children import time_limit

INSTALL_LIMIT_S = 300.0
INSTALL = """
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then  # without one Debian starts a server of its own, nginx on port 80
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod 755 $policy
fi
install="apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 $1"
$install || { apt-get update && $install; }
"""


def program(name: str, package: str) -> str:
    """The path of a program, installed from this package if it is missing. Raises RuntimeError when that is impossible."""
    return _find(name) or _install(name, package)


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def _install(name: str, package: str) -> str:
    with (
        Path(tempfile.gettempdir(), f"install-{package}-{os.getuid()}.lock").open("wb") as lock,
        time_limit(INSTALL_LIMIT_S),
    ):
        flock(lock, LOCK_EX)  # the workers of one test run all come here at once
        found = _find(name)
        if found is None:
            told = _run_installation(package)
            found = _find(name)
        if found is None:
            raise RuntimeError(
                f"the tests need {name}: install the package {package} (apt-get install {package}). {told}"
            )
        return found


def _run_installation(package: str) -> str:
    """Try; the end of what was said."""
    if _find("apt-get") is None:
        return "There is no apt-get here to do it."
    may = [] if os.geteuid() == 0 else ["sudo", "-n"]
    try:
        done = subprocess.run(
            [*may, "sh", "-c", INSTALL, "sh", package],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return "It takes root, and there is no sudo."
    return (done.stdout + done.stderr)[-1000:]
