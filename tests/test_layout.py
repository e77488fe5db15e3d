"""The layout of the code, enforced on its syntax trees: floors, owners, ceilings, what is public."""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import manifestlog

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "manifestlog"

FOLDERS: dict[str, set[str]] = {
    "ground": set(),
    "model": {"ground"},
    "workers": {"ground"},
    "files": {"ground"},
    "objects": {"ground"},
    "engines": {"ground", "model"},
    "engines.filelog": {"ground", "model", "engines", "workers", "files"},
    "engines.postgres": {"ground", "model", "engines"},
    "face": {"ground", "model", "engines", "files"},
    "ingest": {"ground", "model", "workers", "face"},
    "loading": {"ground", "model"},
    "dev_server": {"ground"},
    "audit": {"ground", "model", "workers", "files", "objects", "face", "ingest"},
    "extract": {"ground", "model", "workers", "objects", "face"},
    "stages": {"ground", "model", "workers", "files", "objects", "face"},
    "cli": {"ground", "model", "workers", "face", "ingest", "audit", "extract", "stages", "engines", "dev_server"},
}
"""Who may import whom, by folder. The engines know nothing of who uses them, and nobody but the registry knows an engine."""

GROUND = {
    *("copy_errors", "error_texts", "errors", "server_errors", "options", "names", "progress", "safe_names", "version"),
}
FACE = {
    *(
        "manager",
        "managers",
        "records",
        "factory",
        "open_managers",
        "corrections",
        "maintenance",
        "root",
        "adoption",
        "reader",
        "locating",
        "copying",
        "mirroring",
    ),
    *("run", "queries", "history", "comparison", "following", "tracing", "undo", "tabular", "pending", "derivations"),
}
"""Modules that stand in no folder: what everybody may know, and the public face."""

INSIDE_FILELOG: tuple[tuple[str, ...], ...] = (
    ("mounts", "checksums", "history_folder", "replicas"),
    ("lock", "claims", "canonical.source_rows", "log.framing", "canonical.columns"),
    ("log", "canonical"),
    ("overlay", "view", "snapshot", "canonical.merge", "canonical.files"),
    ("state",),
    ("session", "history"),
    ("kept_index", "compaction", "loading"),
    ("engine",),
    ("driver",),
)
"""The way of a record, lowest first: imports point down. `recovery` reads `log` and `canonical`, never `session` or above."""

RECOVERY_MAY_NOT_KNOW = {"session", "kept_index", "compaction", "engine", "driver"}

OWED: dict[str, set[str]] = {}
"""Imports that the table forbids and that are still to be paid: none."""

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_MEDIAN = 10

OS_CALLS = {
    "open", "close", "read", "write", "pread", "pwrite", "readv", "writev", "lseek", "fsync", "fdatasync", "ftruncate",
    "truncate", "rename", "replace", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "makedirs", "listdir",
    "scandir", "stat", "lstat", "fstat", "chmod", "fchmod", "chown", "fchown", "utime", "sendfile", "copy_file_range",
}  # fmt: skip
FILE_METHODS = {
    "write_text", "write_bytes", "read_text", "read_bytes", "touch", "mkdir", "rmdir", "unlink", "rename", "iterdir",
    "glob", "rglob", "chmod", "symlink_to", "hardlink_to",
}  # fmt: skip

FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in FILES}
USERS = (
    *("", "__main__", "cli", "extract", "ingest", "dev_server", "audit.worker", "audit.untracked"),
    *("stages.command", "stages.guard", "stages.kept_output"),
)
"""Who uses the library: these read data files and talk, each in its own way."""
ENGINE = {name: path for name, path in MODULES.items() if name not in USERS and name.split(".")[0] not in USERS}


