"""Modes, links, flags of opening, and manifests that somebody has made on purpose."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
import tty
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import Program
from manifestlog import DownloadManifestManager
from manifestlog.cli.app import main
from manifestlog.cli.program import _VERBS
from manifestlog.engines.filelog.recovery.repair import repair
from manifestlog.names import resolve
from support.integrity import file_descriptors

from .builders import META, QUIET, line_at, record, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Start

    from .conftest import Opener

PACKAGE = Path(__file__).parents[2] / "src" / "manifestlog"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}

# -- modes and groups --------------------------------------------------------------------------------------------------

KINDS = {"json", "idx", "lock", "compact.lock", "jsonl"}


def _kind(path: Path) -> str:
    rest = path.name.partition(".manifest.")[2]
    return "jsonl" if rest.startswith("wal-") else rest


def _live(path: Path) -> None:
    """A life in which every kind of file is made."""
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        manifest.add(record("a"))
        manifest.compact()
        manifest.add(record("b"))


def _modes(directory: Path) -> dict[str, int]:
    return {_kind(path): path.stat().st_mode & 0o7777 for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def umask() -> Iterator[None]:
    """0027: nothing for others."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_new_files_honour_the_umask(path: Path) -> None:
    _live(path)
    assert _modes(path.parent) == dict.fromkeys(KINDS, 0o640)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o664])
