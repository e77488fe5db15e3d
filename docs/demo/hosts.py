"""Three hosts of the demo: processes with a directory each, one of which is killed and one stopped; and the proof at the end.

    hosts.py config SITE --url URL --database URL --data URL --file FILE
    hosts.py share CONFIG
    hosts.py prove CONFIG

Invariants:

- A host is one process group. What this program starts ends with it.
- `prove` reads the database and the store, not what the hosts have printed. It exits with 1 if a claim does not hold.
- No printed line is longer than 80 characters.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from store import BUCKET, client

from manifestlog import DownloadManifestManager, ManifestNotFoundError, maintenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

MANIFEST = "galaxy_download"
RECORDS_BEFORE_THE_KILL = 60
PATIENCE_S = 300
"""For a run of a host."""
CONNECTIONS = 4
"""Of a host: so many objects it may store before it notices that others have taken over its sources."""
PAUSE_S = 10
"""Between two runs of a host that waits for another one."""
WIDTH = 80
WORDS = ("new", "alias", "unchanged", "claimed", "failed")
COUNT = re.compile(r"^([a-z]+) +(\d+)$", re.MULTILINE)


# -- the configuration -------------------------------------------------------------------------------------------------


def config(folder: Path, url: str, database: str, data: str, file: Path) -> None:
    """Write the configuration that all hosts share."""
    sources = [
        {
            "source_id": path.name.removesuffix(".json.gz"),
            "dataset": path.parent.name,
            "url": f"{url}/{path.relative_to(folder).as_posix()}",
        }
        for path in sorted(folder.glob("*/*.json.gz"))
    ]
    document = {
        "etl_version": "1.0.0",
        "manifests_dir": database,
        "data_dir": data,
        "manifest": MANIFEST,
        "defaults": {"jobs": 2, "connections": CONNECTIONS},
        "sources": sources,
    }
    file.write_text(f"{json.dumps(document, indent=2)}\n", "utf-8")


@dataclass(frozen=True)
class Pipeline:
    """What a configuration names."""

    file: Path
    sources: set[tuple[str, str]]
    manifest: str

    @contextmanager
    def opened(self) -> Iterator[DownloadManifestManager]:
        with DownloadManifestManager(self.manifest, read_only=True) as manifest:
            yield manifest

    def total(self) -> int:
        """Return how many contents are registered; 0 before the manifest is there."""
        with suppress(ManifestNotFoundError), self.opened() as manifest:
            return len(manifest)
        return 0


def read(file: Path) -> Pipeline:
    found = json.loads(file.read_text("utf-8"))
    database, mark, parameters = found["manifests_dir"].partition("?")
    sources = {(one["source_id"], one["dataset"]) for one in found["sources"]}
    return Pipeline(file, sources, f"{database}/{found['manifest']}{mark}{parameters}")


# -- the hosts ---------------------------------------------------------------------------------------------------------


class Host:
    """A host that runs `manifestlog extract`."""

    def __init__(self, name: str, pipeline: Pipeline) -> None:
        self.name = name
        self.folder = Path(name)
        self.folder.mkdir(exist_ok=True)
        command = [str(Path(sys.executable).parent / "manifestlog"), "extract", str(pipeline.file.resolve())]
        with (self.folder / "summary").open("wb") as out, (self.folder / "lines").open("wb") as err:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=err, start_new_session=True)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the host."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for the end of the run, and say how it ended; return how many sources others had claimed."""
        code = self._process.wait(PATIENCE_S)
        counts = dict(COUNT.findall((self.folder / "summary").read_text("utf-8")))
        lines = (self.folder / "lines").read_text("utf-8").splitlines()
        if not counts:
            raise SystemExit("\n".join(lines[-5:]))
        said = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word] != "0")
        say(f"{self.name}: {said}; exit code {code}")
        if lost := sum("the claim was lost" in line for line in lines):
            say(f"{self.name}: the claims of {lost} sources were lost, so it has registered nothing of them")
        return int(counts["claimed"])

    def close(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()


def share(pipeline: Pipeline) -> None:
    """Run the hosts: together, one killed and one stopped, then again until nothing is left."""
    with ExitStack() as hosts:

        def start(name: str) -> Host:
            host = Host(name, pipeline)
            hosts.callback(host.close)
            return host

        step("Three hosts run `manifestlog extract etl.config.json` at the same time.")
        one, killed, stopped = start("host-a"), start("host-b"), start("host-c")
        wait_until(lambda: pipeline.total() >= RECORDS_BEFORE_THE_KILL or one.has_ended())
        killed.signal(signal.SIGKILL)
        stopped.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        say(f"{pipeline.total()} contents are registered: host-b is killed (kill -9), host-c is stopped (SIGSTOP)")
        one.wait()

        step("host-a runs again, as from cron. What host-b had in work is free at once.")
        left = start("host-a").wait()

        step("What host-c has in work is free when host-c has been silent for a minute.")
        while left:
            time.sleep(PAUSE_S)
            left = start("host-a").wait()
        say(f"nothing is claimed any more, {time.monotonic() - stopped_at:.0f} s after host-c was stopped")

        step("host-c goes on (SIGCONT). What others have taken over, it cannot register.")
        stopped.signal(signal.SIGCONT)
        stopped.wait()

        step("host-b is started again, and host-c runs once more. Nothing is left to do.")
        for host in (start("host-b"), start("host-c")):
            host.wait()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.1)


