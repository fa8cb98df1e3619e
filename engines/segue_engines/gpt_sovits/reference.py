"""The reference recording of a voice, measured once when the voice is prepared.

Separate from the engine because it needs models that are no part of a voice (HuBERT, the speaker network); what is
missing is named with what it disables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from segue.engine import ReferenceInput
from segue.errors import WeightsError
from segue_engines.gpt_sovits.front.prompt import prompt_signal
from segue_engines.gpt_sovits.front.resampling import resampled
from segue_engines.gpt_sovits.front.spectrogram import RATE_HZ, reference_signal, spectrogram
from segue_engines.gpt_sovits.parts import Reference
from segue_engines.gpt_sovits.sovits.network import SovitsNetwork
from segue_engines.gpt_sovits.spoken import TextFrontEnd

_SPEAKER_HZ = 16_000


class ReferenceModels(Protocol):
    """Models that listen to a reference. Either may be absent; the property is None then."""

    @property
    def features(self) -> SpeechFeatures | None:
        """HuBERT. Without it, no reference can be measured."""
        ...

    @property
    def speaker(self) -> SpeakerVectors | None:
        """The speaker network. Without it, no reference of a Pro voice can be measured."""
        ...


class SpeechFeatures(Protocol):
    """HuBERT's last hidden state."""

    def __call__(self, signal: Tensor) -> Tensor:
        """`(samples,) float32` at 16 kHz to `(1, 768, frames) float32` at 50 Hz."""
        ...


class SpeakerVectors(Protocol):
    """The speaker network."""

    def vector(self, signal: Tensor) -> Tensor:
        """`(samples,) float32` at 16 kHz to `(1, 20480) float32`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NoModels:
    """No model listens to references."""

    features: SpeechFeatures | None = None
    speaker: SpeakerVectors | None = None


def measured_reference(
    reference: ReferenceInput,
    network: SovitsNetwork,
    *,
    models: ReferenceModels,
    front_end: TextFrontEnd,
) -> Reference:
    """Measure a recording for a voice.

    Parameters
    ----------
    network
        The voice's SoVITS half: its codebook turns features into tokens.

    Raises
    ------
    WeightsError
        No audio file, shorter than 3 s or longer than 10 s; no HuBERT, or a Pro voice and no speaker network.
    TextRejected
        Its text cannot be read.
    """
    recording, rate_hz = _read(reference.path)
    prompt = _prompt(prompt_signal(recording, rate_hz=rate_hz), network, models)
    signal = reference_signal(torch.from_numpy(recording.T.copy()), rate_hz=rate_hz)
    return Reference(
        spectrogram=spectrogram(signal),
        speaker=_speaker(signal, models) if network.config.version.is_pro else None,
        prompt=prompt,
        spoken=front_end.read_reference(reference.text, reference.language),
    )


def _read(path: Path) -> tuple[NDArray[np.float32], int]:
    try:
        recording, rate_hz = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        raise WeightsError(f"{path.name}: the reference cannot be read as audio: {error}") from error
    return np.asarray(recording, np.float32), int(rate_hz)


def _speaker(signal: Tensor, models: ReferenceModels) -> Tensor:
    if models.speaker is None:
        raise WeightsError(
            "the speaker network is not there, and a v2Pro voice cannot speak without the vector that it makes of the "
            "reference: add pretrained_eres2netv2w24s4ep4.ckpt to the shared models"
        )
    return vector_of(signal, models.speaker)


def speaker_of(audio: NDArray[np.float32], *, rate_hz: int, network: SpeakerVectors) -> Tensor:
    """Who speaks in `(samples,) float32`: the vector `(1, 20480) float32`, made on the way that references take."""
    return vector_of(reference_signal(torch.from_numpy(audio.copy()), rate_hz=rate_hz), network)


def vector_of(signal: Tensor, network: SpeakerVectors) -> Tensor:
    """Who speaks in a signal `(samples,) float32` of `front.spectrogram.reference_signal`: `(1, 20480) float32`."""
    return network.vector(resampled(signal, source_hz=RATE_HZ, target_hz=_SPEAKER_HZ))


def _prompt(to_hear: NDArray[np.float32], network: SovitsNetwork, models: ReferenceModels) -> Tensor:
    if models.features is None:
        raise WeightsError(
            "HuBERT is not there, and no voice can be prepared without the tokens that it makes of the reference: add "
            "chinese-hubert-base to the shared models"
        )
    return network.codes_of(models.features(torch.from_numpy(to_hear)))
