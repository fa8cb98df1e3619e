"""`build/integration/report.json`: every case, and what its listeners noticed.

Separate from the fixtures because the file must be right also after a case that failed, or a run that was cut short:
it is written anew after each case.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.support.pods.traffic import Tally

PATH = Path(__file__).parents[3] / "build" / "integration" / "report.json"
SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseLine:
    """One case."""

    name: str
    seconds: float
    requests: int
    failed: int
    mixed: int
    shielded: int
    outcome: str
    answered_by: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, tally: Tally, *, seconds: float, passed: bool, notes: Sequence[str]) -> CaseLine:
        """From what was counted."""
        return cls(
            name=name,
            seconds=round(seconds, 1),
            requests=tally.requests,
            failed=tally.failed,
            mixed=tally.mixed,
            shielded=tally.shielded,
            outcome="passed" if passed and not tally.failed and not tally.mixed else "failed",
            answered_by=dict(tally.revisions),
            notes=list(notes),
            trouble=[*(f"{times} x {error}" for error, times in tally.errors.items()), *tally.findings][:SHOWN],
        )


class Report:
    """All cases of a run."""

    def __init__(self, path: Path = PATH) -> None:
        self.lines: list[CaseLine] = []
        self._path = path
        self._lock = threading.Lock()

    def add(self, line: CaseLine) -> None:
        """Another case has ended."""
        with self._lock:
            self.lines.append(line)
            self.write()

    def summary(self) -> str:
        """One line for people."""
        totals = self.totals()
        return (
            f"{totals['cases']} cases ({totals['passed']} passed), {totals['requests']} requests: "
            f"{totals['failed']} failed, {totals['mixed']} mixed; {self._path}"
        )

    def totals(self) -> dict[str, int]:
        """Over all cases."""
        return {
            "cases": len(self.lines),
            "passed": sum(line.outcome == "passed" for line in self.lines),
            "requests": sum(line.requests for line in self.lines),
            "failed": sum(line.failed for line in self.lines),
            "mixed": sum(line.mixed for line in self.lines),
            "shielded": sum(line.shielded for line in self.lines),
        }

    def content(self) -> dict[str, Any]:
        """What the file says."""
        return {**self.totals(), "details": [asdict(line) for line in self.lines]}

    def write(self) -> None:
        """The file as of now."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content(), indent=2) + "\n", encoding="utf-8")
        partial.replace(self._path)
