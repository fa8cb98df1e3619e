"""`build/e2e/report.json`: every case and every step before them, with seconds, and what listeners noticed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.pods.report import CaseLine, Report
from typing_extensions import override

PATH = Path(__file__).parents[3] / "build" / "e2e" / "report.json"


class StepReport(Report):
    """Cases, and steps that have no listeners: bringing up the node, installing.

    `steps` is step to seconds, cases among them.
    """

    def __init__(self, path: Path = PATH) -> None:
        super().__init__(path)
        self.steps: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what is done in the context."""
        began_s = time.monotonic()
        yield
        self.steps[name] = round(time.monotonic() - began_s, 1)
        self.write()

    @override
    def add(self, line: CaseLine) -> None:
        """Another case has ended."""
        self.steps[line.name] = line.seconds
        super().add(line)

    @override
    def content(self) -> dict[str, Any]:
        """What the file says."""
        return {**super().content(), "steps": self.steps}