def _imports(path: Path) -> Iterator[str]:
    """The modules of this package that a file names, those for the type checker included."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.split(".")[0] == "manifestlog":
                base = node.module.removeprefix("manifestlog").lstrip(".")
                inner = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
                yield from (name if name in MODULES else base for name in inner)
        elif isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix("manifestlog").lstrip(".")
                for a in node.names
                if a.name.split(".")[0] == "manifestlog"
            )


def _foreign(path: Path) -> set[str]:
    """The top names of everything else that a file imports, those for the type checker left out."""
    found = set()
    for node in _at_run_time(TREES[path]):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _at_run_time(child)


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(TREES[path]) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


# -- folders -----------------------------------------------------------------------------------------------------------


def _folder(module: str) -> str:
    """Which entry of `FOLDERS` a module belongs to; `package` for the package itself and its entry point."""
    if module in GROUND:
        return "ground"
    if module in FACE:
        return "face"
    if engine := next((one for one in ("engines.filelog", "engines.postgres") if module.startswith(one)), None):
        return engine
    first = module.split(".", maxsplit=1)[0]
    return first if first in FOLDERS else "package"


def test_every_module_has_its_folder() -> None:
    """The root holds the public face and what everybody may know, nothing else."""
    assert {name for name in MODULES if _folder(name) == "package"} == {"", "__main__"}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if _folder(name) != "package"))
def test_a_folder_imports_only_what_it_may_know(module: str) -> None:
    """The table above is the architecture."""
    may_know = FOLDERS[_folder(module)] | {_folder(module)}
    wrong = {name for name in _imports(MODULES[module]) if name and _folder(name) not in may_know}
    assert wrong - OWED.get(module, set()) == set()


def test_what_is_owed_is_still_there() -> None:
    """An exception that is paid is struck off the list."""
    assert {module: paid for module in OWED if (paid := OWED[module] - set(_imports(MODULES[module])))} == {}


def _level(module: str) -> int:
    """Where a module of the file engine stands; the longest name that fits counts."""
    name = module.removeprefix("engines.filelog.")
    fitting = [
        (len(prefix), level)
        for level, prefixes in enumerate(INSIDE_FILELOG)
        for prefix in prefixes
        if name == prefix or name.startswith(f"{prefix}.")
    ]
    return max(fitting)[1]


def _inside(module: str) -> bool:
    return module.startswith("engines.filelog.") and not module.startswith("engines.filelog.recovery")


@pytest.mark.parametrize("module", sorted(filter(_inside, MODULES)))
def test_imports_point_down_inside_the_file_engine(module: str) -> None:
    """From `add` to the disk there is one direction."""
    wrong = [name for name in _imports(MODULES[module]) if _inside(name) and _level(name) > _level(module)]
    assert wrong == []


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.startswith("engines.filelog.recovery")))
def test_recovery_reads_files_and_opens_no_manifest(module: str) -> None:
    """What mends a damaged manifest needs none that can be opened."""
    known = {name.removeprefix("engines.filelog.").split(".")[0] for name in _imports(MODULES[module])}
    assert known & RECOVERY_MAY_NOT_KNOW == set()


@pytest.mark.parametrize("package", sorted(m for m, path in MODULES.items() if path.name == "__init__.py" and m != ""))
def test_a_folder_runs_nothing_when_it_is_imported(package: str) -> None:
    """A folder's `__init__` says what is in it, and at most hands on public names."""
    assert _functions(MODULES[package]) == []


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.split(".")[0] not in ("cli", "__main__")))
def test_nobody_imports_the_command_line(module: str) -> None:
    """The command line stands on top."""
    assert [
        name for name in _imports(MODULES[module]) if name.split(".")[0] == "cli" and name not in OWED.get(module, ())
    ] == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """There is no cycle, in the command line neither, imports for the type checker included."""
    graph = {name: set(_imports(path)) & set(MODULES) - {""} for name, path in MODULES.items() if name}
    while leaves := {name for name, needs in graph.items() if not needs & set(graph)}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert graph == {}


# -- owners ------------------------------------------------------------------------------------------------------------

OWNERS = {
    "orjson": {"model.codec"},
    "filelock": {"engines.filelog.lock"},
    "fcntl": {"files.disk"},
    "mmap": {"files.disk"},
    "shutil": set(),
    "tempfile": set(),
    "pickle": set(),
}


@pytest.mark.parametrize("library", OWNERS)
def test_each_library_has_one_owner(library: str) -> None:
    """Within the engine one module imports each of these."""
    assert {name for name, path in ENGINE.items() if library in _foreign(path)} <= OWNERS[library]


