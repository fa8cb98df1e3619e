"""The demo voice in torch, for training only; `segue_engines.demo.network` is the same arithmetic in numpy.

Two halves. `Prosody` reads phones and says when and at which pitch; `Timbre` turns its frames into spectra. Layouts are
(batch, time, channels) and weights (in, out), as numpy multiplies them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segue_engines.demo.text.inventory import PHONES

ENCODER = {"width": 160, "hidden": 640, "kernel": 5, "dilations": [1, 2, 4, 1]}
PITCH = {"width": 192, "hidden": 576, "kernel": 7, "dilations": [1, 3]}
DECODER = {"width": 192, "hidden": 576, "kernel": 7, "dilations": [1, 2, 1, 2, 1]}
POSITION_FEATURES = 6
FRAME_FEATURES = 5
BANDS = 80


def weight(*shape: int) -> nn.Parameter:
    """A matrix (in, out), scaled by its number of inputs."""
    return nn.Parameter(torch.randn(*shape) / shape[0] ** 0.5)


class Block(nn.Module):
    """Depthwise convolution over time, layer norm without gain, two dense layers with a ReLU, residual."""

    def __init__(self, *, width: int, hidden: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.depthwise = nn.Parameter(torch.randn(kernel, width) / kernel**0.5)
        self.depthwise_bias = nn.Parameter(torch.zeros(width))
        self.expand = weight(width, hidden)
        self.expand_bias = nn.Parameter(torch.zeros(hidden))
        self.project = nn.Parameter(torch.randn(hidden, width) * 0.3 / hidden**0.5)
        self.project_bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        kernel, width = self.depthwise.shape
        reach = (kernel - 1) // 2 * self.dilation
        mixed = nn.functional.conv2d(  # on the CPU, its gradient is twice as fast as conv1d's
            (x * mask).transpose(1, 2).unsqueeze(2),
            self.depthwise.t()[:, None, None],
            self.depthwise_bias,
            padding=(0, reach),
            dilation=(1, self.dilation),
            groups=width,
        )
        normed = nn.functional.layer_norm(mixed.squeeze(2).transpose(1, 2), (width,), eps=1e-5)
        half = torch.bfloat16
        wide = torch.relu(normed.to(half) @ self.expand.to(half) + self.expand_bias.to(half))
        return x + (wide @ self.project.to(half)).float() + self.project_bias


def blocks(*, width: int, hidden: int, kernel: int, dilations: Sequence[int]) -> nn.ModuleList:
    """A stack of blocks, one per dilation."""
    return nn.ModuleList(Block(width=width, hidden=hidden, kernel=kernel, dilation=dilation) for dilation in dilations)


class Prosody(nn.Module):
    """Phones to hidden states, durations, pitch and voicing."""

    def __init__(self, styles: int) -> None:
        super().__init__()
        width, inner = ENCODER["width"], PITCH["width"]
        self.embedding = nn.Parameter(torch.randn(len(PHONES), width) * 0.5)
        self.speaker = nn.Parameter(torch.randn(styles, width) * 0.1)
        self.position = weight(POSITION_FEATURES, width)
        self.encoder = blocks(**ENCODER)
        self.duration = weight(width, 1)
        self.duration_bias = nn.Parameter(torch.full((1,), 2.5))
        self.frame_hidden = weight(width, inner)
        self.frame_place = weight(FRAME_FEATURES, inner)
        self.frame_bias = nn.Parameter(torch.zeros(inner))
        self.pitch = blocks(**PITCH)
        self.pitch_head = weight(inner, 2)
        self.pitch_head_bias = nn.Parameter(torch.zeros(2))

    def encode(self, ids: Tensor, position: Tensor, style: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, tokens) ids to (batch, tokens, 160) hidden states and (batch, tokens) log durations in frames."""
        x = self.embedding[ids] + self.speaker[style][:, None] + position @ self.position
        for block in self.encoder:
            x = block(x, mask)
        return x, (x @ self.duration + self.duration_bias)[..., 0]

    def contour(self, hidden: Tensor, place: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of 10 ms: hidden states and place features to normalised log pitch and voicing logits."""
        x = hidden @ self.frame_hidden + place @ self.frame_place + self.frame_bias
        for block in self.pitch:
            x = block(x, mask)
        out = x @ self.pitch_head + self.pitch_head_bias
        return out[..., 0], out[..., 1]


class Timbre(nn.Module):
    """Frames of 5 ms to spectra."""

    def __init__(self, styles: int) -> None:
        super().__init__()
        width, inner = ENCODER["width"], DECODER["width"]
        self.speaker = nn.Parameter(torch.randn(styles, inner) * 0.1)
        self.frame_hidden = weight(width, inner)
        self.frame_place = weight(FRAME_FEATURES, inner)
        self.frame_pitch = weight(1, inner)
        self.frame_bias = nn.Parameter(torch.zeros(inner))
        self.decoder = blocks(**DECODER)
        self.head = weight(inner, 2 * BANDS)
        self.head_bias = nn.Parameter(torch.zeros(2 * BANDS))

    def forward(self, hidden: Tensor, place: Tensor, pitch: Tensor, style: Tensor, mask: Tensor) -> Tensor:
        """To (batch, frames, 160): 80 normalised log envelope bands, 80 aperiodicities."""
        x = hidden @ self.frame_hidden + place @ self.frame_place + pitch[..., None] @ self.frame_pitch
        x = x + self.speaker[style][:, None] + self.frame_bias
        for block in self.decoder:
            x = block(x, mask)
        return x @ self.head + self.head_bias
