"""A run in dry: what would be done with a source and why, by asking for its head only.

Invariants:

- Nothing is written, claimed or fetched; nobody is asked by POST.
"""

from __future__ import annotations

from manifestlog.extract.config import Defaults
from manifestlog.extract.decide import Step, ask_for, decide, is_denied, telling
from manifestlog.extract.download import has_pinned, has_recorded_name, known
from manifestlog.extract.encoding import heard
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetch import Ask, Fetcher, Head
from manifestlog.extract.reach import asks_by_post
from manifestlog.extract.report import Plan
from manifestlog.extract.secrets import Redactor
from manifestlog.extract.source import Conditions, ETLSource
from manifestlog.manager import DownloadManifestManager
from manifestlog.models import ManifestRecord

_FOUND = 200
_OF_THE_METHOD = frozenset({400, 403, 404, 405, 501})
"""What a server may say to `HEAD` that would answer a `GET`: one that does not know it, an address signed for `GET`."""


def plan(
    manifest: DownloadManifestManager | None,
    fetcher: Fetcher,
    source: ETLSource,
    redactor: Redactor,
    defaults: Defaults,
) -> Plan:
    """What a run would do with this source; without a manifest nothing is recorded yet."""
    record = known(manifest, source) if manifest is not None else None
    if has_pinned(record, source):
        return Plan(source.source_id, source.dataset, "unchanged", "the pinned content is recorded")
    if asks_by_post(source, defaults):
        return Plan(
            source.source_id, source.dataset, "fetch", "it is asked by POST, and only its content can be compared"
        )
    try:
        head = _head(fetcher, source, ask_for(record, None, by_date=has_recorded_name(record, source)))
        if is_denied(record, head):
            head = _head(fetcher, source, Ask())
        head = heard(defaults, source, head)
    except (ExtractError, OSError) as error:
        return Plan(source.source_id, source.dataset, "failed", redactor.redact(str(error)))
    action = decide(Ask(), record, None, head)
    if action.step is Step.UNCHANGED:
        return Plan(source.source_id, source.dataset, "unchanged", "the server has nothing new")
    if action.step is Step.WHOLE:
        return Plan(source.source_id, source.dataset, "fetch", _why(source, record, head), head.length_bytes)
    later = ": the server is busy; a run would ask again" if action.step is Step.RETRY else ""
    return Plan(source.source_id, source.dataset, "failed", action.reason + later)


def _head(fetcher: Fetcher, source: ETLSource, ask: Ask) -> Head:
    """What the server says before the body; asked for as a run would where its answer to `HEAD` may be another."""
    head = fetcher.probe(source, ask)
    if head.status in _OF_THE_METHOD or (head.status == _FOUND and head.length_bytes == 0):
        with fetcher.open(source, ask) as response:  # the body is left where it is
            return response.head
    return head


def _why(source: ETLSource, record: ManifestRecord | None, head: Head) -> str:
    if source.conditions is Conditions.NEVER:
        return "it is asked for without conditions"
    if record is None:
        return "nothing of it is recorded"
    ours, theirs = telling(record.etag), telling(head.etag)
    if ours is not None and theirs is not None and ours != theirs:
        return f"its ETag was {record.etag}, now it is {head.etag}"
    if None not in (head.last_modified, record.last_modified) and head.last_modified != record.last_modified:
        return f"it was last modified {record.last_modified}, now {head.last_modified}"
    if head.encoding is None and head.length_bytes is not None and head.length_bytes != record.file_size:
        return f"it was {record.file_size:,} bytes long, now {head.length_bytes:,}"
    return "the server gives nothing to tell by whether it has changed"
