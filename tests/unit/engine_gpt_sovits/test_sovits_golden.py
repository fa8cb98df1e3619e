"""The SoVITS network against the original, every intermediate result it knows."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.support.gpt_sovits.weights import DrawnTensors
from tests.unit.engine_gpt_sovits.golden import (
    Case,
    as_tensors,
    case,
    largest_difference,
    named,
    sovits_config,
    sovits_network,
)

from segue.errors import SynthesisError
from segue_engines.gpt_sovits.sovits.network import Condition, SovitsNetwork

ENCODER, FLOW, SAMPLES = 1e-4, 2e-4, 1e-5
REDUCED = [name for name in named("sovits") if name.endswith("reduced")]


@cache
def _built(name: str) -> tuple[Case, SovitsNetwork, Condition]:
    golden = case(name)
    network = sovits_network(golden)
    return golden, network, network.condition([golden["refer"]], _speakers(golden, "sv_emb"))


def _speakers(golden: Case, *names: str) -> list[torch.Tensor]:
    return [golden[name] for name in names if name in golden.arrays]


@pytest.mark.parametrize("name", named("sovits"))
def test_every_step_of_decoding_is_the_originals(name: str) -> None:
    golden, network, voice = _built(name)
    decoded = network.decode(golden["codes"], golden["phones"], voice, noise=golden["noise"])
    encoded = decoded.encoded
    assert torch.equal(encoded.quantized, golden["quantized"])
    for found, array in (
        (voice.vector, "ge"),
        (encoded.ssl, "enc_ssl"),
        (encoded.text, "enc_text"),
        (encoded.cross, "mrte"),
        (decoded.mean, "m_p"),
        (decoded.log_scale, "logs_p"),
    ):
        assert largest_difference(found, golden[array]) <= ENCODER, array
    assert largest_difference(decoded.z_p, golden["z_p"]) <= FLOW
    assert largest_difference(decoded.z, golden["z"]) <= FLOW
    assert largest_difference(decoded.samples, golden["wav"]) <= SAMPLES


@pytest.mark.parametrize("name", named("sovits"))
def test_without_noise_the_mean_is_decoded(name: str) -> None:
    golden, network, voice = _built(name)
    decoded = network.decode(golden["codes"], golden["phones"], voice)
    assert largest_difference(decoded.z, golden["z_zero_noise"]) <= FLOW
    assert largest_difference(decoded.samples, golden["wav_zero_noise"]) <= SAMPLES
    silent = network.decode(golden["codes"], golden["phones"], voice, noise=golden["noise"], noise_scale=0.0)
    assert torch.equal(silent.samples, decoded.samples)


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("speed", [1.25, 0.8])
def test_other_speeds_are_the_originals(name: str, speed: float) -> None:
    golden, network, voice = _built(name)
    noise = golden[f"speed{speed}_noise"]
    decoded = network.decode(golden["codes"], golden["phones"], voice, noise=noise, speed=speed)
    assert largest_difference(decoded.mean, golden[f"speed{speed}_m_p"]) <= ENCODER
    assert largest_difference(decoded.samples, golden[f"speed{speed}_wav"]) <= SAMPLES


@pytest.mark.parametrize("name", REDUCED)
def test_two_references_are_the_originals(name: str) -> None:
    golden, network, _ = _built(name)
    speakers = _speakers(golden, "sv_emb", "multiref_sv_emb2")
    voice = network.condition([golden["refer"], golden["multiref_refer2"]], speakers)
    assert largest_difference(voice.vector, golden["multiref_ge"]) <= ENCODER
    decoded = network.decode(golden["codes"], golden["phones"], voice)
    assert largest_difference(decoded.samples, golden["multiref_wav_zero_noise"]) <= SAMPLES


@pytest.mark.parametrize("name", REDUCED)
def test_the_originals_way_of_streaming_is_reproduced(name: str) -> None:
    golden, network, voice = _built(name)
    codes, phones = golden["codes"], golden["phones"]
    half = len(codes) // 2
    first = network.decode(codes[:half], phones, voice)
    assert largest_difference(first.samples, golden["stream_first_wav"]) <= SAMPLES
    assert largest_difference(first.encoded.latent, golden["stream_first_latent"]) <= ENCODER
    before = first.encoded.latent
    second = network.decode_tail(codes, phones, voice, keep=len(codes) - half + 2, before=before)
    assert largest_difference(second.encoded.latent, golden["stream_second_latent"]) <= ENCODER
    assert largest_difference(second.samples, golden["stream_second_wav"]) <= SAMPLES


def test_codes_of_features_are_the_originals() -> None:
    golden = case("extract-latent")
    shapes = {
        "ssl_proj.weight": (768, 768, 2),
        "ssl_proj.bias": (768,),
        "quantizer.vq.layers.0._codebook.embed": (1024, 768),
    }
    weights = DrawnTensors(shapes, seed=golden.facts["seed"])
    config = sovits_config(case("sovits-v2-reduced"))
    network = SovitsNetwork(config, as_tensors(dict(weights)))
    features = golden["hubert_features"]
    assert largest_difference(network.projected(features), golden["ssl_proj"]) <= ENCODER
    assert network.codes_of(features).tolist() == golden["codes"].tolist()


def test_noise_of_another_length_is_refused() -> None:
    golden, network, voice = _built("sovits-v2-reduced")
    with pytest.raises(SynthesisError, match=r"noise of shape \(1, 32, 43\); expected \(1, 32, 44\)"):
        network.decode(golden["codes"], golden["phones"], voice, noise=golden["noise"][:, :, :-1])


def test_a_pro_voice_without_a_speaker_vector_is_refused() -> None:
    golden, network, _ = _built("sovits-v2pro-reduced")
    with pytest.raises(SynthesisError, match="1 references and 0 speaker vectors"):
        network.condition([golden["refer"]])
