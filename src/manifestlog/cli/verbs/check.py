"""`check`: read everything of a manifest and say what is wrong with it."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from manifestlog import maintenance, names as naming
from manifestlog.cli import target
from manifestlog.cli.invoke import worst
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output
from manifestlog.engines.reports import DAMAGE, CheckReport, Finding
from manifestlog.errors import DamagedManifestError, ManifestError


def check(settings: Settings, manifests: target.ManifestsArgument = None) -> int:
    """Read every byte and say what is wrong.

    All manifests of the directory, or the named ones. Writes nothing and takes no lock; writers may go on. Exit code 12 when something is damaged. Notes (a torn tail,
    leftovers of a crash) are no damage.
    """
    paths = target.locate_all(settings, manifests)
    results = [_look(path) for path in paths]
    if len(results) == 1 and results[0].error is not None:
        raise results[0].error
    if settings.as_json:
        output.document([_as_json(result) for result in results])
    for result in results:
        _tell(settings, result)
    if not paths:
        output.remark(settings, f"{settings.directory}: no manifests here; create one with `manifestlog init`")
    return worst(result.exit_code for result in results)


class _Result(NamedTuple):
    """What came of one manifest: a report, or why there is none."""

    path: str
    report: CheckReport | None
    error: ManifestError | OSError | None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return getattr(self.error, "exit_code", 1)
        return DamagedManifestError.exit_code if self.report is not None and self.report.damaged else 0


def _look(path: Path) -> _Result:
    paths = naming.resolve(path)
    try:
        return _Result(paths.canonical, maintenance.check(path), None)
    except ManifestError as error:
        return _Result(paths.canonical, None, error)
    except OSError as error:
        error.filename = error.filename or paths.canonical  # a read does not know its file's name
        return _Result(paths.canonical, None, error)


def _tell(settings: Settings, result: _Result) -> None:
    if result.error is not None:
        output.complain(output.reason(result.error))
    elif result.report is not None and not settings.as_json:
        _show(settings, result.report)


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


def _as_json(result: _Result) -> dict[str, Any]:
    report = result.report
    if report is None:
        assert result.error is not None
        return {"manifest": result.path} | output.failure(result.error, result.exit_code)
    return {
        "manifest": report.manifest,
        "damaged": report.damaged,
        "records": report.records,
        "log_lines": report.log_lines,
        "segments": report.segments,
        "findings": [finding._asdict() for finding in report.findings],
    }
