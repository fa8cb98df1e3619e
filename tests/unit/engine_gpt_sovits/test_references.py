"""Recordings that requests bring: measured as a voice's own, mixed in one batch, refused with what is wrong."""

from __future__ import annotations

import gc
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from tests.unit.engine_gpt_sovits.builders import (
    PhonesGiven,
    in_mapping,
    parts,
    run,
    say,
    view,
    words,
)
from tests.unit.engine_gpt_sovits.golden import case, largest_difference, named, sovits_network

from segue.engine import KnowsSpeakers, PartView, ReferenceInput, ReferenceRecording, SynthesisRequest, VoiceView
from segue.errors import OptionRejected
from segue_engines.gpt_sovits import parts as layout
from segue_engines.gpt_sovits.manner import Manner, manner_of
from segue_engines.gpt_sovits.parts import REFERENCE, SOVITS, Reference, reference_part
from segue_engines.gpt_sovits.reference import NoModels, ReferenceModels, measured_reference
from segue_engines.gpt_sovits.spoken import Spoken
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer

SAID = "5 6 7 8 9 10 11 12"


class Features:
    """Stands for HuBERT: other recordings, other features, 50 a second."""

    def __call__(self, signal: torch.Tensor) -> torch.Tensor:
        frames = signal[: len(signal) // 320 * 320].reshape(-1, 320)
        waves = torch.arange(768)[:, None] * 0.1 + frames.abs().mean(dim=1)[None] * 40
        return torch.sin(waves)[None]


class Speaker:
    """Stands for the speaker network."""

    def vector(self, signal: torch.Tensor) -> torch.Tensor:
        return torch.sin(torch.arange(20_480)[None] * signal.abs().mean() * 10)


@dataclass(frozen=True)
class Models:
    """Both."""

    features: Features | None = field(default_factory=Features)
    speaker: Speaker | None = field(default_factory=Speaker)


def recorded(seed: int, *, seconds: float = 3.5, rate_hz: int = 32_000) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    at = np.arange(int(seconds * rate_hz)) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * (150 + 60 * seed) * at) + 0.05 * draw.standard_normal(len(at))
    return tone.astype(np.float32)


def file_of(samples: NDArray[np.float32], *, rate_hz: int = 32_000, **settings: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, **{"format": "WAV", "subtype": "FLOAT", **settings})
    return buffer.getvalue()


def recording(audio: bytes, *, text: str = SAID, language: str = "en", name: str = "calm.wav") -> ReferenceRecording:
    return ReferenceRecording(
        name=name, audio=audio, digest=hashlib.sha256(audio).hexdigest(), text=text, language=language
    )


@cache
def calm() -> ReferenceRecording:
    return recording(file_of(recorded(1)))


@cache
def angry() -> ReferenceRecording:
    return recording(file_of(recorded(4)), text="20 21 22 23 24 25 26")


def voice(*, models: ReferenceModels | None = None, version: str = "v2pro") -> GptSovitsSynthesizer:
    return GptSovitsSynthesizer(view(parts(version=version)), PhonesGiven(), models=models or Models())


@cache
def _voice() -> GptSovitsSynthesizer:
    return voice()


def test_a_request_with_a_recording_sounds_like_a_voice_that_was_prepared_with_it(tmp_path: Path) -> None:
    path = tmp_path / "calm.wav"
    path.write_bytes(calm().audio)
    prepared = parts()
    sovits = prepared[SOVITS]
    network = layout.sovits_network(PartView(tensors=sovits.tensors, meta=sovits.meta))
    own = measured_reference(
        ReferenceInput(path=path, text=SAID, language="en"), network, models=Models(), front_end=PhonesGiven()
    )
    other = GptSovitsSynthesizer(view({**prepared, REFERENCE: reference_part(own)}), PhonesGiven())
    expected = say(other, words(1), seed=1)
    found = say(_voice(), words(1), seed=1, reference=_voice().measure([calm()]))
    assert found[0] == expected[0]
    assert float(np.abs(found[1] - expected[1]).max()) <= 1e-6
    assert found[0] != say(_voice(), words(1), seed=1)[0]


