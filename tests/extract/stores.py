"""Runs whose data files go to a bucket, in this process and as programs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extract.builders import raw_config
from extract.running import Here, sha256
from extract.runs import Home
from manifestlog import DownloadManifestManager
from support.integrity import checked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from manifestlog import ManifestRecord
    from support.s3 import Folder


PART = 5 << 20
"""The size of a part in `There`: the smallest that S3 allows."""


class There(Here):
    """A manifest whose data files are in a directory of a bucket, below `raw`."""

    bucket: Folder

    @property
    def files(self) -> list[str]:
        """The data files and what else lies below `raw`, sorted."""
        return [key.removeprefix("raw/") for key in self.bucket.keys]

    def body(self, source_id: str = "a", dataset: str = "systems") -> bytes:
        return self.content(self.record(source_id, dataset))

    def forget_all(self) -> None:
        """Forget what a test has made wrong on purpose."""
        for checksum in list(self.manifest):
            self.manifest.forget(checksum)
        for upload in self.bucket.uploads:
            self.bucket.abort(upload)

    def content(self, record: ManifestRecord) -> bytes:
        return self.bucket.get(str(record.file_path).removeprefix(f"{self.bucket.url}/"))

    def check(self) -> None:
        for checksum, record in self.manifest.records.items():
            for path in (record.file_path, *(seen.file_path for seen in record.also_seen)):
                assert str(path).startswith(f"{self.bucket.url}/raw/")
            assert sha256(self.content(record)) == checksum


@dataclass(frozen=True)
class FarHome(Home):
    """A directory with a configuration, whose data files go to a bucket."""

    bucket: Folder

    def configure(self, *sources: dict[str, Any], data_dir: str | None = None, **defaults: Any) -> Path:
        path = self.folder / "etl.config.json"
        where = data_dir or f"{self.bucket.url}/raw"
        path.write_text(json.dumps(raw_config(*sources, data_dir=where, defaults=defaults)), encoding="utf-8")
        return path

    def check(self, expected: Mapping[str, bytes]) -> None:
        """Check that every source is registered with its content, and that nothing else is in the bucket."""
        with checked(self.manifest.parent), DownloadManifestManager(self.manifest, read_only=True) as manifest:
            found = list(manifest.records.values())
        records = {str(record.file_path): record.checksum for record in found}
        urls = {record.source_id: str(record.file_path) for record in found}
        urls |= {seen.source_id: str(seen.file_path) for record in found for seen in record.also_seen}
        assert urls.keys() == expected.keys()
        keys = {url: url.removeprefix(f"{self.bucket.url}/") for url in records}
        assert {url: hashlib.sha256(self.bucket.get(key)).hexdigest() for url, key in keys.items()} == records
        assert {source_id: records[url] for source_id, url in urls.items()} == {
            name: hashlib.sha256(body).hexdigest() for name, body in expected.items()
        }
        assert (self.bucket.keys, self.bucket.uploads) == (sorted(keys.values()), [])
