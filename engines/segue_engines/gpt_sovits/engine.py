"""The gpt-sovits engine: official weight files of v2, v2Pro and v2ProPlus voices.

A voice is two files, `gpt` (text to semantic tokens) and `sovits` (tokens to sound), and a reference recording. Each
is a part of its own, shared between revisions that have it in common. Models that listen to references and read Chinese
belong to no voice: they come as `shared` (see `models`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from segue.engine import Device, PartView, PreparedModels, PreparedVoice, PrepareOptions, VoiceView
from segue.errors import WeightsError
from segue_engines.gpt_sovits.device import use_device
from segue_engines.gpt_sovits.formats import Limits, open_sovits, open_t2s
from segue_engines.gpt_sovits.front_end import PieceReader
from segue_engines.gpt_sovits.models.catalog import model_files
from segue_engines.gpt_sovits.models.preparing import prepare_models
from segue_engines.gpt_sovits.models.shared import SharedNetworks
from segue_engines.gpt_sovits.options import check_options, decoder_dtype_of, dtype_of
from segue_engines.gpt_sovits.parts import GPT, REFERENCE, SOVITS, gpt_part, reference_part, sovits_network, sovits_part
from segue_engines.gpt_sovits.reference import ReferenceModels, measured_reference
from segue_engines.gpt_sovits.spoken import TextFrontEnd
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer
from segue_engines.gpt_sovits.text import TextFrontEnd as Texts


class GptSovitsEngine:
    """Prepares and builds GPT-SoVITS voices.

    Parameters
    ----------
    front_end
        Who makes phones of texts; the front end of `text`, with RoBERTa where it is shared, where nobody is given.
    texts
        The dictionaries of that front end, such as those with G2PW (`front_end.texts_with`).
    models
        Who listens to references, instead of the shared models.
    """

    def __init__(
        self,
        *,
        front_end: TextFrontEnd | None = None,
        texts: Texts | None = None,
        models: ReferenceModels | None = None,
    ) -> None:
        self._texts = texts or Texts()
        self._front_end = front_end
        self._models = models
        self._networks = SharedNetworks()

    @property
    def name(self) -> str:
        """As in `spec.engine`."""
        return "gpt-sovits"

    @property
    def build_id(self) -> str:
        """Raised whenever the same weights would sound different."""
        return "gpt-sovits-2"

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The keys of `spec.weights`."""
        return (GPT, SOVITS)

    @property
    def model_files(self) -> Mapping[str, tuple[str, ...]]:
        """HuBERT, RoBERTa and the speaker network, as GPT-SoVITS' `pretrained_models` and the hub's repository hold
        them."""
        return model_files()

    def prepare_models(self, root: Path, options: PrepareOptions) -> PreparedModels:
        """Read, check and repack the shared models below a root.

        Parameters
        ----------
        root
            A checkout of GPT-SoVITS, or the folder that holds `chinese-hubert-base` and the others.
        options
            `options.options` may say `dtype`: how large matrices are kept (`models.preparing.ModelDtype`).

        Raises
        ------
        WeightsError
            A model that is there is unsafe, corrupt or wrongly shaped.
        InvalidVoiceModel
            An option that there is not.
        """
        return prepare_models(root, options)

    def prepare(self, files: Mapping[str, Path], options: PrepareOptions) -> PreparedVoice:
        """Read and check both files, fold weight norm, pack, and measure the reference.

        Raises
        ------
        WeightsError
            Unsafe, corrupt, missing or wrongly shaped files, a reference that cannot be used, or none; HuBERT, or for
            a Pro voice the speaker network, is not among the shared models.
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
        reference = measured_reference(
            options.reference,
            network,
            models=self._models or self._networks.listeners(options.shared),
            front_end=self._reader(options.shared),
        )
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
        return GptSovitsSynthesizer(
            voice, self._reader(voice.shared), models=self._models or self._networks.listeners(voice.shared)
        )

    def _reader(self, shared: Mapping[str, PartView]) -> TextFrontEnd:
        """The front end, on one set of dictionaries for all voices."""
        return self._front_end or PieceReader(texts=self._texts, features=self._networks.roberta(shared))
