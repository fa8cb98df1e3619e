"""Having an engine say many sentences, several together, as it would for listeners.

Separate from the run, which measures and judges what comes of it. Saying sixteen sentences together takes an engine
that batches a fraction of the time of saying them in turn, and a whole verification is 54 of them.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Final

import numpy as np

from segue.engine import Row, SynthesisRequest, Synthesizer
from segue_engines.probes.cases import Case
from segue_engines.probes.measure import Clip
from segue_engines.probes.spectrum import Audio

logger = logging.getLogger(__name__)

TOGETHER: Final = 16
_MAX_UTTERANCE_S: Final = 180.0
_MAX_STEPS: Final = 20_000


def speak_all(
    synthesizer: Synthesizer, wanted: Sequence[tuple[Case, int]], *, together: int = TOGETHER
) -> Generator[tuple[int, Clip], None, None]:
    """Say every case with its seed, at most `together` at a time.

    Yields
    ------
    (place in `wanted`, clip)
        As they end. What the engine raises is in the clip, of the culprit alone.
    """
    waiting = deque(enumerate(wanted))
    speaking: list[_Utterance] = []
    try:
        while waiting or speaking:
            while waiting and len(speaking) < together:
                place, (case, seed) = waiting.popleft()
                try:
                    speaking.append(_Utterance(synthesizer, place, case, seed))
                except Exception as raised:  # noqa: BLE001 - the engine's boundary: it is in the report
                    yield place, _failed(synthesizer, case, seed, raised)
            began = time.perf_counter()
            try:
                if unfinished := [each.row for each in speaking if not each.row.done]:
                    synthesizer.step(unfinished)
            except Exception as raised:  # noqa: BLE001 - the engine's boundary: it is in the report
                # It does not say whose fault that is: each by itself.
                for each in tuple(speaking):
                    speaking.remove(each)
                    each.row.close()
                    if together == 1:
                        yield each.place, _failed(synthesizer, each.case, each.seed, raised)
                    else:
                        yield each.place, speak(synthesizer, each.case, each.seed)
                continue
            share_s = (time.perf_counter() - began) / max(len(speaking), 1)
            for each in tuple(speaking):
                clip = each.after_step(share_s)
                if clip is not None:
                    speaking.remove(each)
                    each.row.close()
                    yield each.place, clip
    finally:
        for each in speaking:
            each.row.close()


def speak(synthesizer: Synthesizer, case: Case, seed: int) -> Clip:
    """Speak one case by itself; what the engine raises is in the clip."""
    [(_, clip)] = speak_all(synthesizer, [(case, seed)], together=1)
    return clip


class _Utterance:
    """One that is being spoken."""

    def __init__(self, synthesizer: Synthesizer, place: int, case: Case, seed: int) -> None:
        """Raises what the engine raises for a text that it cannot read."""
        self.place = place
        self.case = case
        self.seed = seed
        began = time.perf_counter()
        self.row: Row = synthesizer.admit(SynthesisRequest(text=case.text, language=case.language, seed=seed))
        self._synthesizer = synthesizer
        self._pieces: list[Audio] = []
        self._samples = 0
        self._steps = 0
        self._synthesis_s = time.perf_counter() - began

    def after_step(self, took_s: float) -> Clip | None:
        """Take what was made. A clip once it has ended, or does not end within bounds: that counts as capped."""
        self._steps += 1
        self._synthesis_s += took_s
        try:
            ended = self.row.done
            self._pieces.append(self.row.take())
            self._samples += self._pieces[-1].size
            endless = self._steps >= _MAX_STEPS or self._samples > _MAX_UTTERANCE_S * self._synthesizer.sample_rate
            return self._clip(ended=ended) if ended or endless else None
        except Exception as raised:  # noqa: BLE001 - the engine's boundary: it is in the report
            return _failed(self._synthesizer, self.case, self.seed, raised)

    def _clip(self, *, ended: bool) -> Clip:
        error = self.row.error
        return Clip(
            case=self.case,
            seed=self.seed,
            audio=np.concatenate(self._pieces).astype(np.float32, copy=False),
            sample_rate=self._synthesizer.sample_rate,
            phones=tuple(self.row.phones),
            tokens=tuple(self.row.tokens),
            capped=self.row.capped or not ended,
            error=None if error is None else _told(error),
            synthesis_s=self._synthesis_s,
        )


def _failed(synthesizer: Synthesizer, case: Case, seed: int, raised: Exception) -> Clip:
    logger.warning("probe: the engine could not speak %r", case.text[:60], exc_info=raised)
    return Clip(
        case=case,
        seed=seed,
        audio=np.zeros(0, np.float32),
        sample_rate=synthesizer.sample_rate,
        phones=(),
        tokens=(),
        error=_told(raised),
    )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
