"""One built voice: rows join, say a token a step, and are decoded chunk by chunk as tokens come.

Separate from the engine, which makes it, and from the networks, which know no requests. What is computed for a row
depends on that row alone; which rows share a step decides only how fast it goes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segue.engine import ReferenceRecording, Row, SynthesisRequest, VoiceView
from segue.errors import OptionRejected, SynthesisError
from segue_engines.gpt_sovits.manner import Manner, manner_of
from segue_engines.gpt_sovits.options import cut_of, delivery_of
from segue_engines.gpt_sovits.parts import (
    GPT,
    REFERENCE,
    SOVITS,
    reference_of,
    sovits_network,
    t2s_network,
)
from segue_engines.gpt_sovits.recordings import measured_recordings
from segue_engines.gpt_sovits.reference import NoModels, ReferenceModels, speaker_of
from segue_engines.gpt_sovits.row import GptSovitsRow
from segue_engines.gpt_sovits.sovits.chunks import Window, render
from segue_engines.gpt_sovits.sovits.network import SAMPLE_RATE, SovitsNetwork
from segue_engines.gpt_sovits.spoken import TextFrontEnd
from segue_engines.gpt_sovits.t2s.decode import MAX_STEPS, T2SBatch, TokenRow
from segue_engines.gpt_sovits.t2s.graphs import new_batch

SLOTS: Final = 16
"""Rows that say tokens together; others wait for a place."""
CAPACITY: Final = 2560
"""Phones and tokens of a row: the longest piece of text, a reference of ten seconds, and the cap."""
_JOINS: Final = 2
"""Rows that join in one step: they read their whole texts first, which takes as long as a step or two for each."""
_SHORTEST_HEARD_S: Final = 0.5
"""The speaker network's maps are of nothing below that."""
_FRAMES_TOGETHER: Final = 160
"""Frames that are decoded in one step, so that a step stays short: others want their tokens."""


