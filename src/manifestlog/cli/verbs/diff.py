"""`diff`: compare two manifests, or one manifest at two times."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from manifestlog import names
from manifestlog.cli import durations, reading, target
from manifestlog.cli.invoke import CommandError
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.comparison import ContentDiff, Diff, SourceDiff, diff as compare
from manifestlog.errors import ManifestError
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.differences import Change
from manifestlog.model.models import ManifestRecord

_SCHEMA_VERSION = 1
_DIFFERENT = 1
_TROUBLE = 2
_Counts = Counter[tuple[str, Change]]

_BeforeArgument = Annotated[
    str,
    typer.Argument(
        metavar="A",
        help="Manifest (name or path), or a moment of it: MANIFEST@TIME, such as systems_download@2d.",
        show_default=False,
    ),
]
_AfterArgument = Annotated[
    str | None,
    typer.Argument(metavar="B", help="What to compare it with [default: the same manifest now].", show_default=False),
]


def diff(
    settings: Settings,
    before: _BeforeArgument,
    after: _AfterArgument = None,
    *,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON difference per line.")] = False,
) -> int:
    """Compare two manifests, or one manifest at two times.

    Prints each source whose current record was added, changed or is gone, in tab-separated columns: change, dataset, source, what differs. With --json or
    --jsonl also each content. Paths are compared as recorded. Exits with 0 if both are the same, 1 if they differ, 2 if they cannot be compared.
    """
    asked = [_parsed(settings, before, "A")]
    asked.append(_parsed(settings, after, "B") if after is not None else (asked[0][0], None))
    if after is None and asked[0][1] is None:
        raise typer.BadParameter("give a second manifest, or a time in A, such as NAME@2d", param_hint="B")
    try:
        with closing(_opened(settings, *asked[0])) as left, closing(_opened(settings, *asked[1])) as right:
            return _print(settings, (left.location.display, right.location.display), compare(left, right), jsonl=jsonl)
    except (ManifestError, OSError) as error:
        if isinstance(error, BrokenPipeError) or getattr(error, "exit_code", 1) != 1:
            raise
        raise CommandError(output.reason(error), error=type(error).__name__, exit_code=_TROUBLE) from None


def _parsed(settings: Settings, text: str, hint: str) -> tuple[str, datetime | None]:
    """Return the manifest and the time of `MANIFEST@TIME`; a path may contain an @ itself."""
    manifest, at, moment = text.rpartition("@")
    if not at or text.endswith(names.SUFFIX):
        manifest, moment = text, ""
    elif not moment:
        raise typer.BadParameter(f"{text!r} has no time after the @", param_hint=hint)
    target.locate(settings, manifest)
    return manifest, durations.past(moment, datetime.now(UTC), hint) if moment else None


def _opened(settings: Settings, manifest: str, moment: datetime | None) -> DownloadManifestManager:
    return reading.open_moment(settings, target.locate(settings, manifest), moment)


def _print(settings: Settings, shown: tuple[str, str], found: Diff, *, jsonl: bool) -> int:
    counts: _Counts = Counter()
    differs = bool(found.metadata)
    with output.ignore_broken_pipe():
        if jsonl:
            _write_jsonl(found, counts)
        elif settings.as_json:
            _write_json(shown, found, counts)
        else:
            _write_lines(found, counts)
            if not settings.quiet:
                output.stream(output.clean(_sentence(shown, counts, differs=differs)))
    return _DIFFERENT if differs or counts else 0


# -- text --------------------------------------------------------------------------------------------------------------


def _write_lines(found: Diff, counts: _Counts) -> None:
    for name, (was, now) in found.metadata.items():
        output.stream(f"{Change.CHANGED}\t-\t-\t{output.clean(f'{name}: {_shown(was)} -> {_shown(now)}')}")
    for content, sources in found.by_content():
        counts["contents", content.change] += 1
        for one in sources:
            counts["sources", one.change] += 1
            output.stream("\t".join([one.change, *map(output.clean, (one.dataset, one.source_id, _detail(one)))]))


def _detail(one: SourceDiff) -> str:
    if one.before is None or one.after is None:
        only = one.after or one.before
        assert only is not None
        return f"{output.short(only.checksum)} {only.file_path}"
    was, now = _members(one.before), _members(one.after)
    return ", ".join(f"{name}: {_shown(was.get(name))} -> {_shown(now.get(name))}" for name in one.members)


def _members(record: ManifestRecord) -> dict[str, Any]:
    found = record.model_dump(mode="json")
    found["checksum"] = output.short(record.checksum)
    if record.derived_from:
        found["derived_from"] = " ".join(output.short(one) for one in record.derived_from)
    return found


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _sentence(shown: tuple[str, str], counts: _Counts, *, differs: bool) -> str:
    between = f"{shown[0]} and {shown[1]}"
    if not (differs or counts):
        return f"{between} are the same"
    parts = [
        f"{what}: " + ", ".join(f"{counts[what, change]:,} {change}" for change in Change)
        for what in ("sources", "contents")
    ]
    return f"{between} differ; {'; '.join(parts)}"


# -- JSON --------------------------------------------------------------------------------------------------------------


def _source_json(one: SourceDiff) -> dict[str, Any]:
    return one._asdict() | {"before": _as_json(one.before), "after": _as_json(one.after)}


def _content_json(one: ContentDiff) -> dict[str, Any]:
    return one._asdict() | {"before": _as_json(one.before), "after": _as_json(one.after)}


def _as_json(record: ManifestRecord | None) -> dict[str, Any] | None:
    return None if record is None else record.model_dump(mode="json")


def _text(value: object) -> str:
    return output.json_text(json.dumps(value, ensure_ascii=False))


def _metadata_json(found: Diff) -> list[dict[str, Any]]:
    return [{"member": name, "before": was, "after": now} for name, (was, now) in found.metadata.items()]


def _write_jsonl(found: Diff, counts: _Counts) -> None:
    for one in _metadata_json(found):
        output.stream(_text({"of": "metadata", **one}))
    for content, sources in found.by_content():
        counts["contents", content.change] += 1
        output.stream(_text({"of": "content", **_content_json(content)}))
        for source in sources:
            counts["sources", source.change] += 1
            output.stream(_text({"of": "source", **_source_json(source)}))


def _write_json(shown: tuple[str, str], found: Diff, counts: _Counts) -> None:
    """Print one document, written while the differences are found."""
    head = {"schema_version": _SCHEMA_VERSION, "before": shown[0], "after": shown[1], "metadata": _metadata_json(found)}
    output.raw(_text(head)[:-1] + ', "sources": ')
    _write_array(_counted("sources", counts, found.sources(), _source_json))
    output.raw(', "contents": ')
    _write_array(_counted("contents", counts, found.contents(), _content_json))
    totals = {what: {change: counts[what, change] for change in Change} for what in ("sources", "contents")}
    different = bool(found.metadata or counts)
    output.stream(f', "counts": {_text(totals)}, "different": {_text(different)}}}')


def _counted(what: str, counts: _Counts, found: Iterable[Any], as_json: Any) -> Iterator[str]:
    for one in found:
        counts[what, one.change] += 1
        yield _text(as_json(one))


def _write_array(items: Iterator[str]) -> None:
    before = "["
    for item in items:
        output.raw(f"{before}\n{item}")
        before = ","
    output.raw("[]" if before == "[" else "\n]")
