"""One fragment of text on its way from tokens to samples, in chunks that come as its tokens come.

Separate from the network, which decodes what it is given, because here it is decided *what* that is, and that decides
how the voice sounds. The encoder looks at all codes it has (attention), so what is heard depends on when it is asked.
Therefore it is asked at fixed numbers of tokens, whether somebody waits for the sound or not, and whoever shares the
batch: a stream and a whole answer have the same samples.

Chunk k is decoded once the fragment has `T_k` tokens, and lasts until `LOOKAHEAD` frames before the end of those; the
next one is faded into it. Flow and generator reach a bounded number of frames to either side, so each is given its
window and that many frames more, and computes what it would compute with the whole: exactly to the left, where nothing
changes any more, and to the right as far as tokens are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from typing import Final

import torch
from torch import Tensor

from segue_engines.gpt_sovits.randomness import normals
from segue_engines.gpt_sovits.sovits.encoder import FRAMES_PER_CODE, spoken_frames
from segue_engines.gpt_sovits.sovits.network import NOISE_SCALE, Condition, SovitsNetwork

_STEPS: Final = (12, 16, 32)
_LATER_STEP: Final = 64
"""Tokens at which chunks are decoded: 12, 28, 60, then every 64. A token is 40 ms."""
LOOKAHEAD: Final = 8
"""Frames of 20 ms at the end of what is known that are decoded anew with the next chunk."""
FADE: Final = 2
"""Frames over which a chunk fades into the next."""
PIECE: Final = 2 * _LATER_STEP
"""Frames handed out at once: longer chunks (where the whole is decoded) come in pieces, so that others get a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A piece of work for flow and generator.

    Attributes
    ----------
    z_p
        `(1, latent, frames)`: the piece with all that it depends on.
    kept
        The frames of it that the generator needs.
    skipped
        Frames of those whose samples are not wanted: they stand to the left of the piece.
    frames
        Length of the piece; after it come `fade` more, to be faded into the next chunk.
    """

    z_p: Tensor
    kept: slice
    skipped: int
    frames: int
    fade: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Windows of one shape can be rendered together."""
        return self.z_p.shape[2], self.kept.start, self.kept.stop


class Fragment:
    """The decoder's side of one fragment. Holds computed values only, no weights."""

    def __init__(self, phones: Sequence[int], *, key: int, speed: float = 1.0, whole: bool = False) -> None:
        """Begin a fragment.

        Parameters
        ----------
        phones
            Phone ids of its text.
        key
            Of its noise, from `row_key`.
        whole
            Decode it at once when all its tokens are there, as the original does without streaming.
        """
        self._phones = tuple(phones)
        self._key = key
        self._speed = speed
        self._whole = whole
        self._passes = 0
        self._text: Tensor | None = None
        self._z_p: Tensor | None = None
        self._heard = 0
        self._chunk_end = 0
        self._final = False
        self._tail: Tensor | None = None

    @property
    def done(self) -> bool:
        """True once every sample was handed out."""
        return self._final and self._heard == self._chunk_end

    def due(self, tokens: int, *, finished: bool) -> bool:
        """Whether there is something to decode with so many tokens; `finished`: no more will come."""
        return self._heard < self._chunk_end or (not self._final and (finished or tokens >= self._next_pass))

    @torch.inference_mode()
    def window(self, network: SovitsNetwork, voice: Condition, tokens: Sequence[int]) -> Window | None:
        """The next piece to render, or None where a chunk is too short for one. Call when `due`."""
        if self._heard == self._chunk_end:
            self._encode(network, voice, tokens)
        if self._heard == self._chunk_end:
            return None
        assert self._z_p is not None
        known = self._z_p.shape[2]
        end = min(self._heard + PIECE, self._chunk_end)
        fade = min(FADE, known - end) if end == self._chunk_end else 0
        first, last = max(self._heard - network.halo, 0), min(end + fade + network.halo, known)
        left, right = max(self._heard - network.generator_halo, 0), min(end + fade + network.generator_halo, known)
        return Window(
            z_p=self._z_p[:, :, first:last],
            kept=slice(left - first, right - first),
            skipped=self._heard - left,
            frames=end - self._heard,
            fade=fade,
        )

    def accept(self, window: Window, rendered: Tensor, *, hop: int) -> Tensor:
        """Take the samples `(frames of kept * hop,)` of a window; returns those that are final."""
        start = window.skipped * hop
        count = window.frames * hop
        samples = rendered[start : start + count].clone()
        if self._tail is not None:
            length = min(len(self._tail), count)
            rise = torch.arange(1, length + 1, device=samples.device) / (length + 1)
            samples[:length] = self._tail[:length] * (1 - rise) + samples[:length] * rise
            self._tail = None
        if window.fade and not self._final:
            self._tail = rendered[start + count : start + count + window.fade * hop].clone()
        self._heard += window.frames
        return samples

    @property
    def _next_pass(self) -> int | float:
        if self._whole:
            return math.inf
        steps = chain(_STEPS, repeat(_LATER_STEP))
        return next(total for place, total in enumerate(accumulate(steps)) if place == self._passes)

    def _encode(self, network: SovitsNetwork, voice: Condition, tokens: Sequence[int]) -> None:
        """Look at the tokens of the next chunk; what was heard of the latents before stays as it is."""
        count = self._next_pass
        self._final = count > len(tokens)
        codes = torch.tensor(tokens if self._final else tokens[: int(count)], device=network.device)
        self._passes += 1
        if self._text is None:
            self._text = network.encode_text(torch.tensor(self._phones, device=network.device))
        mean, log_scale = network.project(self._latent(network, voice, codes))
        known = mean.shape[2]
        noise = normals(
            self._key,
            first=self._heard,
            count=max(known - self._heard, 0),
            channels=mean.shape[1],
            device=mean.device,
        )
        fresh = mean[:, :, self._heard :] + noise * torch.exp(log_scale[:, :, self._heard :]) * NOISE_SCALE
        self._z_p = fresh if self._z_p is None else torch.cat((self._z_p[:, :, : self._heard], fresh), dim=2)
        self._chunk_end = max(known if self._final else known - LOOKAHEAD, self._heard)

    def _latent(self, network: SovitsNetwork, voice: Condition, codes: Tensor) -> Tensor:
        assert self._text is not None
        if self._whole:
            return network.encode(codes, self._text, voice, speed=self._speed).latent
        latent = network.encode(codes, self._text, voice).latent
        if self._speed == 1.0:
            return latent
        frames = FRAMES_PER_CODE * len(codes)
        return _paced(
            latent, self._speed, spoken_frames(len(codes), self._speed) if self._final else int(frames / self._speed)
        )


def _paced(latent: Tensor, speed: float, frames: int) -> Tensor:
    """Interpolate as the original does, but so that a frame does not depend on how many follow."""
    at = ((torch.arange(frames, device=latent.device) + 0.5) * speed - 0.5).clamp(0, latent.shape[2] - 1)
    before = at.floor().long()
    after = (before + 1).clamp(max=latent.shape[2] - 1)
    share = at - before
    return latent[:, :, before] * (1 - share) + latent[:, :, after] * share


@torch.inference_mode()
def render(network: SovitsNetwork, voice: Condition, windows: Sequence[Window]) -> list[Tensor]:
    """Samples of windows of one shape, together; see `Fragment.accept`."""
    z = network.undo_flow(torch.cat([window.z_p for window in windows]), voice)
    return list(network.samples(z[:, :, windows[0].kept], voice).unbind())
