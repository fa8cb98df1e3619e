"""The SoVITS network as a whole: codes and phones in, samples out.

Separate from its parts so that a caller needs one object; every intermediate result that the golden vectors know is
to be had from its methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.formats import SovitsConfig
from segue_engines.gpt_sovits.sovits import condition, encoder
from segue_engines.gpt_sovits.sovits.encoder import Encoded
from segue_engines.gpt_sovits.sovits.flow import HALO, flow_conditions, undo_flow
from segue_engines.gpt_sovits.sovits.generator import generator_condition, generator_halo, samples_of

SAMPLE_RATE: Final = 32_000
NOISE_SCALE: Final = 0.5
"""What the original's API multiplies the decoder's noise by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a voice sounds: the vector, and what it adds in flow and generator, which is the same for every frame.

    Attributes
    ----------
    vector
        `(1, condition, 1) float32` (`ge` in the original).
    """

    vector: Tensor
    flow: list[Tensor]
    generator: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Everything on the way from codes to samples.

    Attributes
    ----------
    mean, log_scale, z_p, z
        `(1, latent, frames) float32`: the encoder's distribution, what was drawn from it, and the flow's output.
    samples
        `(frames * 640,) float32` at 32 kHz.
    """

    encoded: Encoded
    mean: Tensor
    log_scale: Tensor
    z_p: Tensor
    z: Tensor
    samples: Tensor


class SovitsNetwork:
    """The network on tensors that belong to somebody else (an arena); weight norm is folded already.

    Attributes
    ----------
    parameters
        Those tensors.
    halo, generator_halo
        Latent frames to either side on which a sample depends: through flow and generator, through the latter alone.
    """

    def __init__(self, config: SovitsConfig, tensors: Mapping[str, Tensor]) -> None:
        self.config = config
        self._weights = tensors
        self.parameters = tensors
        self.generator_halo = generator_halo(config)
        self.halo = HALO + self.generator_halo

    @property
    def device(self) -> torch.device:
        """Where it computes: where its weights lie."""
        return encoder.codebook(self._weights).device

    @torch.inference_mode()
    def condition(self, spectrograms: Sequence[Tensor], speakers: Sequence[Tensor] = ()) -> Condition:
        """Make the condition of one or several references; see `condition_of`."""
        return self.condition_from(condition.condition_of(self._weights, self.config, spectrograms, speakers))

    @torch.inference_mode()
    def condition_from(self, vector: Tensor) -> Condition:
        """Work out what a condition vector `(1, condition, 1)` adds everywhere."""
        return Condition(
            vector=vector,
            flow=flow_conditions(self._weights, vector),
            generator=generator_condition(self._weights, vector),
        )

    @torch.inference_mode()
    def encode_text(self, phones: Tensor) -> Tensor:
        """Encode the phone ids `(m,) int64` of the text alone, without the reference's; `(m, hidden)`."""
        return encoder.encode_text(self._weights, self.config, phones)

    @torch.inference_mode()
    def encode(self, codes: Tensor, text: Tensor, voice: Condition, *, speed: float = 1.0) -> Encoded:
        """Encode codes `(n,) int64` beside the encoded text."""
        return encoder.encode(self._weights, self.config, codes, text, voice.vector, speed=speed)

    @torch.inference_mode()
    def project(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log scale of an encoder output; see `encoder.project`."""
        return encoder.project(self._weights, latent)

    @torch.inference_mode()
    def undo_flow(self, z_p: Tensor, voice: Condition) -> Tensor:
        """`(rows, latent, frames)` to the generator's latents of the same shape."""
        return undo_flow(self._weights, self.config, z_p, voice.flow)

    @torch.inference_mode()
    def samples(self, z: Tensor, voice: Condition) -> Tensor:
        """`(rows, latent, frames)` to `(rows, frames * 640)`."""
        return samples_of(self._weights, self.config, z, voice.generator)

    @torch.inference_mode()
    def decode(
        self,
        codes: Tensor,
        phones: Tensor,
        voice: Condition,
        *,
        noise: Tensor | None = None,
        noise_scale: float = NOISE_SCALE,
        speed: float = 1.0,
    ) -> Decoded:
        """Decode a whole utterance at once.

        Parameters
        ----------
        noise
            `(1, latent, frames) float32`, where `frames = encoder.spoken_frames(n, speed)`; None for no noise.

        Raises
        ------
        SynthesisError
            Noise of another shape.
        """
        encoded = self.encode(codes, self.encode_text(phones), voice, speed=speed)
        return self._decode(encoded, voice, noise, noise_scale)

    @torch.inference_mode()
    def decode_tail(
        self,
        codes: Tensor,
        phones: Tensor,
        voice: Condition,
        *,
        keep: int,
        before: Tensor | None = None,
        noise: Tensor | None = None,
        noise_scale: float = NOISE_SCALE,
    ) -> Decoded:
        """Decode the last `keep` codes of a growing utterance, as the original streams.

        Parameters
        ----------
        before
            `encoded.latent` of the call before, whose last four frames the first four of this one are mixed with.
        """
        encoded = self.encode(codes, self.encode_text(phones), voice)
        latent = encoded.latent[:, :, -encoder.FRAMES_PER_CODE * keep :]
        if before is not None:
            latent = encoder.mix_latents(before, latent)
        cut = Encoded(
            quantized=encoded.quantized, ssl=encoded.ssl, text=encoded.text, cross=encoded.cross, latent=latent
        )
        return self._decode(cut, voice, noise, noise_scale)

    def _decode(self, encoded: Encoded, voice: Condition, noise: Tensor | None, noise_scale: float) -> Decoded:
        mean, log_scale = self.project(encoded.latent)
        z_p = mean
        if noise is not None:
            if noise.shape != mean.shape:
                raise SynthesisError(f"noise of shape {tuple(noise.shape)}; expected {tuple(mean.shape)}")
            z_p = mean + noise * torch.exp(log_scale) * noise_scale
        z = self.undo_flow(z_p, voice)
        samples = self.samples(z, voice)[0]
        return Decoded(encoded=encoded, mean=mean, log_scale=log_scale, z_p=z_p, z=z, samples=samples)

    @torch.inference_mode()
    def codes_of(self, features: Tensor) -> Tensor:
        """Codes `(frames // 2,) int64` of HuBERT features `(1, 768, frames) float32`; an odd last frame is lost."""
        return nearest_codes(encoder.codebook(self._weights), self.projected(features))

    @torch.inference_mode()
    def projected(self, features: Tensor) -> Tensor:
        """HuBERT features `(1, 768, frames)` at 25 Hz, `(1, 768, frames // 2)`: what codes are looked up for."""
        return conv1d(features, self._weights["ssl_proj.weight"], self._weights["ssl_proj.bias"], stride=2)


def nearest_codes(codebook: Tensor, projected: Tensor) -> Tensor:
    """The nearest row of `codebook (codes, width)` for each frame of `projected (1, width, frames)`."""
    frames = projected[0].T
    distances = frames.square().sum(1, keepdim=True) - 2 * frames @ codebook.T + codebook.square().sum(1)
    return distances.argmin(dim=1)