def test_rows_with_references_of_their_own_share_a_batch_and_sound_as_alone() -> None:
    manners: list[Manner | None] = [None, _voice().measure([calm()]), _voice().measure([angry()]), None]
    manners.append(manners[1])
    requests = [
        SynthesisRequest(text=words(7, phones=20), seed=3, reference=manner, streaming=place % 2 == 0)
        for place, manner in enumerate(manners)
    ]
    alone = [say(_voice(), each.text, seed=3, reference=each.reference) for each in requests]
    rows = [_voice().admit(each) for each in requests]
    for row, samples, (tokens, expected) in zip(rows, run(_voice(), rows), alone, strict=True):
        assert row.error is None
        assert list(row.tokens) == tokens
        assert float(np.abs(samples - expected).max()) <= 1e-4
    assert len({tuple(tokens) for tokens, _ in alone}) == 3


def test_without_a_text_a_recording_lends_its_timbre_and_needs_no_hubert() -> None:
    deaf = voice(models=Models(features=None))
    manner = deaf.measure([recording(calm().audio, text="")])
    assert len(manner.prompt) == 0
    tokens, samples = say(deaf, words(2), seed=2, reference=manner)
    assert len(samples) > 1280 * len(tokens)


@pytest.mark.parametrize("name", [name for name in named("sovits") if name.endswith("reduced")])
def test_several_references_are_the_originals_mean(name: str) -> None:
    golden = case(name)
    speakers = [golden[each] if each in golden.arrays else None for each in ("sv_emb", "multiref_sv_emb2")]
    said = Spoken(phones=(), ids=())
    measured = [
        Reference(spectrogram=spectrogram, speaker=speaker, prompt=torch.zeros(0, dtype=torch.int64), spoken=said)
        for spectrogram, speaker in zip((golden["refer"], golden["multiref_refer2"]), speakers, strict=True)
    ]
    manner = manner_of(measured, sovits_network(golden))
    assert largest_difference(manner.condition.vector, golden["multiref_ge"]) <= 1e-4


def test_further_recordings_change_the_timbre_and_not_what_is_continued() -> None:
    one, two = _voice().measure([calm()]), _voice().measure([calm(), angry()])
    assert torch.equal(one.prompt, two.prompt)
    assert one.spoken == two.spoken
    lone = _voice().measure([angry()])
    mean = (one.condition.vector + lone.condition.vector) / 2
    assert largest_difference(two.condition.vector, mean) <= 1e-5


def test_a_v2_voice_needs_no_speaker_network() -> None:
    v2 = voice(version="v2", models=Models(speaker=None))
    tokens, _ = say(v2, words(3), seed=3, reference=v2.measure([calm()]))
    assert tokens


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_whatever_libsndfile_reads_is_taken(container: str, subtype: str) -> None:
    stereo = np.stack([recorded(1), recorded(2)], axis=1)
    assert len(_voice().measure([recording(file_of(stereo, format=container, subtype=subtype))]).prompt) > 0


def nan_file() -> bytes:
    samples = recorded(1)
    samples[500] = np.nan
    return file_of(samples)


REFUSED: dict[str, tuple[Callable[[], ReferenceRecording], str, str]] = {
    "too short": (lambda: recording(file_of(recorded(1, seconds=2.0))), "reference", "it must be 3 to 10 s"),
    "too long": (lambda: recording(file_of(recorded(1, seconds=10.5))), "reference", "it must be 3 to 10 s"),
    "no audio": (lambda: recording(b"RIFF and so on"), "reference", "cannot be read as audio"),
    "empty": (lambda: recording(b""), "reference", "cannot be read as audio"),
    "no numbers": (lambda: recording(nan_file()), "reference", "samples that are no numbers"),
    "an hour": (
        lambda: recording(file_of(np.zeros(100 * 8000, np.float32), rate_hz=8000, format="FLAC", subtype="PCM_16")),
        "reference",
        "is 100.0 s long; at most 60 s are taken",
    ),
    "slow": (
        lambda: recording(file_of(np.zeros(9000, np.float32), rate_hz=2000)),
        "reference",
        "1 channels at 2000 Hz",
    ),
}


