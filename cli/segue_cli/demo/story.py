"""What the demo remembers of its run: chapters, what was said meanwhile, sounds to keep.

Separate from the acts that fill it and the pages that show it. Times are CLOCK_MONOTONIC nanoseconds, the clock of the
request records, so that everything lies on one timeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from segue_cli.measure.latency import Spread
from segue_cli.measure.shots import Record, Shot


class Outcome(StrEnum):
    """How a chapter ended."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    """Never offered to the server."""
    TAKEN_BACK = "taken back"
    """Heard by some listeners, shielded, and gone again."""
    TIMED_OUT = "timed out"


class MarkKind(StrEnum):
    """What a mark on the timeline is."""

    EDIT = "edit"
    FLIP = "flip"
    REFUSAL = "refusal"
    BACK = "back"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was told."""

    at_ns: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment that shows on the timeline."""

    at_ns: int
    kind: MarkKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A sound to listen to."""

    title: str
    note: str
    wav: bytes


@dataclass(slots=True, kw_only=True)
class Chapter:
    """One act: what was tried, what was expected, what came of it."""

    name: str
    title: str
    voice: str
    expected: Outcome
    began_ns: int
    ended_ns: int = 0
    outcome: Outcome | None = None
    reason: str = ""
    lines: list[Line] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)

    @property
    def as_expected(self) -> bool:
        """Whether it ended as it should."""
        return self.outcome is self.expected

    @property
    def seconds(self) -> float:
        """From the edit of the YAML to the outcome."""
        return (self.ended_ns - self.began_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A paragraph that one listener had read to them across the flip.

    Attributes
    ----------
    samples
        `(samples,) float32`, sentence after sentence as they arrived.
    parts
        For each sentence: first sample, text, revision that spoke it.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    parts: Sequence[tuple[int, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What it comes to."""

    requests: int
    failed: int
    mixed: int
    shielded: int
    failures: Mapping[str, int]
    judged: int
    judged_windows: int
    command_to_effective_ms: Spread
    flips: int
    p99_latency_ratio_during_preload: float
    during_preload: Spread
    besides_preload: Spread
    first_audio_ms: Spread
    seconds: float


@dataclass(slots=True, kw_only=True)
class Story:
    """The whole run."""

    began_ns: int
    shots: Sequence[Shot] = ()
    chapters: list[Chapter] = field(default_factory=list)
    records: Sequence[Record] = ()
    reader_records: list[Record] = field(default_factory=list)
    preloads: list[tuple[int, int]] = field(default_factory=list)
    revisions: dict[str, str] = field(default_factory=dict)
    """Revision to a name for people: `narrator v2`."""
    reading: Reading | None = None
    findings: Sequence[str] = ()

    @property
    def traffic_began_ns(self) -> int:
        """When the first request was sent; before that, processes start."""
        return min((record.start_ns for record in self.records), default=self.began_ns)

    @property
    def heard(self) -> dict[str, str]:
        """Those of `revisions` that answered at least one request, in the same order."""
        spoken = {record.revision for record in self.records}
        return {revision: name for revision, name in self.revisions.items() if revision in spoken}

    @property
    def ended_ns(self) -> int:
        """When the last answer arrived or the last chapter ended."""
        return max([self.began_ns, *(c.ended_ns for c in self.chapters), *(r.end_ns for r in self.records)])
