"""A dry run: finds out what a run would do with a source and why, from response heads only.

Invariants:

- It writes, claims and downloads nothing, and never sends a POST.
"""

from __future__ import annotations

from manifestlog.extract.config.configuration import Defaults
from manifestlog.extract.config.redaction import Redactor
from manifestlog.extract.config.source import Conditions, ETLSource
from manifestlog.extract.content_encoding import resolve_encoding
from manifestlog.extract.decide import Step, build_request, contradicts_not_modified, decide, usable_etag
from manifestlog.extract.download import comparable, has_pinned, has_recorded_name
from manifestlog.extract.errors import ExtractError
from manifestlog.extract.fetchers.protocol import Fetcher, FetchRequest, ResponseHead
from manifestlog.extract.report import Plan
from manifestlog.extract.request_options import uses_post
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.models import ManifestRecord

_FOUND = 200
_OF_THE_METHOD = frozenset({400, 403, 404, 405, 501})
"""Statuses a server may return for `HEAD` but not for `GET`: the method is unsupported, or the URL is signed for `GET`."""


def plan(
    manifest: DownloadManifestManager | None,
    fetcher: Fetcher,
    source: ETLSource,
    redactor: Redactor,
    defaults: Defaults,
) -> Plan:
    """Return what a run would do with this source; without a manifest nothing is recorded yet."""
    known = manifest.get_record_by_source(source.source_id, source.dataset) if manifest is not None else None
    record = comparable(known, source)
    if has_pinned(record, source):
        return Plan(source.source_id, source.dataset, "unchanged", "the pinned content is recorded")
    if uses_post(source, defaults):
        return Plan(
            source.source_id, source.dataset, "fetch", "it is requested by POST, so only its content can be compared"
        )
    try:
        head = _head(fetcher, source, build_request(record, None, by_date=has_recorded_name(record, source)))
        if contradicts_not_modified(record, head):
            head = _head(fetcher, source, FetchRequest())
        head = resolve_encoding(defaults, source, head)
    except (ExtractError, OSError) as error:
        return Plan(source.source_id, source.dataset, "failed", redactor.redact(str(error)))
    action = decide(FetchRequest(), record, None, head)
    if action.step is Step.UNCHANGED:
        return Plan(source.source_id, source.dataset, "unchanged", "the server has nothing new")
    if action.step is Step.WHOLE:
        return Plan(source.source_id, source.dataset, "fetch", _why(source, record, head), head.length_bytes)
    later = ": the server is busy; a run would retry" if action.step is Step.RETRY else ""
    return Plan(source.source_id, source.dataset, "failed", action.reason + later)


def _head(fetcher: Fetcher, source: ETLSource, request: FetchRequest) -> ResponseHead:
    """Return the response's head; sends the request of a real run where `HEAD` may return something else."""
    head = fetcher.probe(source, request)
    if head.status in _OF_THE_METHOD or (head.status == _FOUND and head.length_bytes == 0):
        with fetcher.open(source, request) as response:  # the body is not read
            return response.head
    return head


def _why(source: ETLSource, record: ManifestRecord | None, head: ResponseHead) -> str:
    if source.conditions is Conditions.NEVER:
        return "it is requested without conditions"
    if record is None:
        return "it has no record"
    ours, theirs = usable_etag(record.etag), usable_etag(head.etag)
    if ours is not None and theirs is not None and ours != theirs:
        return f"its ETag was {record.etag}, now {head.etag}"
    if None not in (head.last_modified, record.last_modified) and head.last_modified != record.last_modified:
        return f"it was last modified {record.last_modified}, now {head.last_modified}"
    if head.encoding is None and head.length_bytes is not None and head.length_bytes != record.file_size:
        return f"its size was {record.file_size:,} bytes, now {head.length_bytes:,}"
    return "the server sends no validator, so a change cannot be ruled out"
