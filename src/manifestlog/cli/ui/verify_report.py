"""What `verify` prints on stdout: findings as they come, so that a million of them need no memory; then the summary.

With `--json` all of it is one document.
"""

import json
import sys
from typing import Any, NamedTuple

from manifestlog.audit.plan import Level
from manifestlog.audit.worker import Finding, Tally
from manifestlog.cli.settings import Settings
from manifestlog.cli.ui import output


class Summary(NamedTuple):
    """The figures of a run; what is None was not asked for, or not come to."""

    level: Level
    files: int
    total: Tally
    unregistered: int | None
    superseded: int
    left: int
    sample: int | None
    seed: int | None
    seconds: float

    def sentence(self) -> str:
        """In one line."""
        counts = [f"{number:,} {state}" for state, number in self.total.states.items()]
        if self.unregistered is not None:
            counts.append(f"{self.unregistered:,} unregistered")
        if self.superseded:
            counts.append(f"{self.superseded:,} superseded")
        files = self.total.files / self.seconds
        rate = f"{output.human_bytes(self.total.bytes / self.seconds)}/s, {files:,.0f} files/s"
        read = output.human_bytes(self.total.bytes)
        return f"{', '.join(counts)}, {self.left:,} left; {read} read in {self.seconds:.1f} s ({rate})"

    def as_json(self) -> dict[str, Any]:
        """As data."""
        shown = self._asdict()
        total: Tally = shown.pop("total")
        states = {state.value: number for state, number in total.states.items()}
        first = {name: shown.pop(name) for name in ("level", "files")}
        return first | states | shown | {"bytes": total.bytes, "seconds": round(self.seconds, 3)}


class Report:
    """The output of one run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._findings = 0

    def begin(self, manifest: str) -> None:
        if self._settings.as_json:
            sys.stdout.write(f'{{\n  "manifest": {_json(manifest)},\n  "findings": [')

    def found(self, finding: Finding) -> None:
        """A file that is not as it should be; said even with `--quiet`."""
        if self._settings.as_json:
            sys.stdout.write(f"{',' if self._findings else ''}\n    {_json(finding._asdict())}")
            self._findings += 1
        else:
            output.stream(output.clean(f"{finding.state}: {finding.file_path}: {finding.reason}"))

    def end(self, summary: Summary) -> None:
        if self._settings.as_json:
            close = "\n  ]" if self._findings else "]"
            members = "".join(f",\n  {_json(name)}: {_json(value)}" for name, value in summary.as_json().items())
            output.line(f"{close}{members}\n}}")
        elif not self._settings.quiet:
            output.line(summary.sentence())


def _json(value: object) -> str:
    return output.json_text(json.dumps(value, ensure_ascii=False))
