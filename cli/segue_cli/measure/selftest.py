"""Does the detector of mixed answers hear the faults it is there for?

Separate so that every run of a bench or the demo can say so beside its `mixed: 0`: a zero of a deaf detector is worth
nothing. Both faults are made from the very revisions and texts of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segue_cli.measure.audio import decode, encode_wav
from segue_cli.measure.mixed import Rendering, inject_faults, judge, judge_pilots
from segue_cli.measure.renderings import Renderings
from segue_cli.measure.shots import Shot


@dataclass(slots=True)
class SelfTest:
    """How many injected faults were caught, and how many honest answers passed."""

    injected: int = 0
    caught: int = 0
    honest: int = 0
    passed: int = 0

    @property
    def good(self) -> bool:
        """Every fault caught, every honest answer passed, and some of each were tried."""
        return 0 < self.injected == self.caught and 0 < self.honest == self.passed


def try_the_detector(renderings: Renderings, shots: Sequence[Shot], *, one: str, other: str) -> SelfTest:
    """Inject half-mixing and mid-stream switches into each shot's text, between two revisions of its voice."""
    result = SelfTest()
    for shot in shots:
        both = {rendering.revision: rendering for rendering in renderings(shot, one)}
        named, rival = both[one], both[other]
        seed = shot.seed or 0
        halves = renderings.of_halves(shot.voice, one=one, other=other).speak(shot.text, seed=seed)
        switched = inject_faults(named.samples, rival.samples, named.rate_hz)
        for fault in (halves, switched, _patched(named, rival)):
            result.injected += 1
            result.caught += _is_caught(fault, named=named, rival=rival)
        result.honest += 1
        result.passed += not _is_caught(named.samples, named=named, rival=rival)
    return result


def _patched(named: Rendering, rival: Rendering) -> NDArray[np.float32]:
    """One foreign window of 100 ms in the middle of an answer, its length unchanged."""
    size = named.rate_hz // 10
    shared = min(len(named.samples), len(rival.samples))
    begin = max(0, shared // 2 // size * size - size)
    patched = named.samples.copy()
    patched[begin : begin + size] = rival.samples[begin : begin + size]
    return patched


def _is_caught(samples: NDArray[np.float32], *, named: Rendering, rival: Rendering) -> bool:
    sent, _ = decode(encode_wav(samples, named.rate_hz), response_format="wav")
    by_sound = judge(sent, named=named, others=[rival])
    return by_sound is not None or judge_pilots(sent, named=named, others=[rival]) is not None
