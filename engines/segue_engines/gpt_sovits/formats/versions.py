"""Which version of GPT-SoVITS a SoVITS file belongs to.

Separate because four sources say something about it and some contradict each other: the two bytes that the trainer
writes over 'PK', the digests of the published base models, what the config says, and the tensors. The first two decide
when they name a version that this engine cannot serve or a Pro version; else the tensors do. The original also goes by
the size of unmarked files, which its own check of the tensors then corrects; that rule is not needed here.

Source: markers and digests as observed in the original (RVC-Boss/GPT-SoVITS @48b1a01).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from segue.containers import TorchFile
from segue.errors import WeightsError

PLAIN_MARKER: Final = b"PK"
HEAD_BYTES: Final = 8192
"""What the digests of the base models cover."""

V1_SYMBOLS: Final = 322
"""Rows of the text embedding in v1 files; all later versions have 732."""

TEXT_EMBEDDING: Final = "weight/enc_p.text_embedding.weight"
SPEAKER_EMBEDDING: Final = "weight/sv_emb.weight"
DIFFUSION: Final = "weight/cfm."


class ModelVersion(StrEnum):
    """Versions of the SoVITS half, as the original writes them."""

    V1 = "v1"
    V2 = "v2"
    V3 = "v3"
    V4 = "v4"
    V2_PRO = "v2Pro"
    V2_PRO_PLUS = "v2ProPlus"

    @property
    def is_pro(self) -> bool:
        """Whether the voice also follows a speaker embedding."""
        return self in (ModelVersion.V2_PRO, ModelVersion.V2_PRO_PLUS)


SERVED: Final = (ModelVersion.V2, ModelVersion.V2_PRO, ModelVersion.V2_PRO_PLUS)
"""What this engine can speak with."""


class UnsupportedVersion(WeightsError):
    """A file of GPT-SoVITS, well-formed as far as was looked, of a version that this engine cannot speak with."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file says it is."""

    version: ModelVersion
    lora: bool = False

    @property
    def is_other(self) -> bool:
        """Whether it holds another kind of network, so that its tensors need not be looked at."""
        return self.lora or self.version in (ModelVersion.V3, ModelVersion.V4)


MARKERS: Final[Mapping[bytes, Kind]] = {
    b"00": Kind(ModelVersion.V1),
    b"01": Kind(ModelVersion.V2),
    b"02": Kind(ModelVersion.V3),
    b"03": Kind(ModelVersion.V3, lora=True),
    b"04": Kind(ModelVersion.V4, lora=True),
    b"05": Kind(ModelVersion.V2_PRO),
    b"06": Kind(ModelVersion.V2_PRO_PLUS),
}
"""Two ASCII digits in the place of 'PK'. Trainers write 03 to 06; v2 files stay 'PK'."""

_BASE_MODELS: Final[Mapping[str, Kind]] = {
    "dc3c97e17592963677a4a1681f30c653": Kind(ModelVersion.V1),  # s2G488k.pth
    "6642b37f3dbb1f76882b69937c95a5f3": Kind(ModelVersion.V2),  # s2G2333K.pth
    "43797be674a37c1c83ee81081941ed0f": Kind(ModelVersion.V3),  # s2Gv3.pth
    "4f26b9476d0c5033e04162c486074374": Kind(ModelVersion.V4),  # s2Gv4.pth
    "c7e9fce2223f3db685cdfa1e6368728a": Kind(ModelVersion.V2_PRO),  # s2Gv2Pro.pth
    "66b313e39455b57ab1b0bc0b239c9d0a": Kind(ModelVersion.V2_PRO_PLUS),  # s2Gv2ProPlus.pth
}
"""md5 of the first 8192 bytes of the published base models, which carry no marker."""

_WHY_NOT: Final[Mapping[ModelVersion, str]] = {
    ModelVersion.V1: "v1 reads another set of phonemes",
    ModelVersion.V3: "v3 makes its sound with a diffusion model and a vocoder that are not part of this engine",
    ModelVersion.V4: "v4 makes its sound with a diffusion model and a vocoder that are not part of this engine",
}


def kind_by_head(head: bytes, source: str) -> Kind | None:
    """What the first 8192 bytes of a file say; None where only the tensors can tell.

    Raises
    ------
    WeightsError
        A marker that is not known: two digits where a version of GPT-SoVITS after this engine may have put them.
    """
    known = _BASE_MODELS.get(hashlib.md5(head[:HEAD_BYTES], usedforsecurity=False).hexdigest())
    if known is not None:
        return known
    marker = head[:2]
    if marker in MARKERS:
        return MARKERS[marker]
    if marker.isdigit() and head[2:4] == b"\x03\x04":
        raise UnsupportedVersion(
            f"{source}: carries the version marker {marker!r}, which is not known; known are "
            f"{', '.join(f'{each.decode()} ({kind.version})' for each, kind in MARKERS.items())}"
        )
    return None


def kind_of(head: bytes, file: TorchFile) -> Kind:
    """What a file is, by its head, its config and its tensors.

    Parameters
    ----------
    head
        Its first 8192 bytes.
    """
    said = kind_by_head(head, file.source)
    if said is not None and (said.is_other or said.version.is_pro):
        return said
    return _kind_by_contents(file)


def _kind_by_contents(file: TorchFile) -> Kind:
    data = file.data if isinstance(file.data, Mapping) else {}
    named = _named_version(data.get("config"))
    if "lora_rank" in data or any(".lora_" in name for name in file.tensors):
        return Kind(named if named is ModelVersion.V4 else ModelVersion.V3, lora=True)
    if any(name.startswith(DIFFUSION) for name in file.tensors):
        return Kind(ModelVersion.V4 if named is ModelVersion.V4 else ModelVersion.V3)
    if SPEAKER_EMBEDDING in file.tensors:
        return Kind(named if named is not None and named.is_pro else ModelVersion.V2_PRO)
    embedding = file.tensors.get(TEXT_EMBEDDING)
    if embedding is not None and embedding.shape[:1] == (V1_SYMBOLS,):
        return Kind(ModelVersion.V1)
    return Kind(ModelVersion.V2)


def _named_version(config: Any) -> ModelVersion | None:
    """What the config says, at either of the two places where trainers put it."""
    if not isinstance(config, Mapping):
        return None
    model = config.get("model")
    for values in (config, model if isinstance(model, Mapping) else {}):
        said = values.get("version")
        if isinstance(said, str) and said in tuple(ModelVersion):
            return ModelVersion(said)
    return None


def refuse_unserved(kind: Kind, source: str) -> None:
    """Refuse what this engine cannot speak with.

    Raises
    ------
    UnsupportedVersion
        Names the version, why, and what to do.
    """
    served = ", ".join(SERVED)
    if kind.lora:
        raise UnsupportedVersion(
            f"{source}: a LoRA of GPT-SoVITS {kind.version}, which holds only differences to a base model; served are "
            f"{served}: train the same data as v2Pro or v2ProPlus"
        )
    if kind.version not in SERVED:
        raise UnsupportedVersion(
            f"{source}: a GPT-SoVITS {kind.version} voice; {_WHY_NOT[kind.version]}; served are {served}: train the "
            f"same data as v2Pro or v2ProPlus"
        )
