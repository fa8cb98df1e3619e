"""The gpt-sovits engine: official weight files of v2, v2Pro and v2ProPlus voices.

A voice is two files, `gpt` (text to semantic tokens) and `sovits` (tokens to sound), and a reference recording. Each
is a part of its own, shared between revisions that have it in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from segue.engine import Device, PartView, PreparedVoice, PrepareOptions, VoiceView
from segue.errors import WeightsError
from segue_engines.gpt_sovits.device import use_device
from segue_engines.gpt_sovits.formats import Limits, open_sovits, open_t2s
from segue_engines.gpt_sovits.front_end import PieceReader
from segue_engines.gpt_sovits.options import check_options, decoder_dtype_of, dtype_of
from segue_engines.gpt_sovits.parts import GPT, REFERENCE, SOVITS, gpt_part, reference_part, sovits_network, sovits_part
from segue_engines.gpt_sovits.reference import NoModels, ReferenceModels, measured_reference
from segue_engines.gpt_sovits.spoken import TextFrontEnd
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer


class GptSovitsEngine:
    """Prepares and builds GPT-SoVITS voices.

    Parameters
    ----------
    front_end
        Who makes phones of texts; the front end of `text`, without RoBERTa, where nobody is given.
    models
        Who listens to references; nobody where it is None.
    """

    def __init__(self, *, front_end: TextFrontEnd | None = None, models: ReferenceModels | None = None) -> None:
        self._front_end: TextFrontEnd = front_end or PieceReader()
        self._models: ReferenceModels = models or NoModels()

    @property
    def name(self) -> str:
        """As in `spec.engine`."""
        return "gpt-sovits"

    @property
    def build_id(self) -> str:
        """Raised whenever the same weights would sound different."""
        return "gpt-sovits-1"

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The keys of `spec.weights`."""
        return (GPT, SOVITS)

    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        """Read and check both files, fold weight norm, pack, and measure the reference.

        Raises
        ------
        WeightsError
            Unsafe, corrupt, missing or wrongly shaped files, a reference that cannot be used, or none.
        InvalidVoiceModel
            `spec.options` that this engine does not have.
        """
        check_options(options.options)
        if set(files) != set(self.weight_names):
            raise WeightsError(
                f"a gpt-sovits voice needs the weights {list(self.weight_names)}; given were {sorted(files)}"
            )
        if options.reference is None:
            raise WeightsError("a gpt-sovits voice needs a reference recording of 3 to 10 s: set spec.reference")
        limits = Limits(max_tensor_bytes=options.max_tensor_bytes, max_total_bytes=options.max_total_bytes)
        with open_t2s(files[GPT], limits) as checkpoint:
            gpt = gpt_part(checkpoint, dtype=dtype_of(options.options))
        with open_sovits(files[SOVITS], limits) as opened:
            sovits = sovits_part(opened, dtype=decoder_dtype_of(options.options))
        network = sovits_network(PartView(tensors=sovits.tensors, meta=sovits.meta))
        reference = measured_reference(options.reference, network, models=self._models, front_end=self._front_end)
        return PreparedVoice(parts={GPT: gpt, SOVITS: sovits, REFERENCE: reference_part(reference)})

    def build(self, voice: VoiceView, device: Device) -> GptSovitsSynthesizer:
        """Build on the views given; nothing is copied. torch computes with `device.threads` threads from here on.

        Raises
        ------
        WeightsError
            The device is neither the CPU nor a CUDA device, torch has none, or cannot compute with these weights there.
        """
        check_options(voice.options)
        use_device(device, voice.options)
        torch.set_num_threads(device.threads)
        return GptSovitsSynthesizer(voice, self._front_end, models=self._models)
