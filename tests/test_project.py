"""The files that a project is expected to bring fit each other: lock, workflow, hooks, site, changelog."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import manifestlog

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = [
    line for line in (ROOT / "requirements-dev.lock").read_text("utf-8").splitlines() if line[:1] not in ("", "#", " ")
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


# -- the lock file -----------------------------------------------------------------------------------------------------


def _pins() -> dict[str, list[Requirement]]:
    pins: dict[str, list[Requirement]] = {}
    for line in LOCK:
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def test_the_lock_holds_exact_versions_and_no_address() -> None:
    """What a plain pip understands, from whatever index it is set up for."""
    assert [line for line in LOCK if not re.fullmatch(r"[a-z0-9.-]+==[^ ;@/]+( ; [^@/]+)?", line)] == []


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_the_lock_has_a_version_of_each_dependency(extra: str) -> None:
    wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for requirement in map(Requirement, wanted):
        versions = [
            str(next(iter(pin.specifier)).version) for pin in _pins().get(canonicalize_name(requirement.name), [])
        ]
        assert versions, f"{requirement.name} is not in the lock: make lock"
        assert [v for v in versions if v not in requirement.specifier] == [], f"{requirement}: make lock"


# -- the hosted checks -------------------------------------------------------------------------------------------------


def test_the_workflow_runs_make_test_on_every_python_that_is_promised() -> None:
    job = _yaml(".github/workflows/ci.yml")["jobs"]["test"]
    promised = {found[1] for line in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", line))}
    assert set(job["strategy"]["matrix"]["python"]) == promised
    assert "make test" in [step.get("run") for step in job["steps"]]


def test_the_tests_are_written_for_the_oldest_python_that_is_promised() -> None:
    assert PROJECT["requires-python"] == ">=3.11"


def _commands() -> Iterator[str]:
    for job in _yaml(".github/workflows/ci.yml")["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)
    yield (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    yield (ROOT / "README.md").read_text("utf-8")


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = {name for text in _commands() for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)}
    assert named
    assert named - targets == set()


def test_the_hooks_run_what_make_lint_runs() -> None:
    (local,) = _yaml(".pre-commit-config.yaml")["repos"]
    entries = " ".join(hook["entry"] for hook in local["hooks"])
    for command in ("ruff format", "ruff check", "mypy"):
        assert command in entries
        assert command in MAKEFILE
    assert [path for path in re.findall(r"tests/\S+", entries) if not (ROOT / path).exists()] == []


# -- the site ----------------------------------------------------------------------------------------------------------


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(entry)


def test_the_sites_menu_has_every_page_and_no_other() -> None:
    site = _yaml("mkdocs.yml")
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    from_root = site["extra"]["from_root"]
    assert sorted(_pages(site["nav"])) == sorted(written | set(from_root))
    assert [source for source in from_root.values() if not (ROOT / source).exists()] == []


@pytest.mark.parametrize(
    ("page", "modules"),
    [
        ("api.md", ["manifestlog"]),
        ("api-extract.md", ["manifestlog.extract"]),
        ("api-files.md", ["manifestlog.ingest", "manifestlog.audit"]),
        ("api-loading.md", ["manifestlog.loading"]),
        ("api-dev-server.md", ["manifestlog.dev_server"]),
    ],
)
def test_the_site_describes_every_public_name(page: str, modules: list[str]) -> None:
    described = re.findall(r"^::: (\S+)$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)
    whole = [name for name in described if importlib.util.find_spec(name)]  # a module described with all that it has
    public = {f"{module}.{name}" for module in modules for name in importlib.import_module(module).__all__}
    assert sorted(set(described) - set(whole)) == sorted(public - {"manifestlog.__version__"})
    assert len(described) == len(set(described))


# -- licence and changelog ---------------------------------------------------------------------------------------------


def test_the_licence_is_there_as_a_whole() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_begins_with_unreleased() -> None:
    assert _versions_of_the_changelog()[0] == "Unreleased"


def test_the_version_is_the_latest_of_the_changelog_or_the_next_in_development() -> None:
    latest, now = Version(_versions_of_the_changelog()[1]), Version(manifestlog.__version__)
    following = (latest.major, latest.minor + 1, 0)
    assert now == latest or (now.release == following and now.is_devrelease), f"{now} after {latest}"


def test_the_changelog_says_which_version_the_unreleased_one_is() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("## [Unreleased]")[2].partition("\n## ")[0]
    assert (
        f"will be {Version(manifestlog.__version__).base_version}" in text
        or not Version(manifestlog.__version__).is_devrelease
    )


def _versions_of_the_changelog() -> list[str]:
    return re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)


def test_every_version_of_the_changelog_has_its_link() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^\[([^]]+)\]: https://", text, re.MULTILINE) == _versions_of_the_changelog()


def test_the_policy_knows_this_version() -> None:
    now = Version(manifestlog.__version__)
    assert f"| {now.major}.{now.minor} |" in (ROOT / "docs/versioning.md").read_text("utf-8")


def test_the_security_page_knows_the_latest_version() -> None:
    latest = Version(_versions_of_the_changelog()[1])
    assert f"| {latest.major}.{latest.minor} |" in (ROOT / "SECURITY.md").read_text("utf-8")


def test_the_policy_names_every_public_module_that_a_page_describes() -> None:
    described = re.findall(r"^::: (\S+)$", "".join(map(_text, (ROOT / "docs").glob("api*.md"))), re.MULTILINE)
    modules = {name for name in described if importlib.util.find_spec(name)}
    assert [name for name in sorted(modules) if f"`{name}`" not in _text(ROOT / "docs/versioning.md")] == []


def _text(path: Path) -> str:
    return path.read_text("utf-8")
