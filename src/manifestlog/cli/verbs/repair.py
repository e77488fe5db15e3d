"""`repair`: rebuild a damaged manifest from its intact parts, and move the originals to quarantine."""

import os
from typing import Annotated, Any

import typer

from manifestlog import maintenance
from manifestlog.cli import target
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.reports import DAMAGE, Finding, Loss, RepairOutcome, RepairReport

_SHOWN = 3


def repair(
    settings: Settings,
    manifest: target.ManifestArgument,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = False,
) -> int:
    """Rebuild a damaged manifest from its intact parts.

    Moves the originals to a directory in quarantine/ beside the manifest, with a report of what was lost, where, and what
    was kept; deletes nothing. Leaves a sound manifest unchanged. Exits with 0 if nothing was lost, and with 1 otherwise.
    """
    path = target.locate(settings, manifest)
    report = maintenance.repair(path, dry_run=dry_run, lock_timeout_s=settings.lock_timeout_s)
    if settings.as_json:
        output.document(_as_json(report))
    else:
        _show(settings, report)
    if report.quarantine is not None and report.outcome is RepairOutcome.REPAIRED:
        output.notice(settings, f"originals and report: {report.quarantine}")
    return 1 if report.lost else 0


def _show(settings: Settings, report: RepairReport) -> None:
    for finding in report.findings:
        if finding.level == DAMAGE or not settings.quiet:
            _line(f"found: {_position(finding.file, finding.offset)}: {finding.meaning}")
    for note in report.notes:
        if not settings.quiet:
            _line(f"nothing lost: {_position(note.file, note.offset)}: {note.meaning}")
    for loss in report.lost:
        _line(f"lost: {_position(loss.file, loss.offset)}: {_sentence(loss)}")
    if not settings.quiet:
        _line(f"{report.manifest}: {_summary(report)}")


def _line(text: str) -> None:
    output.line(output.clean(text))


def _position(file: str, offset: int | None) -> str:
    return os.path.basename(file) + ("" if offset is None else f" at byte {offset:,}")


def _sentence(loss: Loss) -> str:
    size = "" if loss.bytes is None else f"{loss.bytes:,} bytes: "
    named = ", ".join(loss.checksums[:_SHOWN]) + (", …" if len(loss.checksums) > _SHOWN else "")
    return size + loss.meaning + (f" ({named})" if named else "")


def _summary(report: RepairReport) -> str:
    kept = f"records kept: {report.records:,}, {report.records_from_log:,} of them from the log"
    lost = f"losses: {len(report.lost):,}" if report.lost else "nothing lost"
    match report.outcome:
        case RepairOutcome.NOTHING_TO_DO:
            return "sound; nothing to repair"
        case RepairOutcome.INDEX_REBUILT:
            return "sound; its index was rebuilt"
        case RepairOutcome.WOULD_REBUILD_INDEX:
            return "sound; its index would be rebuilt"
        case RepairOutcome.WOULD_REPAIR:
            return f"would be repaired; {kept}; {lost}"
    return f"repaired; {kept}; {lost}"


def _as_json(report: RepairReport) -> dict[str, Any]:
    def row(item: Finding | Loss) -> dict[str, Any]:
        return item._asdict() | {"file": os.path.basename(item.file)}

    return {
        "manifest": report.manifest,
        "outcome": report.outcome,
        "findings": [row(finding) for finding in report.findings],
        "lost": [row(loss) for loss in report.lost],
        "notes": [row(note) for note in report.notes],
        "records": report.records,
        "records_from_log": report.records_from_log,
        "originals": report.originals,
        "quarantine": report.quarantine,
    }
