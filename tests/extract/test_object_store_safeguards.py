"""Each safeguard of data files in an object store, switched off in turn: the test of what it protects fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern, sha256
from extract.stores import PART
from extract.test_object_parts import LARGE, SMALL, intent, key, leave
from manifestlog.extract.claims import Claims
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.paths import SourcePaths
from manifestlog.extract.places.opening import place_of
from simulation.seeding import Edit, edited, missed
from support import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from extract.stores import There
    from support.badserver import BadServer, Exchange

ETAG = '"one"'


def keeps_what_is_there(body: bytes) -> Callable[[There, BadServer], None]:
    """A name that another writer takes between the look and the upload, with other content of the same length."""

    def scenario(there: There, bad: BadServer) -> None:
        other = pattern(len(body), 7)
        there.bucket.put("raw/systems/a", other)
        there.fetch(bad.script("/a", answers.whole(body)))
        assert (there.bucket.get("raw/systems/a"), there.body()) == (other, body)

    return scenario


def trusts_no_part(there: There, bad: BadServer) -> None:
    """A part that is not what its intent says."""
    one = source(bad.script("/a", answers.whole(LARGE, ETAG)), source_id="a", dataset="systems")
    leave(there, one, LARGE[:-1] + b"x", intent(there, one, LARGE))
    there.one(one)
    assert there.body() == LARGE


def forgets_old_states(there: There, bad: BadServer) -> None:
    """A run is killed after it has stored other bytes than the state describes, and the old content comes back."""
    new = pattern(len(LARGE), 1)
    url = bad.script("/a", answers.cut_at(PART + 10, LARGE, ETAG), answers.whole(new), answers.whole(LARGE, ETAG))
    there.fetch(url, retries=0)
    with (
        edited([Edit("extract.download:_fetch_and_register", "part.decode() or", "1 / 0 or")]),
        pytest.raises(ZeroDivisionError),
    ):
        there.fetch(url)
    there.fetch(url)
    assert sha256(there.body()) == sha256(LARGE)


def leaves_live_uploads(there: There, bad: BadServer) -> None:
    """An upload of a source that somebody is at."""
    one = source("http://h/a", source_id="live", dataset="systems")
    part = SourcePaths.of(there.data_dir, one).part
    there.bucket.begin(key(part))
    with Claims(there.manifest, there.data_dir) as claims, claims.trying("part", claims.name_of(part)):
        there.fetch(bad.script("/a", answers.whole(SMALL)))
        assert there.bucket.uploads == [key(part)]
    place_of(there.data_dir).prepare(there.manifest)


def stores_content_once(there: There, bad: BadServer) -> None:
    """Two sources bring the same content at the same time."""
    both = threading.Barrier(2)

    def step(exchange: Exchange) -> None:
        both.wait()
        answers.whole(LARGE)(exchange)

    urls = [bad.script(path, step) for path in ("/a", "/b")]
    there.run(*(source(url, source_id=url[-1], dataset="systems") for url in urls), jobs=2, connections=2)
    assert len(there.files) == 1


def registers_what_was_left(there: There, bad: BadServer) -> None:
    """A run is killed after it has stored an object, and another source registers the same content first."""
    there.bucket.put("raw/systems/b", SMALL)
    there.fetch(bad.script("/a", answers.whole(SMALL)))
    there.fetch(bad.script("/b", answers.whole(SMALL)), source_id="b")
    assert there.body("b") == SMALL
    assert str(there.record("b").file_path) == f"{there.bucket.url}/raw/systems/b"


SAFEGUARDS = {
    "a small object is created on condition": (
        keeps_what_is_there(SMALL), Edit("objects.s3:S3Store.create", ', IfNoneMatch="*"', ""),
    ),
    "a large object is created on condition": (
        keeps_what_is_there(LARGE), Edit("objects.s3:S3Upload.finish", '{"IfNoneMatch": "*"} if creates else {}', "{}"),
    ),
    "a name that is taken is compared with the content": (
        keeps_what_is_there(SMALL),
        Edit("extract.places.object_part:has", "(found.sha256 or sha256_of(store, url)) == wanted.sha256", "True"),
    ),
    "a part is compared with its intent": (
        trusts_no_part, Edit(
            "extract.places.object_part:ObjectPart.sha256",
            "sha256_of(self._store, self._url) if",
            "str(self.state and self.state.sha256) if",
        ),
    ),
    "a body from its beginning ends the old state": (
        forgets_old_states, Edit("extract.places.object_part:ObjectPart.writer", "if not head.start:", "if False:"),
    ),
    "uploads are aborted under their claims": (
        leaves_live_uploads, Edit("extract.places.objects:ObjectPlace._abort_left_over", "if ours:", "if True:"),
    ),
    "a file that a killed run has stored gets its record": (
        registers_what_was_left,
        Edit("extract.landing:_left_copy", "if context.place.has_content(path, one.event):", "if False:"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_what_it_protects_is_so(there: There, bad: BadServer, name: str) -> None:
    SAFEGUARDS[name][0](there, bad)


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_without_it_that_fails(there: There, bad: BadServer, name: str) -> None:
    scenario, edit = SAFEGUARDS[name]
    with missed(edit, AssertionError, ExtractError):
        scenario(there, bad)
    there.forget_all()


def test_content_of_two_sources_is_stored_once(there: There, bad: BadServer) -> None:
    stores_content_once(there, bad)