@pytest.mark.usefixtures("umask")
def test_every_file_takes_over_the_canonicals_mode(path: Path, opener: Opener, mode: int) -> None:
    opener().close()
    path.chmod(mode)
    _live(path)
    assert _modes(path.parent) == dict.fromkeys(KINDS, mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to any group")
def test_every_file_takes_over_the_canonicals_group(path: Path, opener: Opener) -> None:
    opener().close()
    os.chown(path, -1, 12345)
    _live(path)
    assert {_kind(file): file.stat().st_gid for file in path.parent.rglob("*") if file.is_file()} == dict.fromkeys(
        KINDS, 12345
    )


def test_no_file_is_accessible_to_others_before_it_has_its_mode(
    path: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener().close()
    path.chmod(0o600)
    before: list[int] = []
    real = os.fchmod

    def fchmod(fd: int, mode: int) -> None:
        before.append(os.fstat(fd).st_mode & 0o077)
        real(fd, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    _live(path)
    assert len(before) >= 5
    assert set(before) == {0}


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def linked(directory: Path, opener: Opener) -> tuple[Path, Path]:
    """A link to a manifest, and another manifest it may be turned to."""
    here, there = directory / "here", directory / "there"
    for folder in (here, there):
        opener(path=folder / "systems_download.manifest.json").close()
    link = directory.parent / "link_download.manifest.json"
    link.symlink_to(here / "systems_download.manifest.json")
    return link, there / "systems_download.manifest.json"


def test_a_link_is_followed_once(linked: tuple[Path, Path], opener: Opener) -> None:
    link, other = linked
    manifest = opener(path=link)
    link.unlink()
    link.symlink_to(other)
    manifest.add(record("a"))
    manifest.compact()
    manifest.add(record("b"))
    assert [path.name for path in other.parent.iterdir()] == [other.name]
    assert manifest.path.parent.name == "here"
    assert len(manifest) == 2


def test_a_link_stays_a_link(linked: tuple[Path, Path], opener: Opener) -> None:
    link, _ = linked
    manifest = opener(path=link)
    manifest.add(record("a"))
    manifest.compact()
    assert link.is_symlink()
    assert not link.with_name("link_download.manifest.lock").exists()


def test_a_link_in_a_segments_place_is_not_followed(path: Path, opener: Opener) -> None:
    manifest = opener()
    manifest.add(record("a"))
    manifest.close()
    (segment,) = segments_of(path.parent)
    victim = path.parent.parent / "victim"
    segment.rename(victim)
    segment.symlink_to(victim)
    data = victim.read_bytes()
    with pytest.raises(OSError, match="symbolic links"):
        opener()
    assert victim.read_bytes() == data
    segment.unlink()
    victim.rename(segment)


# -- how files are opened ----------------------------------------------------------------------------------------------


def _opened(_link: object, path: Path) -> list[tuple[str, int]]:
    """Every file below the manifest's folder that a whole life opens, with its flags: library and command line."""
    seen: list[tuple[str, int]] = []

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and args[0].startswith(str(path.parent)):
            seen.append((args[0], args[2]))

    sys.addaudithook(hear)
    _live(path)
    data = path.parent / "data"
    data.mkdir()
    (data / "one").write_bytes(b"1")
    seen.clear()  # the data file was written by this test
    name = str(path)
    for arguments in (["add", name, str(data)], ["compact", name], ["check", name], ["cat", name], ["list", name]):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- to the end of this child
        assert main(arguments) == 0
    _live(path)
    assert main(["doctor", str(path.parent)]) == 0
    return seen


def test_no_shared_file_is_opened_with_truncation(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "traced"
    folder.mkdir()
    seen = start(_opened, folder / "systems_download.manifest.json").result()
    assert {_kind(Path(name)) for name, _ in seen if ".tmp-" not in name} >= KINDS
    assert [name for name, flags in seen if flags & os.O_TRUNC] == []


def test_every_file_of_a_manifest_is_opened_without_following_links(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "traced"
    folder.mkdir()
    seen = start(_opened, folder / "systems_download.manifest.json").result()
    followed = {name for name, flags in seen if ".manifest." in name and not flags & os.O_NOFOLLOW}
    assert followed == set()


def _without_standard_input(_link: object, path: Path) -> list[int]:
    os.close(0)
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        manifest.add(record("a"))
        return [fd for fd, target in file_descriptors().items() if target.startswith(str(path.parent))]


def test_no_file_of_a_manifest_takes_the_place_of_a_standard_stream(path: Path, start: Start) -> None:
    """A program that was started without them prints into whatever has their number."""
    used = start(_without_standard_input, path).result()
    assert len(used) >= 3
    assert min(used) > 2


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


MAY_OPEN_TO_WRITE = {
    ("cli/ui/output.py", "Path(os.devnull).open"),
    (
        "extract/state_file.py",
        "part_state_path(part).write_text",
    ),  # of the one process that holds the source's claim
}


def test_no_module_opens_a_file_with_truncation() -> None:
    """Neither by a flag nor by a mode; the null device apart, and what one process has for itself."""
    found = set()
    for path, tree in TREES.items():
        for name, call in _calls(tree):
            texts = [a.value for a in ast.walk(call) if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            writes = name.split(".")[-1] == "open" and any(
                re.fullmatch(r"[rwabtx+]*[w][rwabtx+]*", text) for text in texts
            )
            if writes or name.split(".")[-1] in ("write_text", "write_bytes"):
                found.add((path.relative_to(PACKAGE).as_posix(), name))
        assert "O_TRUNC" not in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert found == MAY_OPEN_TO_WRITE


FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv",
    "pickle.loads", "pickle.load", "marshal.loads", "yaml.load", "breakpoint",
}  # fmt: skip
FORBIDDEN_MODULES = {"subprocess", "pickle", "marshal", "shelve", "pty", "commands", "code", "xml"}
MAY_START_A_PROGRAM = {
    (
        "engines/filelog/compaction/child.py",
        "subprocess",
    ),  # this Python, with this package, and nothing of the caller's
    ("extract/validate.py", "subprocess"),  # the command of a configuration's `validate`
    ("cli/verbs/follow.py", "subprocess"),  # the command of `follow --exec`
    ("dev_server/programs.py", "subprocess"),  # the programs of a wheel that the user has installed for it
    ("dev_server/server.py", "subprocess"),  # the type of their process
    ("stages/command.py", "subprocess"),  # the command of a stage
    ("stages/guard.py", "subprocess"),  # a shell with a constant script, which ends the commands of a worker that dies
}


def test_no_module_evaluates_or_runs_code() -> None:
    """What is not called cannot be called with what was read."""
    found = [(path.name, name) for path, tree in TREES.items() for name, _ in _calls(tree) if name in FORBIDDEN_CALLS]
    assert found == []


def _modules(tree: ast.AST) -> set[str]:
    """The first names of all modules that a source imports."""
    found = set()
    for node in ast.walk(tree):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[0] for name in names}
    return found


def test_no_module_imports_what_runs_or_unpickles() -> None:
    """Processes are started by multiprocessing, with a function; two modules start a program, the user's own.

    A compaction starts this package, because `multiprocessing` would run the caller's `__main__` again.
    """
    found = {
        (path.relative_to(PACKAGE).as_posix(), module)
        for path, tree in TREES.items()
        for module in _modules(tree) & FORBIDDEN_MODULES
    }
    assert found == MAY_START_A_PROGRAM


def test_no_program_is_started_through_a_shell() -> None:
    """`subprocess` is called with a list, without `shell` or a preparation."""
    calls = [
        (name, [keyword.arg for keyword in call.keywords])
        for path, tree in TREES.items()
        if (path.relative_to(PACKAGE).as_posix(), "subprocess") in MAY_START_A_PROGRAM
        for name, call in _calls(tree)
        if name.startswith("subprocess.")
    ]
    user = ["user", "group", "extra_groups"]
    assert sorted(calls) == [
        ("subprocess.Popen", ["bufsize", "cwd", "start_new_session", "stdin", "stdout", "stderr"]),
        ("subprocess.Popen", ["bufsize", "start_new_session", "stdin", "stdout", "stderr"]),
        (
            "subprocess.Popen",
            ["executable", "cwd", "env", "bufsize", "pass_fds", "start_new_session", "stdin", "stdout", "stderr"],
        ),
        ("subprocess.Popen", ["start_new_session", "stdin", "stdout", "stderr"]),
        ("subprocess.Popen", ["stdin", "stdout", "stderr", "cwd", "start_new_session", *user]),
        ("subprocess.run", ["capture_output", "text", "check", "cwd", *user]),
        ("subprocess.run", ["input", "check"]),
    ]


def test_strings_from_outside_are_not_used_as_templates() -> None:
    """`.format` is called on literals only, if at all."""
    bad = [
        (path.name, name)
        for path, tree in TREES.items()
        for name, call in _calls(tree)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("format", "format_map", "vformat")
        and not isinstance(call.func.value, ast.Constant)
    ]
    assert bad == []


# -- a manifest made by somebody else ----------------------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e$(touch owned)`touch owned`;touch owned\n{0.__class__}%s"
UP = "../" * 8


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A manifest whose every text is an attack, with a log behind it; gives the canonical's path."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    path = folder / "systems_download.manifest.json"
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious", encoding="ascii")
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        for number, place in enumerate((f"{UP}{victim}/file", str(victim / "file"), f"../victim/{EVIL}", "/dev/null")):
            manifest.add(
                record(f"c{number}", number, EVIL, f"{UP}{EVIL}", file_path=Path(place), etag=EVIL, version=EVIL)
            )
        manifest.compact()
        manifest.add(record("logged", 9, f"{EVIL}2", "../../x", file_path=victim / "file", last_modified=EVIL))
    return path


def _tree(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[path.relative_to(folder).as_posix()] = (stat.st_mode, stat.st_mtime_ns if data is not None else 0, data)
    return found


def _outside(folder: Path) -> dict[str, object]:
    return {name: what for name, what in _tree(folder).items() if name.split("/")[0] != "manifests"}


ARGUMENTS: dict[str, list[list[str]]] = {
    "init": [["{m}"]],
    "add": [["{m}", "data"]],
    "has": [["{m}", sha("c0")]],
    "get": [["{m}", "--checksum", sha("c0")], ["{m}", "--json", "--source", EVIL], ["{m}", "--source", EVIL]],
    "list": [["{m}"], ["{m}", "--json"], ["{m}", "--jsonl"], ["{m}", "--source", EVIL]],
    "status": [[], ["{m}"], ["{m}", "--json"]],
    "compact": [["{m}"], ["{m}", "--json"]],
    "check": [["{m}"], ["{m}", "--json"]],
    "doctor": [["manifests"], ["manifests", "--json"]],
    "forget": [["{m}", sha("c1")]],
    "relocate": [["{m}", "--from", "/raw", "--to", "/moved"]],
    "extract": [["hostile.json"]],
    "follow": [["{m}", "--from", "start", "--exec", "false"]],
    "diff": [["{m}", "{m}"], ["{m}", "{m}", "--json"]],
    "copy": [["{m}", "manifests/copies/"], ["{m}", "manifests/copies/", "--json"]],
    "mirror": [["{m}", "manifests/replicas", "--once"], ["{m}", "manifests/replicas", "--once", "--json"]],
    "run": [["hostile.json"]],
    "pending": [["systems_processing", "--of", "{m}"], ["systems_processing", "--of", "{m}", "--json"]],
    "record": [["systems_processing", "data/made", "--from", sha("c0")]],
    "fail": [["systems_processing", sha("c0"), "--error", EVIL]],
    "unused": [["{m}", "--by", "systems_processing"], ["{m}", "--by", "systems_processing", "--json"]],
    "serve": [["--dev", "manifests"], ["--dev", "manifests", "--json"]],
    "undo": [["{m}", "--to", "1s", "--dry-run"], ["{m}", "--to", "1s", "--dry-run", "--json"]],
}
"""How each verb is called; one that is not named here is called with the manifest, and with `--json`."""


@pytest.mark.parametrize(("verb"), sorted(_VERBS))
def test_no_verb_writes_outside_or_controls_the_terminal(hostile: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / EVIL.replace("/", "_")).write_bytes(b"data")
    (tmp_path / "data" / "made").write_bytes(b"made")
    source = {"source_id": EVIL, "dataset": f"{UP}etc", "url": "http://127.0.0.1:1/x", "file_name": f"{UP}owned"}
    config = {"etl_version": EVIL, "manifests_dir": "manifests", "data_dir": "data", "manifest": f"{UP}a_b"}
    (tmp_path / "hostile.json").write_text(json.dumps(config | {"sources": [source]}), encoding="utf-8")
    before = _outside(tmp_path)
    run = Program(tmp_path)
    # A verb that says no, or finds damage, has done its work; one that was called wrongly would prove nothing.
    ends = {
        "extract": {2},
        "run": {2},
        "follow": {1},
        "pending": {0, 1},
        "serve": {1},
    }  # a directory that has something is no server's, a follower ends when its command fails, and a list of lines at a line break
    good = ends.get(verb, {0} if verb in ARGUMENTS else {0, 1, 12})
    for arguments in ARGUMENTS.get(verb, [["{m}"], ["{m}", "--json"]]):
        result = run.here(verb, *[str(hostile) if a == "{m}" else a for a in arguments])
        assert result.code in good, result.err
        shown = result.out + result.err
        if verb != "cat":  # which gives the bytes of the file, but to a terminal
            assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown) == []
    assert _outside(tmp_path) == before
    assert not (tmp_path.parent / "owned").exists()


def test_cat_cannot_control_a_terminal(hostile: Path) -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    process = subprocess.Popen([sys.executable, "-m", "manifestlog", "cat", hostile], stdout=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # a terminal that nobody has open any more is an error to read from
        while data := os.read(ours, 1 << 16):
            shown += data
    os.close(ours)
    assert process.wait() == 0
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown.decode()) == []
    assert json.loads(shown)["records"][sha("c0")]["source_id"] == EVIL


def test_cat_to_a_file_is_the_file(hostile: Path, tmp_path: Path) -> None:
    run = Program(tmp_path)
    run.here("compact", hostile)
    assert run.here("cat", hostile).out.encode() == hostile.read_bytes()


def test_json_keeps_what_it_escapes(hostile: Path, tmp_path: Path) -> None:
    told = Program(tmp_path).here("get", hostile, "--checksum", sha("c0"), "--json").json
    assert told["source_id"] == EVIL


HOSTILE_OPENINGS: dict[str, dict[str, object]] = {
    "another manifest": {"manifest": f"{UP}victim/file"},
    "a name with escapes": {"manifest": EVIL},
    "another beginning": {"ts_created": f"{UP}{EVIL}"},
    "a number below": {"segment": -1},
    "a number beyond": {"segment": 10**18},
    "a path as a number": {"segment": f"{UP}victim/file"},
    "a list as a name": {"manifest": ["x"]},
}


@pytest.mark.parametrize("what", HOSTILE_OPENINGS)
def test_a_hostile_segment_writes_nothing_outside(hostile: Path, tmp_path: Path, what: str) -> None:
    """Its CRC is right: whoever attacks can compute one."""
    segment = segments_of(hostile.parent)[-1]
    opening = json.loads(segment.read_bytes().split(b"\n")[0])
    del opening["crc"]
    changed = json.dumps(opening | HOSTILE_OPENINGS[what], separators=(",", ":")).encode()[:-1]
    segment.write_bytes(line_at(changed, int(opening["salt"], 16), 0))
    before = _tree(tmp_path)
    for verb in ("add", "compact", "forget", "status", "check"):
        more = {"add": [str(tmp_path / "victim")], "forget": [sha("c0")]}.get(verb, [])
        result = Program(tmp_path).here(verb, hostile, *more)
        assert result.code == 12, (verb, result)
        assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f]", result.out + result.err) == []
    after = {name: what for name, what in _tree(tmp_path).items() if not name.endswith(".lock")}
    assert after == {name: what for name, what in before.items() if not name.endswith(".lock")}


@pytest.mark.parametrize("root_dir", [f"{UP}etc", EVIL, "\x00", "/dev/null"])
def test_a_hostile_root_dir_is_only_a_string(path: Path, opener: Opener, root_dir: str) -> None:
    opener().close()
    document = json.loads(path.read_bytes())
    document["metadata"]["root_dir"] = root_dir
    path.write_text(json.dumps(document), encoding="utf-8")
    before = sorted(p.name for p in path.parent.parent.iterdir())
    manifest = opener(None)
    manifest.add(record("a"))
    manifest.compact()
    assert str(manifest.metadata.root_dir) == str(Path(root_dir))
    assert sorted(p.name for p in path.parent.parent.iterdir()) == before


@pytest.mark.usefixtures("umask")
def test_a_repair_makes_locks_for_the_same_users(path: Path) -> None:
    """A backup may have come back without its lock files, which are empty."""
    _live(path)
    for file in path.parent.iterdir():
        file.chmod(0o664)
        if file.suffix == ".lock":
            file.unlink()
    path.write_bytes(b"{")
    repair(resolve(path))
    assert {kind: mode for kind, mode in _modes(path.parent).items() if "lock" in kind} == dict.fromkeys(
        (kind for kind in KINDS if "lock" in kind), 0o664
    )
