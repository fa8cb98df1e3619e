"""The proving child: a revision speaks here before any worker that serves listeners may try it.

It hashes the sealed arenas (those of shared models were hashed once, for all voices), maps them as a worker does,
builds and says one sentence. What is not finite, silent, empty or endless is refused: a shadow never runs first in a
live worker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.engine import Device, Row, SynthesisRequest, Synthesizer
from segue.errors import TextRejected
from segue.memory.voice_view import is_shared, voice_view
from segue_sidecar.children.channel import Channel, JobError
from segue_sidecar.children.mapping import descriptors_of, hash_all, mapped, part_refs
from segue_sidecar.engines import load_engine

SENTENCES: Mapping[str, str] = {
    "de": "Guten Morgen, heute scheint die Sonne.",
    "en": "Good morning, the sun is out today.",
    "es": "Buenos días, hoy brilla el sol.",
    "fr": "Bonjour, le soleil brille aujourd'hui.",
    "ja": "おはようございます、今日はいい天気です。",
    "ko": "좋은 아침입니다, 오늘은 날씨가 좋습니다.",
    "zh": "早上好，今天天气很好。",
}
_LONGEST_S = 60.0
_SILENT_PEAK = 1e-3
_SEED = 1


def run(job: Mapping[str, Any], fds: list[int], channel: Channel) -> dict[str, Any]:
    """Prove one revision on one sentence.

    Returns
    -------
    dict
        `{"sampleRate", "seconds", "peak", "text", "buildMs", "speakMs"}`
    """
    parts = part_refs(job["parts"])
    unsure = [part for part in parts if part.digest not in job["sound"]]
    hash_all(unsure, descriptors_of(unsure, parts, fds, job["memory"]), job["memory"], channel)
    engine = load_engine(job["place"])
    with mapped(parts, fds, job["memory"]) as arenas:
        for arena in arenas:
            if not is_shared(arena.part.name):
                arena.prefault()
        began_s = time.monotonic()
        view = voice_view(arenas, options=job["options"])
        synthesizer = engine.build(view, Device(name=job["memory"]["device"]))
        del view
        built_s = time.monotonic()
        try:
            channel.progress("speak", done=0, total=1)
            text, audio = say_something(synthesizer, language=job["language"])
            sample_rate = synthesizer.sample_rate
        finally:
            synthesizer.close()
    peak = _require_speech(audio, text=text, sample_rate=sample_rate)
    return {
        "build": engine.build_id,
        "sampleRate": sample_rate,
        "seconds": len(audio) / sample_rate,
        "peak": peak,
        "text": text,
        "buildMs": (built_s - began_s) * 1e3,
        "speakMs": (time.monotonic() - built_s) * 1e3,
    }


def say_something(synthesizer: Synthesizer, *, language: str) -> tuple[str, NDArray[np.float32]]:
    """Say a sentence that the engine can read, in the voice's own language where we have one: it, and its audio.

    Raises
    ------
    JobError
        TextRejected: it reads none of the sentences that we have; or what `speak` raises.
    """
    candidates = [SENTENCES[language]] if language in SENTENCES else []
    for text in [*candidates, SENTENCES["en"]]:
        try:
            return text, speak(synthesizer, text, language=language)
        except TextRejected:
            continue
    raise JobError("TextRejected", f"the engine reads no test sentence of the language {language!r}")


def speak(synthesizer: Synthesizer, text: str, *, language: str) -> NDArray[np.float32]:
    """One utterance: `(samples,) float32`.

    Raises
    ------
    JobError
        SynthesisFailed (the engine's own error, or its decoder ran into its limit), Endless.
    TextRejected
        The engine cannot read it.
    """
    row = synthesizer.admit(SynthesisRequest(text=text, language=language, seed=_SEED))
    try:
        return _drain(synthesizer, row, text=text)
    finally:
        row.close()


def _drain(synthesizer: Synthesizer, row: Row, *, text: str) -> NDArray[np.float32]:
    pieces: list[NDArray[np.float32]] = []
    longest = int(_LONGEST_S * synthesizer.sample_rate)
    while not row.done:
        synthesizer.step([row])
        pieces.append(row.take())
        if sum(map(len, pieces)) > longest:
            raise JobError("Endless", f"{text!r} took more than {_LONGEST_S:g} s of audio")
    if row.error is not None:
        raise JobError("SynthesisFailed", f"{text!r}: {type(row.error).__name__}: {row.error}")
    if row.capped:
        raise JobError("DecoderCapped", f"{text!r}: the decoder ran into its length limit instead of ending")
    return np.concatenate([*pieces, row.take()])


def _require_speech(audio: NDArray[np.float32], *, text: str, sample_rate: int) -> float:
    """The peak of audio that could be speech. Raises `JobError`: Empty, NonFinite, Silent."""
    if len(audio) < sample_rate // 10:
        raise JobError("Empty", f"{text!r} came out as {len(audio)} samples at {sample_rate} Hz")
    wrong = int(np.count_nonzero(~np.isfinite(audio)))
    if wrong:
        raise JobError("NonFinite", f"{text!r}: {wrong} of {len(audio)} samples are not finite numbers")
    peak = float(np.max(np.abs(audio)))
    if peak < _SILENT_PEAK:
        raise JobError("Silent", f"{text!r} came out silent (peak {peak:.2g} of 1)")
    return peak
