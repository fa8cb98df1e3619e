"""A row of the engine as the server sees it: what is wanted, how it goes, and who is told.

Separate from the engine thread because three parties hold one: the loop (which may cancel or pause it), the schedule
(which orders it) and the engine thread (which alone touches the engine's own row).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segue.engine import Row, SynthesisRequest, Synthesizer
from segue.memory.stats_layout import Outcome
from segue_server.synthesis.inspection import AudioInspector

Samples: TypeAlias = NDArray[np.float32]


class Priority(IntEnum):
    """Who goes first."""

    LIVE = 0
    MIRROR = 1
    WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEnd:
    """How a row ended.

    Attributes
    ----------
    outcome
        As it counts for the revision.
    error
        What stopped it, else None.
    audio_s
        Seconds of speech made.
    phones, tokens
        How long the text was for the front end, and the speech for the decoder.
    """

    outcome: Outcome
    error: Exception | None = None
    audio_s: float = 0.0
    phones: int = 0
    tokens: int = 0


class RowSink(Protocol):
    """Told on the event loop, in this order: audio any number of times, the end once, the release once."""

    def on_audio(self, samples: Samples) -> None:
        """Audio that passed inspection."""
        ...

    def on_end(self, end: RowEnd) -> None:
        """No more audio comes."""
        ...

    def on_released(self) -> None:
        """The engine dropped every tensor of the row."""
        ...


class EngineRow:
    """One row, from submission to release.

    `request` may get its reference and `refusal` a reason before it is submitted: a row with one is ended with it, and
    never stepped. `cancelled` and `paused` are written by the loop and read by the engine thread between two steps;
    everything else belongs to the engine thread after `EngineThread.submit`.
    """

    __slots__ = (
        "arrived_s",
        "audio_s",
        "cancelled",
        "first_audio_s",
        "group",
        "inspector",
        "paused",
        "priority",
        "refusal",
        "request",
        "row",
        "sink",
        "stepped_s",
        "synthesizer",
    )

    def __init__(
        self,
        synthesizer: Synthesizer,
        request: SynthesisRequest,
        *,
        group: int,
        priority: Priority,
        sink: RowSink,
    ) -> None:
        """Rows of one `group` (a revision's handle) are stepped together."""
        self.synthesizer: Synthesizer | None = synthesizer
        self.request = request
        self.group = group
        self.priority = priority
        self.sink = sink
        self.inspector = AudioInspector(sample_rate=synthesizer.sample_rate, speed=request.speed)
        self.row: Row | None = None
        self.refusal: Exception | None = None
        self.arrived_s = time.monotonic()
        self.stepped_s: float | None = None
        self.first_audio_s: float | None = None
        self.audio_s = 0.0
        self.cancelled = False
        self.paused = False

    @property
    def due_s(self) -> float:
        """When the listener runs out of sound (CLOCK_MONOTONIC s): at arrival, later as far as was spoken ahead."""
        return self.arrived_s if self.first_audio_s is None else self.first_audio_s + self.audio_s
