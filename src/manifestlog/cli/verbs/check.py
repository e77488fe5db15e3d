"""`check`: read a manifest's own files and report corruption."""

import os
from typing import Any

from manifestlog import maintenance
from manifestlog.cli import target
from manifestlog.cli.invoke import worst
from manifestlog.cli.outcomes import Outcome, for_each_manifest
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.reports import DAMAGE, CheckReport, Finding
from manifestlog.errors import DamagedManifestError


def check(settings: Settings, manifests: target.ManifestsArgument = None) -> int:
    """Check the manifest's own files for corruption.

    Reads every byte of the named manifests [default: all of the directory]. Writes nothing and takes no lock, so writers can continue. Exits with 12 if a file is damaged. Notes (a torn tail,
    leftovers of a crash) do not count as damage.
    """
    paths = [target.resolved(path) for path in target.locate_all(settings, manifests)]
    outcomes = for_each_manifest(paths, maintenance.check)
    if settings.as_json:
        output.document([_as_json(outcome) for outcome in outcomes])
    for outcome in outcomes:
        _print_outcome(settings, outcome)
    if not paths:
        output.notice(settings, target.none_found(settings))
    return worst(map(_exit_code, outcomes))


def _exit_code(outcome: Outcome[CheckReport]) -> int:
    report = outcome.result
    return DamagedManifestError.exit_code if report is not None and report.damaged else outcome.exit_code


def _print_outcome(settings: Settings, outcome: Outcome[CheckReport]) -> None:
    if outcome.error is not None:
        output.error(output.reason(outcome.error))
    elif outcome.result is not None and not settings.as_json:
        _show(settings, outcome.result)


def _show(settings: Settings, report: CheckReport) -> None:
    for finding in report.findings:
        if finding.level == DAMAGE or not settings.quiet:
            output.line(output.clean(_sentence(finding)))
    if not settings.quiet:
        state = "damaged" if report.damaged else "sound"
        log = f"{_count(report.log_lines, 'log line')} in {_count(report.segments, 'segment')}"
        counts = f"{_count(report.records, 'record')}, {log}"
        output.line(output.clean(f"{report.manifest}: {state}; {counts}{_history(report)}"))
    if report.damaged:
        output.notice(settings, f"`manifestlog repair {report.manifest} --dry-run` shows what can be saved")


def _history(report: CheckReport) -> str:
    """Return how much of the history was checked, if there is any."""
    files = [_count(report.history_packs, "pack")] * bool(report.history_packs)
    files += [_count(report.history_segments, "segment")] * bool(report.history_segments)
    return f"; history: {' and '.join(files)}" if files else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _sentence(finding: Finding) -> str:
    where = "" if finding.offset is None else f" at byte {finding.offset:,}"
    return f"{finding.level}: {os.path.basename(finding.file)}{where}: {finding.meaning}"


def _as_json(outcome: Outcome[CheckReport]) -> dict[str, Any]:
    report = outcome.result
    if report is None:
        assert outcome.error is not None
        return {"manifest": str(outcome.path)} | output.failure(outcome.error, outcome.exit_code)
    return {
        "manifest": report.manifest,
        "damaged": report.damaged,
        "records": report.records,
        "log_lines": report.log_lines,
        "segments": report.segments,
        "history_segments": report.history_segments,
        "history_packs": report.history_packs,
        "findings": [finding._asdict() for finding in report.findings],
    }