@pytest.mark.parametrize("library", ["typer", "rich", "click"])
def test_the_command_lines_libraries_stay_there(library: str) -> None:
    """Nobody but the command line imports them."""
    users = {name for name, path in MODULES.items() if library in _foreign(path)}
    assert {name for name in users if name.split(".")[0] != "cli"} == set()


def test_only_tables_import_pyarrow() -> None:
    """It is an extra."""
    assert {name for name, path in MODULES.items() if '"pyarrow"' in path.read_text(encoding="utf-8")} == {"tabular"}


def test_only_its_engine_imports_the_database_driver() -> None:
    """It is an extra."""
    users = {name for name, path in MODULES.items() if "psycopg" in _foreign(path)}
    assert {name for name in users if not name.startswith("engines.postgres.")} == set()


@pytest.mark.parametrize("library", ["botocore", "obstore"])
def test_only_the_object_stores_import_their_libraries(library: str) -> None:
    """They are extras, and loaded for the URL of such a store only."""
    users = {name for name, path in MODULES.items() if library in _foreign(path)}
    assert {name for name in users if not name.startswith("objects.")} == set()


def test_only_openlineage_imports_its_client() -> None:
    """It is an extra."""
    users = {name for name, path in MODULES.items() if '"openlineage.client"' in path.read_text(encoding="utf-8")}
    assert users == {"stages.openlineage"}


@pytest.mark.parametrize("library", ["urllib3", "certifi", "idna", "fsspec"])
def test_only_the_fetchers_import_the_network_libraries(library: str) -> None:
    """The rest of `extract` asks a fetcher."""
    users = {name for name, path in MODULES.items() if library in _foreign(path)}
    assert {name for name in users if not name.startswith("extract.fetchers.")} == set()


@pytest.mark.parametrize("library", ["orjson", "filelock"])
def test_an_owner_uses_what_it_owns(library: str) -> None:
    """The table above is no dead letter."""
    (owner,) = OWNERS[library]
    assert library in _foreign(MODULES[owner])


def _file_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            yield f"{node.lineno}: open()"
        elif isinstance(called, ast.Attribute):
            owner = ast.unparse(called.value)
            if (owner == "os" and called.attr in OS_CALLS) or called.attr in FILE_METHODS:
                yield f"{node.lineno}: {owner}.{called.attr}()"


@pytest.mark.parametrize("module", sorted(set(ENGINE) - {"files.disk", "files.system"}))
def test_only_the_disk_module_touches_files(module: str) -> None:
    """So that a simulated disk can take its place. Its neighbour only asks."""
    assert list(_file_calls(ENGINE[module])) == []


def test_the_disk_module_is_seen_touching_files() -> None:
    """The search above finds what it looks for."""
    assert len(list(_file_calls(MODULES["files.disk"]))) > 10


def test_the_module_that_asks_the_system_changes_nothing() -> None:
    """It looks at files, and reads those in which the kernel says what it knows."""
    called = {call.partition(": ")[2] for call in _file_calls(MODULES["files.system"])}
    assert called <= {"os.stat()", "open()", "os.listdir()"}


@pytest.mark.parametrize("module", sorted(ENGINE))
def test_the_disk_module_is_called_by_its_name(module: str) -> None:
    """`disk.append(…)`, never `from disk import append`: a replaced function must reach every caller."""
    froms = [n for n in ast.walk(TREES[ENGINE[module]]) if isinstance(n, ast.ImportFrom)]
    assert [n.lineno for n in froms if n.module in ("manifestlog.files.disk", "manifestlog.files.system")] == []


@pytest.mark.parametrize("module", sorted(ENGINE))
def test_the_engine_prints_nothing(module: str) -> None:
    """Talk is the command line's, and the logger's."""
    calls = [n for n in ast.walk(TREES[ENGINE[module]]) if isinstance(n, ast.Call)]
    assert [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id in ("print", "input")] == []


# -- ceilings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_file_is_too_long(module: str) -> None:
    """A longer file wants to be two."""
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_function_is_too_long(module: str) -> None:
    """A longer function wants to be two."""
    assert [f.name for f in _functions(MODULES[module]) if _length(f) > FUNCTION_LINES_MAX] == []


def test_functions_are_short() -> None:
    """Half of all functions take less than ten lines."""
    assert statistics.median(_length(f) for path in FILES for f in _functions(path)) < FUNCTION_LINES_MEDIAN


