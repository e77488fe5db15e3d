"""What reads a whole manifest in order, against look-ups one by one."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from manifestlog import DamagedManifestError
from manifestlog.model import codec
from manifestlog.model.models import record_from_row, record_from_stored

from .builders import record, sha

if TYPE_CHECKING:
    from manifestlog import DownloadManifestManager, ManifestRecord

    from .conftest import Opener


@pytest.fixture(params=[1, 3_000, 1 << 18], ids=["one record", "a few", "all"])
def _block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "PARSED_BYTES", request.param)


def _fill(manifest: DownloadManifestManager) -> None:
    manifest.add_many(record(str(number), number) for number in range(60))
    manifest.save()


@pytest.mark.usefixtures("_block_bytes")
@pytest.mark.parametrize("changes", [0, 1, 30], ids=str)
def test_the_records_of_log_and_canonical_come_merged(manifest: DownloadManifestManager, changes: int) -> None:
    _fill(manifest)
    for number in range(changes):
        manifest.add(record(f"new {number}", 100))
        manifest.add(record(str(number), 100, source="other"))
        manifest.forget(sha(str(30 + number)))
    found = manifest.snapshot()
    assert list(found.records()) == [(checksum, found.encoded(checksum)) for checksum in found.checksums()]


@pytest.mark.usefixtures("_block_bytes")
def test_records_in_the_log_only_come_sorted(manifest: DownloadManifestManager) -> None:
    manifest.add_many(record(str(number), number) for number in range(20))
    assert [checksum for checksum, _ in manifest.snapshot().records()] == sorted(sha(str(n)) for n in range(20))


def test_a_forgotten_manifest_yields_nothing(manifest: DownloadManifestManager) -> None:
    _fill(manifest)
    for number in range(60):
        manifest.forget(sha(str(number)))
    assert list(manifest.snapshot().records()) == []


def test_records_before_a_damaged_one_are_yielded(opener: Opener) -> None:
    with opener() as manifest:
        _fill(manifest)
        expected = sorted(sha(str(number)) for number in range(60))
        intact = manifest.path.read_bytes()
        at = intact.index(f'"{expected[40]}": '.encode())
        manifest.path.write_bytes(intact[:at] + intact[at:].replace(b'"version":"1', b'"version":"3', 1))
        found = manifest.snapshot().records()
        assert [checksum for checksum, _ in islice(found, 40)] == expected[:40]
        with pytest.raises(DamagedManifestError, match="differs from what was written"):
            next(found)
        manifest.path.write_bytes(intact)


@pytest.mark.parametrize(
    "made",
    [record(), record(etag="e"), record(last_modified="Mon"), record(derived_from=(sha("b"),)), record(minute=0.001)],
    ids=["usual", "etag", "last_modified", "derived_from", "fraction"],
)
def test_a_stored_record_equals_a_validated_one(manifest: DownloadManifestManager, made: ManifestRecord) -> None:
    manifest.add(made)
    (row,) = manifest.rows()
    stored, validated = record_from_stored(row), record_from_row(row)
    assert (stored, stored.model_dump_json(), stored.model_fields_set) == (
        validated,
        validated.model_dump_json(),
        validated.model_fields_set,
    )


def test_a_stored_record_is_frozen(manifest: DownloadManifestManager) -> None:
    manifest.add(record())
    (found,) = manifest.records.values()
    with pytest.raises(ValueError, match="frozen"):
        found.version = "2"
