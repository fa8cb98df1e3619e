"""Models that voices share are one network in a process, on memory that is given back with the last voice."""

from __future__ import annotations

import gc
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.engine_gpt_sovits.builders import parts, view
from tests.unit.engine_gpt_sovits_models.builders import mapped, plain

from segue.engine import Device, PartView, SynthesisRequest, VoiceView
from segue.errors import SynthesisError
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.front_end import PieceReader
from segue_engines.gpt_sovits.models.catalog import HUBERT, ROBERTA
from segue_engines.gpt_sovits.models.preparing import prepare_model
from segue_engines.gpt_sovits.models.shared import SharedNetworks, roberta_network
from segue_engines.gpt_sovits.spoken import with_features
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer

CHINESE = "今天天气很好。"


_own_parts = cache(lambda: view(parts()).parts)


def _voice(shared: dict[str, PartView]) -> VoiceView:
    return VoiceView(parts=_own_parts(), shared=shared)


def _features(voice: GptSovitsSynthesizer, text: str = CHINESE, language: str = "zh") -> NDArray[np.float32] | None:
    """What a row's first fragment brings to T2S beside its phones."""
    row = voice.admit(SynthesisRequest(text=text, language=language))
    (_, spoken), *_ = row._waiting
    row.close()
    return with_features(spoken).bert


def test_equal_digests_are_one_network_and_other_digests_another(roberta_folder: Path) -> None:
    part = plain(prepare_model(ROBERTA, roberta_folder))
    networks = SharedNetworks()
    first, again, other = (
        networks.roberta({ROBERTA: PartView(tensors=part.tensors, meta=part.meta, digest=digest)})
        for digest in ("sha256:a", "sha256:a", "sha256:b")
    )
    assert first is again
    assert first is not other
    assert networks.roberta({ROBERTA: part}) is not networks.roberta({ROBERTA: part}), "no digest, no sharing"


def test_every_parameter_lies_in_the_mapping(roberta_folder: Path, hubert_folder: Path) -> None:
    mapping, shared = mapped(
        {ROBERTA: prepare_model(ROBERTA, roberta_folder), HUBERT: prepare_model(HUBERT, hubert_folder)}
    )
    networks = SharedNetworks()
    roberta, hubert = networks.roberta(shared), networks.listeners(shared).features
    assert roberta is not None
    assert hubert is not None
    low = shared[ROBERTA].tensors["embeddings.word_embeddings.weight"].__array_interface__["data"][0]
    for name, tensor in {**roberta.parameters, **hubert.parameters}.items():
        assert low <= tensor.data_ptr() <= low + len(mapping) - tensor.nbytes, name


def test_the_memory_stays_until_the_last_voice_is_closed_and_not_longer(roberta_folder: Path) -> None:
    mapping, shared = mapped({ROBERTA: prepare_model(ROBERTA, roberta_folder)})
    engine = GptSovitsEngine()
    voices = [engine.build(_voice(shared), Device()) for _ in range(2)]
    row = voices[0].admit(SynthesisRequest(text=CHINESE, language="zh"))
    shared.clear()
    voices[0].close()
    gc.collect()
    with pytest.raises(BufferError):
        mapping.close()
    assert _features(voices[1]) is not None
    voices[1].close()
    gc.collect()
    mapping.close()
    assert not row.done, "a row that still lives holds none of it"
    row.close()


def test_chinese_is_spoken_with_regard_to_its_meaning_where_roberta_is_there(roberta_folder: Path) -> None:
    part = prepare_model(ROBERTA, roberta_folder)
    engine = GptSovitsEngine()
    with_it, without = engine.build(_voice({ROBERTA: plain(part)}), Device()), engine.build(_voice({}), Device())
    features = _features(with_it)
    assert features is not None
    assert np.array_equal(
        features[:, 0:2].T, np.repeat(roberta_network(plain(part)).of("今天天气很好.")[:1], 2, axis=0)
    )
    assert _features(without) is None
    assert _features(with_it, "Hello there.", "en") is None


def test_features_are_made_when_a_piece_is_begun_so_that_a_long_text_holds_up_nobody(roberta_folder: Path) -> None:
    reads: list[str] = []

    class Counted:
        def of(self, text: str) -> NDArray[np.float32]:
            reads.append(text)
            return np.zeros((len(text), 1024), np.float32)

    counted = Counted()
    engine = GptSovitsEngine(front_end=PieceReader(features=counted))
    voice = engine.build(_voice({}), Device())
    row = voice.admit(SynthesisRequest(text="今天天气很好，我们走吧。列车将在三分钟后到达。", language="zh"))
    assert not reads
    voice.step([row])
    assert len(reads) == 1
    assert row.error is None
    row.close()
    voice.close()


def test_a_row_whose_voice_was_closed_fails_alone_when_its_next_piece_begins(roberta_folder: Path) -> None:
    """Its features can no longer be made; the others of the step go on."""

    class Passing:
        def of(self, text: str) -> NDArray[np.float32]:
            return np.zeros((len(text), 1024), np.float32)

    voice = GptSovitsEngine(front_end=PieceReader(features=Passing())).build(_voice({}), Device())
    closed = GptSovitsEngine(front_end=PieceReader(features=Passing())).build(_voice({}), Device())
    row = closed.admit(SynthesisRequest(text=CHINESE, language="zh"))
    other = voice.admit(SynthesisRequest(text="Hello there.", language="en"))
    closed.close()
    gc.collect()
    voice.step([row, other])
    assert isinstance(row.error, SynthesisError)
    assert other.error is None
    assert len(other.tokens) == 1
    voice.close()


def test_a_closed_voice_reads_no_more_texts(roberta_folder: Path) -> None:
    voice = GptSovitsEngine().build(_voice({ROBERTA: plain(prepare_model(ROBERTA, roberta_folder))}), Device())
    voice.close()
    with pytest.raises(RuntimeError, match="was closed"):
        _features(voice)


def test_threads_that_read_at_once_get_what_each_gets_alone(roberta_folder: Path) -> None:
    """The matrices are widened into one buffer: without a lock they would mix."""
    network = roberta_network(plain(prepare_model(ROBERTA, roberta_folder)))
    texts = [char * length for char, length in zip("一二三四", (9, 40, 80, 160), strict=True)]
    alone = [network.of(text) for text in texts]
    found: dict[int, NDArray[np.float32]] = {}
    gate = threading.Barrier(len(texts))

    def read(place: int) -> None:
        gate.wait()
        found[place] = network.of(texts[place])

    threads = [threading.Thread(target=read, args=(place,)) for place in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[place], expected) for place, expected in enumerate(alone))
