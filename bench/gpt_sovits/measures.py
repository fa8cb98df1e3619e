"""The measurements, each of a built voice; all on as many threads as torch was told.

Separate from the bench, which says in what turns they are taken and what was promised of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch.nn.functional import linear

from bench.gpt_sovits.voices import TEXT_PHONES, PhonesGiven, reference, t2s_part, text, utterance, weight_files
from segue.engine import Device, PreparedPart, PreparedVoice, SynthesisRequest, VoiceView
from segue.memory.arena import Arena, ArenaPlan, seal
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.parts import GPT, SOVITS, sovits_network, t2s_network
from segue_engines.gpt_sovits.randomness import Stream, row_key
from segue_engines.gpt_sovits.sampling import Sampling
from segue_engines.gpt_sovits.sovits.network import SAMPLE_RATE, Condition
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer
from segue_engines.gpt_sovits.t2s.decode import T2SBatch, TokenRow
from segue_engines.gpt_sovits.t2s.packing import T2SDtype
from segue_engines.speak import view_of

CODES: Final = 100
"""Length of what is said: 4 s."""


class Speaker:
    """The T2S half, in one type of its matrices."""

    def __init__(self, dtype: T2SDtype, *, slots: int, positions: int) -> None:
        voice, _ = mapped({GPT: t2s_part(dtype)})
        self._network = t2s_network(voice.parts[GPT])
        self._slots, self._positions = slots, positions

    def tokens_per_s(self, rows: int, tokens: int) -> float:
        """Of all rows together, their prefills included."""
        batch = T2SBatch(self._network, slots=self._slots, capacity=self._positions)
        begin = time.perf_counter()
        batch.join(
            *(
                TokenRow(utterance(seed), Sampling(), key=row_key(seed, Stream.TOKENS), max_steps=tokens)
                for seed in range(rows)
            )
        )
        while batch.rows:
            batch.step()
        return rows * tokens / (time.perf_counter() - begin)

    @torch.inference_mode()
    def bare_products_per_s(self, rows: int, *, steps: int = 20) -> float:
        """Tokens a second if a step were nothing but its float32 matrix products: what no arrangement of them beats."""
        tensors = weight_files().t2s
        matrices = [
            torch.from_numpy(array)
            for name, array in tensors.items()
            if (".h.layers." in name and array.ndim == 2) or name.endswith("ar_predict_layer.weight")
        ]
        inputs = {width: torch.randn(rows, width) for width in {matrix.shape[1] for matrix in matrices}}
        begin = time.perf_counter()
        for _ in range(steps):
            for matrix in matrices:
                linear(inputs[matrix.shape[1]], matrix)
        return rows * steps / (time.perf_counter() - begin)


class Decoder:
    """The SoVITS half under its condition."""

    def __init__(self, parts: Mapping[str, PreparedPart]) -> None:
        self._network = sovits_network(view_of_parts(parts).parts[SOVITS])
        known = reference()
        assert known.speaker is not None
        self._condition: Condition = self._network.condition([known.spectrogram], [known.speaker])

    def real_time_factor(self) -> float:
        """Seconds for a second of sound."""
        codes, phones = torch.arange(CODES) * 7 % 1024, torch.arange(1, TEXT_PHONES)
        begin = time.perf_counter()
        noise = torch.randn(1, self._network.config.inter_channels, 2 * CODES)
        decoded = self._network.decode(codes, phones, self._condition, noise=noise)
        return (time.perf_counter() - begin) * SAMPLE_RATE / len(decoded.samples)


def view_of_parts(parts: Mapping[str, PreparedPart]) -> VoiceView:
    """Parts as a worker sees them, without an arena."""
    return view_of(PreparedVoice(parts=parts))


def first_audio_s(synthesizer: GptSovitsSynthesizer, *, seed: int) -> float:
    """From a streaming request to its first sound, nobody else speaking."""
    begin = time.perf_counter()
    row = synthesizer.admit(SynthesisRequest(text=text(seed), seed=seed, streaming=True))
    while not len(row.take()):
        synthesizer.step([row])
        if row.error is not None:
            raise row.error
    taken = time.perf_counter() - begin
    row.close()
    return taken


def chunked_real_time_factor(synthesizer: GptSovitsSynthesizer, *, seed: int, samples: int) -> float:
    """Seconds for a second of sound of one streaming row, tokens and decoding together, over its first samples."""
    begin = time.perf_counter()
    row = synthesizer.admit(SynthesisRequest(text=text(seed), seed=seed, streaming=True))
    heard = 0
    while heard < samples:
        synthesizer.step([row])
        heard += len(row.take())
    taken = time.perf_counter() - begin
    row.close()
    return taken * SAMPLE_RATE / heard


def bytes_over_file(parts: Mapping[str, PreparedPart]) -> float:
    """Resident bytes of a built voice over those of its tensors: its arenas, and what building took beside them.

    Not what the first voice of a process brings with it: the libraries, and compiled steps.
    """
    t2s_network(view_of_parts(parts).parts[GPT])
    tensors = sum(array.nbytes for part in parts.values() for array in part.tensors.values())
    voice, arenas_bytes = mapped(parts)
    before = _private_bytes()
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device(threads=torch.get_num_threads()))
    grown = _private_bytes() - before
    synthesizer.close()
    return (arenas_bytes + max(grown, 0)) / tensors


def mapped(parts: Mapping[str, PreparedPart]) -> tuple[VoiceView, int]:
    """The parts in arenas of their own, as a worker maps them, for as long as the process lives; and their bytes."""
    arenas: dict[str, Arena] = {}
    for name, part in parts.items():
        fd = os.memfd_create(f"bench-{name}", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            ArenaPlan.of(part).write(fd)
            seal(fd)
            arenas[name] = Arena.open(fd)
        finally:
            os.close(fd)
    return (
        VoiceView(parts={name: arena.part() for name, arena in arenas.items()}),
        sum(arena.size_bytes for arena in arenas.values()),
    )


def _private_bytes() -> int:
    """Resident memory of this process that is not shared or file-backed."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024
