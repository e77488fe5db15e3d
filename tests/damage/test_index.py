"""The index is a help and no truth: without it, with an old one, with a damaged one the answers are the same.

And nobody writes into it: a mapped file that shrinks kills its reader, so it is only ever replaced.
"""

from __future__ import annotations

import ast
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import manifestlog
from contract.builders import META, QUIET, record, sha
from manifestlog import DownloadManifestManager
from manifestlog.names import resolve

from .corpus import ACTIVE, INDEX, NAME, TORN
from .ground import MTIME_NS, NEW, Case
from .model import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Link, Start

    from .conftest import Run
    from .ground import Ground
    from .model import Answers, Oracle

SEED = 20_260_103


def _indexes(ground: Ground) -> Iterator[tuple[str, bytes | None, bool]]:
    """(what became of the index, its bytes, whether the canonical got another time)."""
    chance = random.Random(SEED)
    sound = ground.index
    yield "fits", sound, False
    yield "missing", None, False
    yield "stale", sound, True
    yield "from before", ground.corpus.files[ground.corpus.named[INDEX]], False
    yield "empty", b"", False
    yield "junk", chance.randbytes(len(sound)), False
    for number in range(12):
        start = chance.randrange(len(sound))
        yield f"damaged {number}", sound[:start] + chance.randbytes(9) + sound[start + 9 :], False


def _conditions(ground: Ground, oracle: Oracle) -> Iterator[tuple[str, dict[str, bytes], Answers]]:
    """The corpus as a crash may have left it, and what it says then."""
    active = ground.corpus.named[ACTIVE]
    whole = ground.files[active]
    yield "sound", {}, oracle.sound
    yield "torn", {active: whole + TORN}, oracle.sound
    yield "covered segments", dict(ground.corpus.covered), oracle.sound
    for number, (offset, _) in list(enumerate(oracle.active))[1:]:
        yield f"cut before line {number}", {active: whole[:offset]}, oracle.of_lines(range(number))


def test_with_any_index_the_answers_are_the_same(ground: Ground, oracle: Oracle, run: Run) -> None:
    def cases() -> Iterator[Case]:
        name = ground.corpus.named[INDEX]
        for condition, changed, answers in _conditions(ground, oracle):
            for what, data, touched in _indexes(ground):
                files = ground.files | changed | ({name: data} if data is not None else {})
                if data is None:
                    del files[name]
                yield Case(f"{condition}, index {what}", files, (answers,), touched=touched)

    outcomes = run(cases(), counted="index cases", write_every=3)
    assert set(outcomes) == {"answered"}


# -- while it is mapped ------------------------------------------------------------------------------------------------


def _compact(link: Link, path: Path) -> int:
    link.recv()
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.add(NEW)
        return manager.save().records_total


def damaged_beside_a_merge(path: Path) -> None:
    """One digest is damaged, far from where the next compaction merges something; then that is asked for."""
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        manifest.add_many(record(f"{number}", source=f"{number}") for number in range(500))
        manifest.save()
        *_, last = manifest
        first = min((f"new {number}" for number in range(500)), key=sha)
    index = Path(resolve(path).index)
    digest = bytes.fromhex(last)
    assert index.read_bytes().count(digest) == 1
    index.write_bytes(index.read_bytes().replace(digest, digest[:-1] + bytes([digest[-1] ^ 1])))
    with DownloadManifestManager(path, options=QUIET) as manifest:
        manifest.add(record(first, source=first))
        manifest.compact()
    with DownloadManifestManager(path, options=QUIET) as manifest:
        assert manifest.has_checksum(last)


def test_damage_that_a_merge_does_not_touch_is_not_merged(tmp_path: Path) -> None:
    """It would get a fresh checksum, and a record would be lost that is there."""
    damaged_beside_a_merge(tmp_path / NAME)


def test_a_reader_continues_while_a_compaction_replaces_the_index(ground: Ground, oracle: Oracle, start: Start) -> None:
    """A rename gives the name to another file; the mapped one stays whole until nobody uses it."""
    ground.place(Case("sound", ground.files, (oracle.sound,)))
    compactor = start(_compact, ground.path)  # before the reader is open: what is open here is open in a child
    with DownloadManifestManager(ground.path, read_only=True, options=QUIET) as manager:
        iteration = iter(manager.records.items())
        next(iteration)
        compactor.send("go")
        assert compactor.result() == oracle.sound.total + 1
        assert len(list(iteration)) == oracle.sound.total - 1
        assert ask(manager).records == oracle.sound.records | {NEW.checksum: NEW}


def test_a_reader_keeps_its_answers_while_the_index_is_deleted(ground: Ground, oracle: Oracle) -> None:
    ground.place(Case("sound", ground.files, (oracle.sound,)))
    with DownloadManifestManager(ground.path, read_only=True, options=QUIET) as manager:
        (ground.directory / ground.corpus.named[INDEX]).unlink()
        assert ask(manager) == oracle.sound


def _watch(folder: Path) -> list[str]:
    """From now on, who writes into an index file under its name, or makes one shorter: never undone, so for children only."""
    seen: list[str] = []

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event not in ("open", "os.truncate"):
            return
        name = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else os.fspath(args[0])
        if not (name.startswith(str(folder)) and name.endswith(".idx")):
            return
        flags = args[2] if event == "open" else os.O_TRUNC
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            seen.append(f"{event} {name}")

    sys.addaudithook(look)
    return seen


def _live(_link: Link, directory: Path) -> list[str]:
    """A whole life: created, compacted, grown stale, made anew."""
    seen = _watch(directory)
    path = directory / NAME
    for turn in range(3):
        with DownloadManifestManager(path, META, options=QUIET) as manager:
            manager.add(record(f"turn {turn}", turn))
            manager.save()
            list(manager.records.items())
        os.utime(path, ns=(MTIME_NS, MTIME_NS + turn))
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.save()
    return seen


def test_no_index_is_opened_for_writing_or_shortened_under_its_name(tmp_path: Path, start: Start) -> None:
    assert start(_live, tmp_path).result() == []


def _break_the_rule(_link: Link, directory: Path) -> list[str]:
    seen = _watch(directory)
    (directory / "x.idx").write_bytes(b"index")
    os.truncate(directory / "x.idx", 1)
    return seen


def test_the_watch_sees_what_it_looks_for(tmp_path: Path, start: Start) -> None:
    assert [line.split()[0] for line in start(_break_the_rule, tmp_path).result()] == ["open", "os.truncate"]


ENGINE = [
    path
    for path in Path(manifestlog.__file__).parent.rglob("*.py")
    if not {"cli", "extract"} & set(path.relative_to(Path(manifestlog.__file__).parent).parts)
]


def test_one_function_truncates_and_one_caller_takes_back_an_unfinished_line() -> None:
    """Of what only grows or is replaced, nothing shrinks: the sole exception is a segment's own unfinished end."""
    found = set()
    for path in ENGINE:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("O_TRUNC", "truncate", "ftruncate"):
                found.add(f"{path.stem}: {ast.unparse(node)}")
    assert found == {"disk: os.ftruncate", "segment: disk.truncate"}


def test_only_the_index_is_mapped() -> None:
    """And packs, which are as little shortened: each is published whole, and replaced by a rename."""
    found = set()
    for path in ENGINE:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("map_read", "mmap") and path.stem != "disk":
                found.add(f"{path.stem}: {ast.unparse(node)}")
    assert found == {"index: disk.map_read", "index: mmap.mmap", "pack: disk.map_read"}
