"""How a row is to sound, worked out once: what its speech continues, and the decoder's condition.

Separate from `parts.Reference`, which is what a recording measures: a manner belongs to one SoVITS half, may come from
several recordings, and is small enough to be kept for the next request that brings the same ones. Rows of one batch may
each have their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from segue_engines.gpt_sovits.parts import Reference
from segue_engines.gpt_sovits.sovits.network import Condition, SovitsNetwork
from segue_engines.gpt_sovits.spoken import Spoken


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manner:
    """Computed values only, no views of weights.

    Attributes
    ----------
    prompt
        `(n,) int64`: the tokens that speech continues; empty where it begins anew. Then `spoken` is not used.
    spoken
        What is said in them.
    condition
        Of the decoder.
    """

    prompt: Tensor
    spoken: Spoken
    condition: Condition

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, but for a few small objects."""
        tensors = (self.prompt, self.condition.vector, *self.condition.flow, self.condition.generator)
        features = 0 if self.spoken.bert is None else self.spoken.bert.nbytes
        return sum(tensor.nbytes for tensor in tensors) + features


def manner_of(references: Sequence[Reference], decoder: SovitsNetwork) -> Manner:
    """Continue the first reference, and sound like the mean of all."""
    device = decoder.device
    speakers = [reference.speaker.to(device) for reference in references if reference.speaker is not None]
    return Manner(
        prompt=references[0].prompt.to(device),
        spoken=references[0].spoken,
        condition=decoder.condition([reference.spectrogram.to(device) for reference in references], speakers),
    )
