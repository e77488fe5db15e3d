"""The real program in a process of its own, and what tests ask about it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata, ManifestOptions, ManifestRecord
from manifestlog.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The one JSON object on stderr."""
        return json.loads(self.err)


@dataclass
class Program:
    """Runs `manifestlog` with `home` as its working directory."""

    home: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MANIFESTLOG", "COLUMNS"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "manifestlog", *map(str, arguments)],
            cwd=self.home,
            env=clean | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def kill_rest(self) -> None:
        """End what a failed test has left: its workers end with it."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def here(self, *arguments: object) -> Result:
        """The same in this process: 20 times as fast, for what needs no process of its own."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with contextlib.chdir(self.home), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(map(str, arguments)))
        for stream in (out, err):
            stream.seek(0)
        return Result(code, out.read(), err.read())

    def __call__(self, *arguments: object, **environment: str) -> Result:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err
        return Result(process.returncode, out, err)


def unread(run: Program, *arguments: object, **environment: str) -> tuple[int, str]:
    """Exit code and stderr of the program when nobody reads its stdout."""
    reading, writing = os.pipe()
    os.close(reading)
    command, env = [sys.executable, "-m", "manifestlog", *map(str, arguments)], dict(os.environ) | environment
    done = subprocess.run(command, cwd=run.home, env=env, stdout=writing, stderr=-1, text=True, timeout=60, check=False)
    os.close(writing)
    return done.returncode, done.stderr


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.endswith("\n")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def wait_until(true: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def finish(process: subprocess.Popen[str], number: signal.Signals | None = None) -> Result:
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return Result(process.returncode, out, err)


def open_manifest(path: Path, **options: Any) -> DownloadManifestManager:
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=path.parent)
    return DownloadManifestManager(path, metadata, options=ManifestOptions(**options))


def records_of(tree: Path, **fields: Any) -> list[ManifestRecord]:
    when = datetime(2024, 5, 1, 12, tzinfo=UTC)
    return [
        ManifestRecord(
            source_id=fields.get("source_id", path.relative_to(tree).as_posix()),
            dataset=fields.get("dataset", tree.name),
            checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
            file_path=path,
            file_size=path.stat().st_size,
            ts_downloaded=fields.get("ts_downloaded", when),
            version="1.0.0",
        )
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    ]