@pytest.mark.parametrize("mistake", list(REFUSED))
def test_a_recording_that_cannot_be_used_is_refused_with_the_figure(mistake: str) -> None:
    make, option, complaint = REFUSED[mistake]
    with pytest.raises(OptionRejected, match=complaint) as refused:
        _voice().measure([make()])
    assert refused.value.option == option
    assert "calm.wav" in str(refused.value)


def test_the_text_of_a_recording_that_cannot_be_read_is_refused() -> None:
    from segue_engines.gpt_sovits.front_end import PieceReader

    reading = GptSovitsSynthesizer(view(parts()), PieceReader(), models=Models())
    with pytest.raises(OptionRejected, match=r"the text of reference 'calm.wav': cannot read 'привет'") as refused:
        reading.measure([recording(calm().audio, text="Well, привет.")])
    assert refused.value.option == "reference.text"


def test_missing_models_are_named_with_what_to_do() -> None:
    with pytest.raises(OptionRejected, match="only with HuBERT, which is not among the shared models here"):
        voice(models=Models(features=None)).measure([calm()])
    with pytest.raises(OptionRejected, match="needs the speaker network"):
        voice(models=NoModels()).measure([recording(calm().audio, text="")])


def test_the_key_names_all_that_is_measured_and_who_listens() -> None:
    def built(*, sovits: str = "s", hubert: str = "h") -> GptSovitsSynthesizer:
        plain = view(parts())
        changed = {**plain.parts, SOVITS: replace(plain.parts[SOVITS], digest=sovits)}
        shared = {"hubert": PartView(tensors={}, meta={}, digest=hubert)}
        return GptSovitsSynthesizer(VoiceView(parts=changed, shared=shared), PhonesGiven(), models=Models())

    one, again = built(), built()
    assert one.reference_key([calm()]) == again.reference_key([calm()])
    keys = {
        one.reference_key([calm()]),
        one.reference_key([angry()]),
        one.reference_key([calm(), angry()]),
        one.reference_key([recording(calm().audio, text="1 2")]),
        one.reference_key([recording(calm().audio, language="zh")]),
        built(sovits="t").reference_key([calm()]),
        built(hubert="g").reference_key([calm()]),
    }
    assert len(keys) == 7
    assert voice().reference_key([calm()]) != voice().reference_key([calm()]), "no arena, no digest: nothing is shared"


def test_what_was_measured_keeps_no_weights_mapped() -> None:
    mapping, seen = in_mapping(parts())
    built = GptSovitsSynthesizer(seen, PhonesGiven(), models=Models())
    manner = built.measure([calm()])
    assert 0 < manner.size_bytes < 1 << 20
    built.close()
    del built, seen
    gc.collect()
    mapping.close()
    assert torch.isfinite(manner.condition.vector).all()


def test_what_another_engine_measured_is_refused() -> None:
    class Foreign:
        size_bytes = 1

    with pytest.raises(OptionRejected, match="measured by another engine"):
        _voice().admit(SynthesisRequest(text=words(1), reference=Foreign()))


def test_a_pro_voice_hears_who_speaks_as_it_heard_its_reference(tmp_path: Path) -> None:
    path = tmp_path / "calm.wav"
    path.write_bytes(calm().audio)
    sovits = parts()[SOVITS]
    network = layout.sovits_network(PartView(tensors=sovits.tensors, meta=sovits.meta))
    prepared = measured_reference(
        ReferenceInput(path=path, text=SAID, language="en"), network, models=Models(), front_end=PhonesGiven()
    )
    samples, rate_hz = soundfile.read(path, dtype="float32")
    found = _voice().speaker_vector(samples, rate_hz)
    assert isinstance(_voice(), KnowsSpeakers)
    assert prepared.speaker is not None
    assert found is not None
    assert np.array_equal(found, prepared.speaker.numpy()[0])


def test_who_cannot_tell_speakers_apart_says_so() -> None:
    samples = recorded(1)
    assert _voice().speaker_vector(samples[:1000], 32_000) is None
    assert voice(models=Models(speaker=None)).speaker_vector(samples, 32_000) is None
    assert voice(version="v2").speaker_vector(samples, 32_000) is None