# -- the proof ---------------------------------------------------------------------------------------------------------


def prove(pipeline: Pipeline) -> bool:
    """Print what must hold and whether it does; return whether everything does."""
    with pipeline.opened() as manifest:
        records = list(manifest.records.values())
        registered = Counter((event.source_id, event.dataset) for event in manifest.history() if event.verdict)
    seen = [(one.source_id, one.dataset) for one in records]
    seen += [(one.source_id, one.dataset) for record in records for one in record.also_seen]
    contents = {record.checksum for record in records}
    paths = {str(record.file_path): record.checksum for record in records}
    paths |= {str(one.file_path): record.checksum for record in records for one in record.also_seen}
    store = client(os.environ["AWS_ENDPOINT_URL_S3"])
    objects = {f"s3://{BUCKET}/{key}": _sha256(store, key) for key in _keys(store)}
    uploads = store.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    report = maintenance.check(pipeline.manifest)
    copies = [path for path, checksum in objects.items() if path not in paths and checksum in contents]
    claims = {
        f"{len(pipeline.sources)} sources, each with one record": sorted(seen) == sorted(pipeline.sources),
        "each source was registered by one event": registered == Counter(pipeline.sources),
        f"{len(records)} contents in {len(objects)} objects: none is missing, none is another": contents
        == set(objects.values()),
        "every record has an object with its name and its SHA-256": paths.items() <= objects.items(),
        f"{len(copies)} copies have no record; host-c can have stored {CONNECTIONS} before it noticed": len(copies)
        <= CONNECTIONS,
        "no unfinished upload is left": not uploads,
        "the tables of the manifest fit together (`manifestlog check`)": not report.findings,
    }
    for claim, holds in claims.items():
        say(f"{'ok' if holds else 'FAILED'}: {claim}")
    return all(claims.values())


def _keys(store: Any) -> list[str]:
    """Return the objects of the bucket, without what `extract` keeps there for itself."""
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [one["Key"] for page in pages for one in page.get("Contents", []) if "/.parts/" not in one["Key"]]


def _sha256(store: Any, key: str) -> str:
    return hashlib.sha256(store.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()


# -- output ------------------------------------------------------------------------------------------------------------


def step(text: str) -> None:
    print(f"\n{textwrap.fill(text, WIDTH, initial_indent='# ', subsequent_indent='# ')}", flush=True)


def say(text: str) -> None:
    print(textwrap.fill(text, WIDTH, subsequent_indent="  "), flush=True)


def end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)  # an exception, so that the hosts are ended
    parser = argparse.ArgumentParser(description="Three hosts that share the work of one configuration.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    configuring, sharing, proving = (verbs.add_parser(verb) for verb in ("config", "share", "prove"))
    configuring.add_argument("folder", type=Path)
    for name in ("--url", "--database", "--data"):
        configuring.add_argument(name, required=True)
    configuring.add_argument("--file", type=Path, required=True)
    for one in (sharing, proving):
        one.add_argument("file", type=Path)
    given = vars(parser.parse_args())
    verb = given.pop("verb")
    if verb == "config":
        config(**given)
    elif verb == "share":
        share(read(given["file"]))
    elif not prove(read(given["file"])):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
