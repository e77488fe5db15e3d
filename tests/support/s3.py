"""A real S3 server on loopback: SeaweedFS, which keeps what it accepted, and refuses on condition.

Invariants:

- Its files and ports are its own; it ends with its context, and at the latest after an hour.
- There is one bucket: a new one takes SeaweedFS a second.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from support.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIFE_S = 3600
BUCKET = "galaxy"
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
READER, READER_SECRET = "AKIDREADER", "reader-K7MDENG-bPxRfiCYEXAMPLEKEY"
"""May read and list, but not write."""
LISTER, LISTER_SECRET = "AKIDLISTER", "lister-K7MDENG-bPxRfiCYEXAMPLEKEY"
"""May list only."""
_IDENTITIES = {
    "identities": [
        {"name": "writer", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]},
        {
            "name": "reader",
            "credentials": [{"accessKey": READER, "secretKey": READER_SECRET}],
            "actions": ["Read", "List"],
        },
        {"name": "lister", "credentials": [{"accessKey": LISTER, "secretKey": LISTER_SECRET}], "actions": ["List"]},
    ]
}


@dataclass(frozen=True)
class S3:
    """A running server."""

    url: str

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which every program finds it, and may do everything."""
        return environ(self.url, KEY, SECRET)

    def client(self) -> Any:
        return client(self.url)

    def folder(self, prefix: str) -> Folder:
        """Return a directory of its only bucket, which each test has for itself."""
        return Folder(self, prefix)


@dataclass(frozen=True)
class Folder:
    """A directory in the bucket, and what is in it. Keys are relative to it."""

    server: S3
    prefix: str

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}"

    @property
    def keys(self) -> list[str]:
        """The objects but the probe of a run, sorted."""
        found = self.server.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/").get("Contents", [])
        return self._relative(one["Key"] for one in found if not one["Key"].endswith(".manifestlog.probe"))

    @property
    def uploads(self) -> list[str]:
        """The keys of unfinished uploads."""
        found = self.server.client().list_multipart_uploads(Bucket=BUCKET, Prefix=f"{self.prefix}/").get("Uploads", [])
        return self._relative(one["Key"] for one in found)

    def _relative(self, keys: Iterable[str]) -> list[str]:
        return sorted(key.removeprefix(f"{self.prefix}/") for key in keys)

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": BUCKET, "Key": f"{self.prefix}/{key}"}

    def get(self, key: str) -> bytes:
        body: bytes = self.server.client().get_object(**self._address(key))["Body"].read()
        return body

    def put(self, key: str, body: bytes) -> None:
        self.server.client().put_object(**self._address(key), Body=body)

    def delete(self, key: str) -> None:
        self.server.client().delete_object(**self._address(key))

    def abort(self, key: str) -> None:
        """Abort the uploads of a key."""
        client = self.server.client()
        for one in client.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{self.prefix}/{key}").get("Uploads", []):
            client.abort_multipart_upload(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"])

    def begin(self, key: str) -> str:
        """Begin an upload, and leave it; return its id."""
        upload: str = self.server.client().create_multipart_upload(**self._address(key))["UploadId"]
        return upload


def environ(url: str, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@cache
def client(url: str) -> Any:
    """Return a client; to make one takes longer than most requests."""
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def _program() -> str:
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        if os.environ.get("CI"):
            raise RuntimeError("SeaweedFS is missing: install the extra [dev]")
        pytest.skip("SeaweedFS is missing: it has no wheel for this platform")
    return found


def _ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _arguments(folder: Path, ports: list[int]) -> list[str]:
    names = [f"{server}.port{kind}" for server in ("master", "volume", "filer", "s3") for kind in (".grpc", "")]
    (folder / "identities.json").write_text(json.dumps(_IDENTITIES), encoding="utf-8")
    settings = {
        "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": folder / "identities.json",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0, "master.volumeSizeLimitMB": 64, "volume.max": 100,
        **dict(zip(names, ports, strict=True)),
    }  # fmt: skip
    return ["server", "-filer", "-s3", *(f"-{name}={value}" for name, value in settings.items())]


class Program:
    """The server's program, which a test may kill and start again: its files and ports stay."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ports = folder, _ports(8)
        self._process: subprocess.Popen[bytes] | None = None
        self.server = S3(f"http://127.0.0.1:{self._ports[-1]}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        path = self._folder / "server.log"
        with path.open("ab") as log:
            self._process = subprocess.Popen(
                ["timeout", str(LIFE_S), _program(), *_arguments(self._folder, self._ports)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait_until_ready(self.server, self._process, path)

    def kill(self) -> None:
        """`kill -9`; asked politely, it takes half a minute to end."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)


@contextmanager
def programs() -> Iterator[Program]:
    """Run a server that the test may kill."""
    _program()
    with tempfile.TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True) as name:
        found = Program(Path(name))
        try:
            found.start()
            yield found
        finally:
            found.kill()


@contextmanager
def serving() -> Iterator[S3]:
    """Run a server."""
    with programs() as found:
        yield found.server


def _wait_until_ready(server: S3, process: subprocess.Popen[bytes], log: Path) -> None:
    """The first object shows that all its parts have found each other."""
    one, deadline = server.client(), time.monotonic() + PATIENCE_S
    while True:
        try:
            with suppress(one.exceptions.BucketAlreadyExists, one.exceptions.BucketAlreadyOwnedByYou):
                one.create_bucket(Bucket=BUCKET)
            one.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"SeaweedFS did not start: {said}") from error
            time.sleep(0.05)