class GptSovitsSynthesizer:
    """One voice, ready to speak."""

    def __init__(
        self,
        voice: VoiceView,
        front_end: TextFrontEnd,
        *,
        models: ReferenceModels | None = None,
        slots: int = SLOTS,
        capacity: int = CAPACITY,
        max_steps: int = MAX_STEPS,
    ) -> None:
        """`models` listen to recordings that requests bring; None: no request may."""
        self._front_end: TextFrontEnd | None = front_end
        self._max_steps = max_steps
        self._options = dict(voice.options)
        self._batch: T2SBatch | None = new_batch(t2s_network(voice.parts[GPT]), slots=slots, capacity=capacity)
        self._decoder: SovitsNetwork | None = sovits_network(voice.parts[SOVITS])
        self._manner = manner_of([reference_of(voice.parts[REFERENCE])], self._decoder)
        self._models: ReferenceModels = models or NoModels()
        self._heard_by = _digests(voice)

    @property
    def sample_rate(self) -> int:
        """32,000 Hz."""
        return SAMPLE_RATE

    def parameters(self) -> Mapping[str, Tensor]:
        """Every tensor of the arena that this synthesizer computes with, by `part.name`."""
        if self._batch is None or self._decoder is None:
            raise _closed()
        halves = {GPT: self._batch.network.parameters, SOVITS: self._decoder.parameters}
        return {f"{half}.{name}": tensor for half, found in halves.items() for name, tensor in found.items()}

    def admit(self, request: SynthesisRequest) -> GptSovitsRow:
        """Read the text and make a row.

        Raises
        ------
        TextRejected
            The text cannot be read.
        OptionRejected
            An option of the request that the engine lacks or that is out of range.
        """
        front_end = self._front_end
        if front_end is None:
            raise _closed()
        delivery = delivery_of(self._options, request)
        manner = self._manner if request.reference is None else request.reference
        if not isinstance(manner, Manner):
            raise OptionRejected("the reference was measured by another engine: measure it again", option="reference")
        language = request.language or str(self._options.get("language", "auto"))
        spoken = front_end.read(request.text, language, cut=cut_of(self._options, request))
        return GptSovitsRow(spoken, delivery, manner, self._leave)

    def reference_key(self, recordings: Sequence[ReferenceRecording]) -> str:
        """The recordings, what is said in them, and who listens: this SoVITS half and the shared models."""
        said = [(each.digest, each.text, each.language) for each in recordings]
        return json.dumps([said, self._heard_by])

    def measure(self, recordings: Sequence[ReferenceRecording]) -> Manner:
        """Measure a request's own recordings; from any thread.

        Raises
        ------
        OptionRejected
            A recording or its text cannot be used, or a model is missing that listens to it.
        """
        decoder, front_end = self._decoder, self._front_end
        if decoder is None or front_end is None:
            raise _closed()
        measured = measured_recordings(recordings, decoder, models=self._models, front_end=front_end)
        return manner_of(measured, decoder)

    def speaker_vector(self, audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32] | None:
        """Who speaks, as the speaker network of Pro voices hears it, `(20480,) float32`; see `KnowsSpeakers`."""
        decoder, network = self._decoder, self._models.speaker
        if decoder is None:
            raise _closed()
        if not decoder.config.version.is_pro or network is None or len(audio) < _SHORTEST_HEARD_S * sample_rate:
            return None
        vector: NDArray[np.float32] = speaker_of(audio, rate_hz=sample_rate, network=network).numpy()[0]
        return vector

    def step(self, rows: Sequence[Row]) -> None:
        """One more token for each row that needs one, and one piece of sound for those that can be heard."""
        mine = [row for row in rows if isinstance(row, GptSovitsRow) and not row.done]
        for row in mine:
            if row.talk is None:
                self._begin(row)
        self._talk([row for row in mine if not row.done and row.hungry])
        self._sound([row for row in mine if not row.done and row.audible])

    def close(self) -> None:
        """Drop every view into an arena, those of shared models included."""
        self._front_end = None
        self._batch = None
        self._decoder = None
        self._models = NoModels()

    def _begin(self, row: GptSovitsRow) -> None:
        try:
            row.begin(max_steps=self._max_steps)
        except Exception as error:  # noqa: BLE001 - the boundary between rows: one row must not stop the others
            row.fail(error.with_traceback(None))

    def _leave(self, talk: TokenRow) -> None:
        if self._batch is not None:
            self._batch.leave(talk)

    # --- tokens -----------------------------------------------------------------------------------------------------

    def _talk(self, rows: Sequence[GptSovitsRow]) -> None:
        batch = self._batch
        if batch is None:
            _fail(rows, _closed())
            return
        joined = {id(row) for row in batch.rows}
        talking = [row for row in rows if id(row.talk) in joined]
        waiting = [row for row in rows if id(row.talk) not in joined]
        _each_alone_if_not_together(lambda group: batch.step([row.talk for row in group if row.talk]), talking)
        joining = waiting[: min(_JOINS, batch.free)]
        _each_alone_if_not_together(lambda group: batch.join(*(row.talk for row in group if row.talk)), joining)
        for row in rows:
            if row.talk is not None and row.talk.broken:
                row.fail(SynthesisError("the T2S network computes no numbers any more: its weights are damaged"))

    # --- sound ------------------------------------------------------------------------------------------------------

    def _sound(self, rows: Sequence[GptSovitsRow]) -> None:
        decoder = self._decoder
        if decoder is None:
            _fail(rows, _closed())
            return
        windows: list[tuple[GptSovitsRow, Window]] = []
        frames = 0
        for row in rows:
            window = self._window(decoder, row)
            if window is not None:
                windows.append((row, window))
                frames += window.frames
            if frames >= _FRAMES_TOGETHER:
                break
        for group in _of_one_shape_and_manner(windows):
            self._render(decoder, group)

    def _window(self, decoder: SovitsNetwork, row: GptSovitsRow) -> Window | None:
        sound, talk = row.sound, row.talk
        assert sound is not None
        assert talk is not None
        try:
            window = sound.window(decoder, row.manner.condition, talk.tokens)
        except Exception as error:  # noqa: BLE001 - the boundary between rows: one row must not stop the others
            row.fail(error.with_traceback(None))
            return None
        if window is None:
            row.hand_out(np.zeros(0, np.float32))
        return window

    def _render(self, decoder: SovitsNetwork, group: Sequence[tuple[GptSovitsRow, Window]]) -> None:
        windows = {id(row): window for row, window in group}
        condition = group[0][0].manner.condition

        def work(rows: Sequence[GptSovitsRow]) -> None:
            chosen = [windows[id(row)] for row in rows]
            for row, window, rendered in zip(rows, chosen, render(decoder, condition, chosen), strict=True):
                assert row.sound is not None
                samples = row.sound.accept(window, rendered, hop=decoder.config.hop_length)
                row.hand_out(_array(samples))

        _each_alone_if_not_together(work, [row for row, _ in group])


def _array(samples: Tensor) -> NDArray[np.float32]:
    array: NDArray[Any] = samples.cpu().numpy()
    return np.asarray(array, np.float32)


def _digests(voice: VoiceView) -> list[str]:
    """Of all that measures recordings; something unique where a voice lies in no arena."""
    listeners = [voice.parts[SOVITS], *voice.shared.values()]
    return [part.digest or secrets.token_hex(16) for part in listeners]


def _of_one_shape_and_manner(
    windows: Sequence[tuple[GptSovitsRow, Window]],
) -> list[list[tuple[GptSovitsRow, Window]]]:
    groups: dict[tuple[int, tuple[int, int, int]], list[tuple[GptSovitsRow, Window]]] = {}
    for row, window in windows:
        groups.setdefault((id(row.manner), window.shape), []).append((row, window))
    return list(groups.values())


def _each_alone_if_not_together(work: Callable[[Sequence[GptSovitsRow]], None], rows: Sequence[GptSovitsRow]) -> None:
    """Do a batch; if it fails, do its rows one by one, so that only the culprit fails."""
    if not rows:
        return
    try:
        work(rows)
    except Exception as error:  # noqa: BLE001 - the boundary between rows: one row must not stop the others
        if len(rows) == 1:
            rows[0].fail(error.with_traceback(None))  # its frames hold views of weights
            return
        for row in rows:
            _each_alone_if_not_together(work, [row])


def _fail(rows: Sequence[GptSovitsRow], error: Exception) -> None:
    for row in rows:
        row.fail(error)


def _closed() -> RuntimeError:
    return RuntimeError("this synthesizer was closed")
