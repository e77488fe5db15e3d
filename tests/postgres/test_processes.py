"""Forks, pickles, threads and poolers: what happens to connections when they are not one process's own."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING

from contract.builders import META, answers, record, sha
from manifestlog import DownloadManifestManager, ManifestOptions, RecordRejectedError, Verdict
from manifestlog.engines.postgres.presence import are_real
from support.pgbouncer import pooling

from .places import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Link, Start

    from .places import Place


def add_in_child(link: Link, manifest: DownloadManifestManager) -> int:
    """Child process: use the manager that was inherited."""
    link.send(str(manifest.add(record("child", source="child")).verdict))
    return len(manifest)


def test_a_forked_child_has_connections_of_its_own(manifest: DownloadManifestManager, start: Start) -> None:
    manifest.add(record("a"))
    child = start(add_in_child, manifest)
    assert (child.receive(), child.result()) == ("new", 2)
    assert manifest.add(record("b", 1)).verdict is Verdict.CHANGED


def test_a_child_that_ends_ends_no_session_of_its_parent(
    place: Place, manifest: DownloadManifestManager, start: Start
) -> None:
    manifest.add(record("a"))
    with place.connect() as connection:
        ask = "SELECT pid FROM pg_stat_activity WHERE application_name = 'manifestlog' ORDER BY pid"
        before = connection.execute(ask).fetchall()
        start(add_in_child, manifest).join()
        assert set(before) <= set(connection.execute(ask).fetchall())


def test_a_snapshot_stays_when_a_child_ends(manifest: DownloadManifestManager, start: Start) -> None:
    manifest.add(record("a"))
    snapshot = manifest.snapshot()
    start(add_in_child, manifest).join()
    assert list(snapshot.checksums()) == [sha("a")]


def test_a_manager_can_be_sent_to_another_process(place: Place, manifest: DownloadManifestManager) -> None:
    data = pickle.dumps(manifest)
    assert place.database.encode() in data
    with pickle.loads(data) as again:
        assert again is manifest


def test_threads_that_add_at_once_get_their_own_answers(manifest: DownloadManifestManager) -> None:
    """One of them is refused: the others do not hear of it."""
    engine = engine_of(manifest)
    engine.additions._writer.options = ManifestOptions(record_bytes_max=400)
    gate, found = threading.Barrier(9), {}

    def add(number: int) -> None:
        seen = record("common", number, source=f"s{number}")
        gate.wait()
        try:
            found[number] = str(manifest.add(seen).verdict)
        except RecordRejectedError:
            found[number] = "rejected"

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    gate.wait()
    for thread in threads:
        thread.join()
    heard = sorted(found.values())
    assert heard.count("new") == 1
    assert heard.count("rejected") >= 5  # a record of several sources is longer than 400 bytes
    assert len(manifest) == 1


CALLS: list[Callable[[DownloadManifestManager], object]] = [
    lambda m: m.add(record("a")),
    lambda m: m.add(record("a")),
    lambda m: m.add(record("a", 5, source="other")),
    lambda m: m.add_many([record("b", 1), record("c", 2, source="third"), record("b", 3, source="third")]),
    lambda m: m.add(record("b", -5), live=True),
    lambda m: m.update(sha("b"), {"checksum": sha("b"), "etag": '"u"', "file_path": "/u", "file_size": 9}),
    lambda m: m.forget(sha("c")),
    lambda m: m.relocate("/raw", "/moved"),
    lambda m: [(event.kind, event.checksum, event.verdict) for event in m.history()],
    lambda m: m.get_record_by_source("src"),
    lambda m: list(m.rows()),
]


def test_behind_a_pooler_in_transaction_mode_everything_is_the_same(
    place: Place, opener: Callable[..., DownloadManifestManager]
) -> None:
    direct = opener()
    expected = [call(direct) for call in CALLS]
    with pooling(place.server) as port:
        url = place.tcp_url("others_download", port=port)
        with DownloadManifestManager(url, META, options=ManifestOptions(lock_timeout_s=60.0)) as pooled:
            assert not engine_of(pooled).pool.has_sessions
            assert not are_real(engine_of(pooled).pool)
            assert [call(pooled) for call in CALLS] == expected
            assert answers(pooled)
            with pooled.claims("/data") as claims, claims.claim("part", "a") as ours, claims.fence():
                assert (ours, pooled.add(record("z", 9, source="z")).verdict) == (True, Verdict.NEW)


def test_a_pooler_is_noticed(place: Place, manifest: DownloadManifestManager) -> None:
    assert engine_of(manifest).pool.has_sessions
    with pooling(place.server) as port, DownloadManifestManager(place.tcp_url(port=port)) as pooled:
        assert len(pooled) == 0
