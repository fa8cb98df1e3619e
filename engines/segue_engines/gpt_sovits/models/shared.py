"""Networks on the parts of shared models, one for each in a process.

Separate from the engine because twenty voices on the same RoBERTa are one network: its buffers and its lock are there
once, and when the last voice lets go of it, so does the memory that it lies in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from segue.engine import PartView, PreparedPart
from segue_engines.gpt_sovits.front.speaker import SpeakerNetwork
from segue_engines.gpt_sovits.models.catalog import HUBERT, ROBERTA, SPEAKER
from segue_engines.gpt_sovits.models.config import HubertConfig, RobertaConfig
from segue_engines.gpt_sovits.models.hubert import HubertNetwork
from segue_engines.gpt_sovits.models.preparing import CHARACTERS, IDS
from segue_engines.gpt_sovits.models.roberta import RobertaNetwork
from segue_engines.gpt_sovits.models.vocabulary import Vocabulary
from segue_engines.gpt_sovits.tensors import borrow_all

Network = TypeVar("Network", HubertNetwork, RobertaNetwork, SpeakerNetwork)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Models that listen to references (`reference.ReferenceModels`), as far as they are there."""

    features: HubertNetwork | None = None
    speaker: SpeakerNetwork | None = None


class SharedNetworks:
    """Builds networks on `VoiceView.shared` or `PrepareOptions.shared`. Safe to use from several threads.

    Views without a digest lie in no arena; each gets a network of its own.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._lock: Final = threading.Lock()

    def listeners(self, shared: Mapping[str, PartView]) -> Listeners:
        """Those that listen to references."""
        return Listeners(
            features=self._network(shared.get(HUBERT), hubert_network),
            speaker=self._network(shared.get(SPEAKER), speaker_network),
        )

    def roberta(self, shared: Mapping[str, PartView]) -> RobertaNetwork | None:
        """The one that reads Chinese; None where the pod has none."""
        return self._network(shared.get(ROBERTA), roberta_network)

    def _network(self, part: PartView | None, build: Callable[[PartView], Network]) -> Network | None:
        if part is None:
            return None
        if not part.digest:
            return build(part)
        with self._lock:
            known: Network | None = self._known.get(part.digest)
            if known is None:
                known = build(part)
                self._known[part.digest] = known
            return known


def hubert_network(part: PartView | PreparedPart) -> HubertNetwork:
    """The network of a part `hubert`, on its memory."""
    config = part.meta["config"]
    return HubertNetwork(HubertConfig(**config | {"conv_dim": tuple(config["conv_dim"])}), borrow_all(part.tensors))


def roberta_network(part: PartView | PreparedPart) -> RobertaNetwork:
    """The network of a part `roberta`, on its memory; the small vocabulary is copied."""
    tensors = dict(part.tensors)
    vocabulary = Vocabulary(
        characters=tensors.pop(CHARACTERS).copy(), ids=tensors.pop(IDS).copy(), **part.meta["vocabulary"]
    )
    return RobertaNetwork(RobertaConfig(**part.meta["config"]), vocabulary, borrow_all(tensors))


def speaker_network(part: PartView | PreparedPart) -> SpeakerNetwork:
    """The network of a part `speaker`, on its memory."""
    return SpeakerNetwork(borrow_all(part.tensors))
