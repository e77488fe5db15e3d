"""`check`: read everything of a manifest and say what is wrong with it."""

import os
from pathlib import Path
from typing import Any

from manifestlog import naming
from manifestlog.check import DAMAGE, CheckReport, Finding
from manifestlog.check import check as check_files
from manifestlog.cli import output, target
from manifestlog.cli.settings import Settings
from manifestlog.errors import DamagedManifestError, ManifestNotFoundError, NewerFormatError


def check(settings: Settings, manifests: target.ManifestsArgument = None) -> int:
    """Read every byte and say what is wrong.

    All manifests of the directory, or the named ones. Writes nothing and takes no lock; writers may go on. Exit code 12 when something is damaged. Notes (a torn tail,
    leftovers of a crash) are no damage.
    """
    paths = target.locate_all(settings, manifests)
    found = [_look(path) for path in paths]
    reports = [one for one in found if isinstance(one, CheckReport)]
    if settings.as_json:
        output.document([_as_json(report) for report in reports])
    else:
        for report in reports:
            _show(settings, report)
    if not paths:
        output.remark(settings, f"{settings.directory}: no manifests here; create one with `manifestlog init`")
    if any(report.damaged for report in reports):
        return DamagedManifestError.exit_code
    return max((one for one in found if isinstance(one, int)), default=0)


def _look(path: Path) -> CheckReport | int:
    """What was found, or the exit code of what could not be looked at."""
    try:
        return check_files(naming.resolve(path))
    except (ManifestNotFoundError, NewerFormatError) as error:
        output.complain(error)
        return error.exit_code


def _show(settings: Settings, report: CheckReport) -> None:
    for finding in report.findings:
        if finding.level == DAMAGE or not settings.quiet:
            output.line(output.clean(_sentence(finding)))
    if not settings.quiet:
        state = "damaged" if report.damaged else "sound"
        counts = f"{report.records:,} records, {report.log_lines:,} log lines in {report.segments:,} segments"
        output.line(output.clean(f"{report.manifest}: {state}; {counts}"))
    if report.damaged:
        output.remark(settings, f"`manifestlog repair {report.manifest} --dry-run` says what can be saved")


def _sentence(finding: Finding) -> str:
    where = "" if finding.offset is None else f" at byte {finding.offset:,}"
    return f"{finding.level}: {os.path.basename(finding.file)}{where}: {finding.meaning}"


def _as_json(report: CheckReport) -> dict[str, Any]:
    return {
        "manifest": report.manifest,
        "damaged": report.damaged,
        "records": report.records,
        "log_lines": report.log_lines,
        "segments": report.segments,
        "findings": [finding._asdict() for finding in report.findings],
    }
