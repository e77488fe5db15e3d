"""Prints the findings of `verify` on stdout as they arrive, to save memory, and then the summary.

With `--json`, all output is one document.
"""

import json

from manifestlog.audit import AuditReport, FileFinding
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output


class Report:
    """The output of one run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._findings = 0

    def begin(self, manifest: str) -> None:
        if self._settings.as_json:
            output.raw(f'{{\n  "manifest": {_json(manifest)},\n  "findings": [')

    def found(self, finding: FileFinding) -> None:
        """Print a finding, even with `--quiet`."""
        if self._settings.as_json:
            output.raw(f"{',' if self._findings else ''}\n    {_json(finding._asdict())}")
            self._findings += 1
        else:
            output.stream(output.clean(f"{finding.state}: {finding.file_path}: {finding.reason}"))

    def end(self, report: AuditReport) -> None:
        if self._settings.as_json:
            close = "\n  ]" if self._findings else "]"
            members = "".join(f",\n  {_json(name)}: {_json(value)}" for name, value in report.as_json().items())
            output.line(f"{close}{members}\n}}")
        elif not self._settings.quiet:
            output.line(_sentence(report))


def _sentence(report: AuditReport) -> str:
    """Return the summary as one line."""
    counts = [f"{number:,} {state}" for state, number in report.states.items()]
    if report.unregistered is not None:
        counts.append(f"{report.unregistered:,} unregistered")
    if report.superseded:
        counts.append(f"{report.superseded:,} superseded")
    files = report.looked_at / report.seconds
    rate = f"{output.human_bytes(report.bytes / report.seconds)}/s, {files:,.0f} files/s"
    read = output.human_bytes(report.bytes)
    return f"{', '.join(counts)}, {report.left:,} left; {read} read in {report.seconds:.1f} s ({rate})"


def _json(value: object) -> str:
    return output.json_text(json.dumps(value, ensure_ascii=False))
