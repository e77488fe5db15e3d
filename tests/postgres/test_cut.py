"""A connection that is cut at any message: every call answers what it would have answered, and has written once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import META, record, sha
from manifestlog import DownloadManifestManager, EventKind, ManifestOptions, ServerError

from .cutting import Cut, cutting
from .places import engine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .cutting import Proxy
    from .places import Place

UPDATED = {"checksum": sha("known"), "etag": '"u"', "file_path": "/u", "file_size": 9}
CALLS: dict[str, Callable[[DownloadManifestManager], Any]] = {
    "a new content": lambda m: m.add(record("x", 5, source="new")),
    "a changed source": lambda m: m.add(record("x", 5)),
    "a duplicate": lambda m: m.add(record("known")),
    "an alias": lambda m: m.add(record("known", 5, source="other")),
    "a live download": lambda m: m.add(record("x", -5), live=True),
    "a batch": lambda m: m.add_many([record("x", 5), record("known", 6, source="other"), record("known", 7)]),
    "a batch of new contents": lambda m: m.add_many([record("x", 5), record("y", 6, source="other"), record("z", 7)]),
    "an update": lambda m: m.update(sha("known"), UPDATED),
    "a forget": lambda m: m.forget(sha("known")),
    "a forget of nothing": lambda m: m.forget(sha("unknown")),
    "metadata": lambda m: engine_of(m).set_metadata({"etl_version": "9"}),
    "an event": lambda m: engine_of(m).record_event(EventKind.FAILED, {"source_id": "src", "error": "no"}),
    "a look": lambda m: (m.has_checksum(sha("known")), m.get(sha("known")), len(m)),
    "a look by source": lambda m: (m.get_record_by_source("src"), m.get_record_by_source("src", "set")),
    "the history": lambda m: [(event.kind, event.checksum) for event in m.history()],
}


@contextmanager
def begun(place: Place, proxy: Proxy, *, alone: bool = True) -> Iterator[DownloadManifestManager]:
    """A manifest with one content, whose connections are made through the proxy; another one may have written meanwhile."""
    place.execute("DROP SCHEMA IF EXISTS manifestlog CASCADE")
    options = ManifestOptions(lock_timeout_s=20.0)
    url = place.tcp_url(port=proxy.port)
    with DownloadManifestManager(url, META, options=options) as manifest:
        manifest.add(record("known"))
        manifest.add(record("known", 1, source="third"))
        manifest.add(record("known", 1, source="third"))
        writer = engine_of(manifest).writer
        assert writer.limits.at_once
        if not alone:
            writer.note(99, 1)
        yield manifest


def told(manifest: DownloadManifestManager) -> object:
    """What is there: rows, and events without their times."""
    events = [(e.kind, e.checksum, e.row, e.was, e.details) for e in manifest.history()]
    return list(manifest.snapshot().records()), events, len(manifest)


def expected(place: Place, proxy: Proxy, call: str, *, alone: bool = True) -> tuple[int, object, object]:
    """How many messages a call sends, what it answers, and what is there after it."""
    proxy.arm(0, Cut.BEFORE)
    with begun(place, proxy, alone=alone) as manifest:
        proxy.arm(0, Cut.BEFORE)
        answer = CALLS[call](manifest)
        messages = proxy.messages
        return messages, answer, told(manifest)


def cut_at(
    place: Place, proxy: Proxy, call: str, number: int, cut: Cut, *, alone: bool = True
) -> tuple[object, object]:
    proxy.arm(0, cut)
    with begun(place, proxy, alone=alone) as manifest:
        proxy.arm(number, cut)
        answer = CALLS[call](manifest)
        assert proxy.cuts == 1
        return answer, told(manifest)


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("call", ["a new content", "an alias", "a batch"])
def test_a_cut_at_the_end_changes_nothing(place: Place, call: str, cut: Cut) -> None:
    """The last message commits."""
    with cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy:
        messages, *right = expected(place, proxy, call)
        assert list(cut_at(place, proxy, call, messages, cut)) == right


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among others"])
@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("call", CALLS)
def test_a_cut_at_any_message_changes_nothing(place: Place, call: str, cut: Cut, alone: bool, count: Count) -> None:
    with cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy:
        messages, *right = expected(place, proxy, call, alone=alone)
        for number in range(1, messages + 1):
            found = list(cut_at(place, proxy, call, number, cut, alone=alone))
            assert found == right, f"cut {cut} message {number} of {messages}"
    count("cuts", messages)


def test_a_snapshot_may_be_read_slowly(manifest: DownloadManifestManager) -> None:
    """A process that is stopped while it writes loses its locks after a minute; a snapshot has none."""
    snapshot = engine_of(manifest).snapshot()
    asked = "SELECT current_setting('idle_in_transaction_session_timeout')"
    assert snapshot.ask(lambda slot: slot.rows(asked)) == [("1h",)]


def test_a_snapshot_whose_connection_is_lost_says_so(place: Place, manifest: DownloadManifestManager) -> None:
    """Another connection would show another moment."""
    manifest.add(record("a"))
    snapshot = manifest.snapshot()
    place.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises(ServerError, match="take a new one"):
        list(snapshot.records())
