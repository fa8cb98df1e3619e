"""Measure the shipped voices: phone error rate, speaker similarity, pace, speed.

    OPENBLAS_NUM_THREADS=1 python training/evaluate.py

Needs the run-time environment (no torch) and the labels and wavs of `make_data.py`, whose last ten utterances per style
nobody was trained on. The same figures of the espeak-ng source are printed beside, and those of the wrong text.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from segue.engine import SynthesisRequest, Synthesizer
from segue_engines.probes import builtin_cases, embed, phone_error_rate, similarity
from segue_engines.registry import get_engine
from segue_engines.speak import load_voice, synthesize

VOICES: Final = {
    "narrator": ("examples/voices/narrator/v1", "narrator"),
    "aria": ("examples/voices/aria/v1", "aria"),
    "bert": ("examples/voices/bert/v1", "bert"),
    "cleo": ("examples/voices/cleo/v1", "cleo"),
    "narrator v2": ("examples/updates/narrator/v2", "narrator-brisk"),
    "narrator broken": ("examples/updates/narrator/broken", "narrator"),
    "narrator fails-live": ("examples/updates/narrator/fails-live", "narrator-brisk"),
}
HELD_OUT: Final = 10
RATE_HZ: Final = 24000

Audio = NDArray[np.float32]


def held_out(data: Path, style: str) -> tuple[list[str], list[list[str]], list[Audio]]:
    """Texts, phones and espeak's audio of the utterances that were kept from training; questions left out."""
    labels = [json.loads(line) for line in (data / "labels" / f"{style}.jsonl").read_text().splitlines()]
    places = [place for place in range(len(labels) - HELD_OUT, len(labels)) if "?" not in labels[place]["text"]]
    wavs = [soundfile.read(data / "wavs" / style / f"{place:04d}.wav", dtype="float32")[0] for place in places]
    return [labels[place]["text"] for place in places], [labels[place]["phones"] for place in places], wavs


def mean_error(sounds: Sequence[Audio], phones: Sequence[Sequence[str]]) -> float:
    """Phone error rate, averaged over utterances."""
    return float(np.mean([phone_error_rate(sound, RATE_HZ, said) for sound, said in zip(sounds, phones, strict=True)]))


def speed(synthesizer: Synthesizer) -> float:
    """Seconds of speech per second of processor time on one thread, the best of five."""
    text = " ".join(case.text for case in builtin_cases("en"))
    best = 0.0
    for seed in range(5):
        began = time.process_time()
        sound = synthesize(synthesizer, SynthesisRequest(text=text, seed=seed))
        best = max(best, len(sound) / RATE_HZ / (time.process_time() - began))
    return best


def first_audio_ms(synthesizer: Synthesizer) -> float:
    """Processor time until the first piece of a stream, the best of ten."""
    times: list[float] = []
    for seed in range(10):
        began = time.process_time()
        row = synthesizer.admit(SynthesisRequest(text=builtin_cases("en")[0].text, seed=seed, streaming=True))
        synthesizer.step([row])
        times.append(time.process_time() - began)
    return 1000 * min(times)


def main() -> None:
    """Print one line per voice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("~/.cache/segue/train"))
    data = parser.parse_args().data.expanduser()
    references = {
        path.parent.name: embed(soundfile.read(path, dtype="float32")[0], RATE_HZ)
        for path in sorted(Path("examples/voices").glob("*/reference.wav"))
    }
    print("voice                PER model  espeak  wrong text  own   others  x real time  first audio ms")
    for name, (folder, style) in VOICES.items():
        files = {half: Path(folder) / f"{half}.pth" for half in ("prosody", "timbre")}
        synthesizer = load_voice(get_engine("demo"), files)
        texts, phones, wavs = held_out(data, style)
        heard = [synthesize(synthesizer, SynthesisRequest(text=text)) for text in texts]
        cases = [synthesize(synthesizer, SynthesisRequest(text=case.text)) for case in builtin_cases("en")]
        voice = embed(np.concatenate(cases), RATE_HZ)
        own = similarity(voice, references[name.split()[0]])
        others = max(similarity(voice, vector) for key, vector in references.items() if key != name.split()[0])
        print(
            f"{name:20} {mean_error(heard, phones):9.3f} {mean_error(wavs, phones):7.3f} "
            f"{mean_error(heard, [*phones[1:], phones[0]]):11.3f} {own:5.3f} {others:7.3f} "
            f"{speed(synthesizer):12.1f} {first_audio_ms(synthesizer):14.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
