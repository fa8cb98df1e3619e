"""A request's own recordings, measured while others are served.

Separate from `reference`, which measures the voice's own when it is prepared: here the files were chosen by a client,
so everything is bounded before it is decoded, and what cannot be used is told as a mistake of the request.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from segue.engine import ReferenceRecording
from segue.errors import OptionRejected, TextRejected, WeightsError
from segue_engines.gpt_sovits.front.prompt import prompt_signal
from segue_engines.gpt_sovits.front.spectrogram import reference_signal, spectrogram
from segue_engines.gpt_sovits.parts import Reference
from segue_engines.gpt_sovits.reference import ReferenceModels, vector_of
from segue_engines.gpt_sovits.sovits.network import SovitsNetwork
from segue_engines.gpt_sovits.spoken import Spoken, TextFrontEnd

_RATES_HZ: Final = (4_000, 384_000)
_MOST_CHANNELS: Final = 8
_LONGEST_S: Final = 60.0
"""Of one that lends its timbre only; one that is continued has 3 to 10 s."""


def measured_recordings(
    recordings: Sequence[ReferenceRecording],
    network: SovitsNetwork,
    *,
    models: ReferenceModels,
    front_end: TextFrontEnd,
) -> list[Reference]:
    """Measure recordings for a voice. The first is continued, if its text is told.

    Parameters
    ----------
    network
        The voice's SoVITS half: its codebook turns features into tokens.

    Raises
    ------
    OptionRejected
        No audio, too short or too long, a text that cannot be read, or a model that is missing.
    """
    first, *others = recordings
    try:
        return [
            _continued(first, network, models=models, front_end=front_end),
            *(_timbre(each, *_decoded(each), network, models=models) for each in others),
        ]
    except WeightsError as error:
        raise OptionRejected(f"reference {first.name!r}: {error}", option="reference") from error


def _continued(
    recording: ReferenceRecording, network: SovitsNetwork, *, models: ReferenceModels, front_end: TextFrontEnd
) -> Reference:
    samples, rate_hz = _decoded(recording)
    to_hear = prompt_signal(samples, rate_hz=rate_hz)
    timbre = _timbre(recording, samples, rate_hz, network, models=models)
    if not recording.text:
        return timbre
    if models.features is None:
        raise OptionRejected(
            f"reference {recording.name!r}: speech can continue what is said in it only with HuBERT, which is not "
            "among the shared models here: add it, or leave the text out to take the timbre alone",
            option="reference.text",
        )
    try:
        spoken = front_end.read_reference(recording.text, recording.language)
    except TextRejected as error:
        raise OptionRejected(f"the text of reference {recording.name!r}: {error}", option="reference.text") from error
    prompt = network.codes_of(models.features(torch.from_numpy(to_hear)).to(network.device))
    return Reference(spectrogram=timbre.spectrogram, speaker=timbre.speaker, prompt=prompt, spoken=spoken)


def _timbre(
    recording: ReferenceRecording,
    samples: NDArray[np.float32],
    rate_hz: int,
    network: SovitsNetwork,
    *,
    models: ReferenceModels,
) -> Reference:
    signal = reference_signal(torch.from_numpy(samples.T.copy()), rate_hz=rate_hz)
    return Reference(
        spectrogram=spectrogram(signal),
        speaker=_speaker(recording, signal, models) if network.config.version.is_pro else None,
        prompt=torch.zeros(0, dtype=torch.int64),
        spoken=Spoken(phones=(), ids=()),
    )


def _speaker(recording: ReferenceRecording, signal: Tensor, models: ReferenceModels) -> Tensor:
    if models.speaker is None:
        raise OptionRejected(
            f"reference {recording.name!r}: a v2Pro voice needs the speaker network to hear it, which is not among the "
            "shared models here: add pretrained_eres2netv2w24s4ep4.ckpt, or leave the reference out",
            option="reference",
        )
    return vector_of(signal, models.speaker)


def _decoded(recording: ReferenceRecording) -> tuple[NDArray[np.float32], int]:
    """Samples `(samples,)` or `(samples, channels) float32` and their rate, of an audio file that may say anything."""
    try:
        with soundfile.SoundFile(io.BytesIO(recording.audio)) as file:
            _check_header(recording, file)
            rate_hz = int(file.samplerate)
            samples = file.read(int(_LONGEST_S * rate_hz) + 1, dtype="float32")
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise OptionRejected(
            f"reference {recording.name!r} cannot be read as audio: {error}", option="reference"
        ) from error
    if not np.isfinite(samples).all():
        raise OptionRejected(f"reference {recording.name!r} has samples that are no numbers", option="reference")
    return np.asarray(samples, np.float32), rate_hz


def _check_header(recording: ReferenceRecording, file: soundfile.SoundFile) -> None:
    lowest, highest = _RATES_HZ
    if not lowest <= file.samplerate <= highest or file.channels > _MOST_CHANNELS:
        raise OptionRejected(
            f"reference {recording.name!r} has {file.channels} channels at {file.samplerate} Hz; at most "
            f"{_MOST_CHANNELS} and {lowest} to {highest} Hz are taken",
            option="reference",
        )
    if file.frames > _LONGEST_S * file.samplerate:
        raise OptionRejected(
            f"reference {recording.name!r} is {file.frames / file.samplerate:.1f} s long; at most {_LONGEST_S:g} s "
            "are taken",
            option="reference",
        )