@pytest.mark.parametrize("module", sorted(ENGINE))
def test_imports_stand_at_the_top(module: str) -> None:
    """An import inside a function is a missing floor."""
    inner = [
        n.lineno for f in _functions(ENGINE[module]) for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    assert inner == []


@pytest.mark.parametrize("module", sorted(m for m, path in MODULES.items() if path.stat().st_size))
def test_every_module_says_what_it_is(module: str) -> None:
    """Every file begins with a docstring."""
    assert ast.get_docstring(TREES[MODULES[module]])


# -- what is public ----------------------------------------------------------------------------------------------------

PUBLIC = {
    "ETLProcess", "ManifestMetadata", "ManifestRecord", "Observation", "Verdict", "AddResult", "ManifestOptions",
    "Durability", "AbstractManifest", "DownloadManifestManager", "ProcessedManifestManager", "ManifestFactory",
    "manifest_path", "CompactionReport",
    "ManifestError", "ManifestNotFoundError", "LockTimeoutError", "DamagedManifestError", "NewerFormatError",
    "RecordRejectedError", "RecordNotFoundError", "AddManyStoppedError", "IndeterminateWriteError", "DiskFullError",
    "ManifestClosedError", "ManifestInUseError", "MetadataConflictError", "ReadOnlyError", "UnknownManifestTypeError",
}  # fmt: skip


def test_every_promised_name_is_public() -> None:
    """What the contract names can be imported from the package."""
    assert set(manifestlog.__all__) >= PUBLIC


def test_all_is_what_the_package_exposes() -> None:
    """`__all__` has every name of ours, and no other."""
    ours = set()
    for name in dir(manifestlog):
        value = getattr(manifestlog, name)
        if not (name.startswith("_") or isinstance(value, ModuleType)) and getattr(value, "__module__", "").startswith(
            "manifestlog"
        ):
            ours.add(name)
    assert {*ours, "__version__"} == set(manifestlog.__all__)


def test_all_has_no_name_twice() -> None:
    """`__all__` is sorted behind its version, so nothing stands twice."""
    names = list(manifestlog.__all__)[1:]
    assert all(one < other for one, other in pairwise(names))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A lazy package fails like any other."""
    with pytest.raises(AttributeError, match="nothing"):
        manifestlog.nothing  # noqa: B018 -- asking is the point


def _loaded_by(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_everything_loads_no_command_line() -> None:
    """Neither the package nor any of its names, nor what the verbs call, loads typer, rich or a module of the command line."""
    faces = "from manifestlog import audit, extract, ingest"
    loaded = _loaded_by(f"import manifestlog\nfor name in manifestlog.__all__: getattr(manifestlog, name)\n{faces}")
    assert {
        m for m in loaded if m.split(".")[0] in ("typer", "rich", "click") or m.startswith("manifestlog.cli")
    } == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import manifestlog` alone loads no library at all."""
    assert _loaded_by("import manifestlog") & {"pydantic", "orjson", "filelock", "typer", "rich"} == set()


def test_importing_starts_nothing() -> None:
    """No thread, no file, no handler but the null one."""
    code = "import logging, threading, manifestlog\nfor n in manifestlog.__all__: getattr(manifestlog, n)\n"
    code += "assert threading.active_count() == 1\n"
    code += "assert [type(h).__name__ for h in logging.getLogger('manifestlog').handlers] == ['NullHandler']"
    assert "manifestlog" in _loaded_by(code)


def test_the_package_is_typed() -> None:
    """Type checkers are told that the package has types."""
    assert (PACKAGE / "py.typed").exists()


# -- the top level -----------------------------------------------------------------------------------------------------


def test_the_top_level_is_tidy() -> None:
    """Beside dotfiles there is what the design names, what a project is expected to bring, and nothing else."""
    allowed = {"pyproject.toml", "README.md", "Makefile", "src", "tests", "benchmarks", "manifests", "docs", "examples"}
    allowed |= {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "mkdocs.yml", "requirements-dev.lock"}
    built = {"build", "dist", "site", "PKG-INFO"}  # the last one by whoever has built an sdist, and is in it
    found = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}
    assert found - built <= allowed
