"""Speak the corpus with espeak-ng and store wavs, phone labels and features.

    python training/make_data.py --out ~/.cache/segue/train --minutes 12

Per style: `wavs/STYLE/NNNN.wav` (24 kHz), `labels/STYLE.jsonl` (text, phones, durations in 5 ms frames) and
`features/STYLE.npz`. Sentences differ between styles, so that the shared model hears more words.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
from corpus import sentences
from espeak import Espeak, Speaker
from features import HOP, RATE_HZ, Features, analyse, at_24_khz
from speakers import PITCH_HZ, STYLES

from segue_engines.demo.text import read_text


def make_style(name: str, speaker: Speaker, *, out: Path, minutes: float, seed: int) -> None:
    """Speak until `minutes` of audio are there."""
    espeak = Espeak()
    (out / "wavs" / name).mkdir(parents=True, exist_ok=True)
    low, high = PITCH_HZ[name]
    labels: list[str] = []
    kept: list[Features] = []
    frames = 0
    for text in sentences(20000, seed=seed):
        if frames * HOP >= minutes * 60 * RATE_HZ:
            break
        for sentence in read_text(text):
            utterance = espeak.speak(sentence, speaker)
            if utterance is None:
                continue
            features = analyse(utterance, speaker.rate_hz, floor_hz=low, ceiling_hz=high)
            if features.durations.min() < 1:
                continue
            sound = at_24_khz(utterance.samples, speaker.rate_hz)[: int(features.durations.sum()) * HOP]
            soundfile.write(out / "wavs" / name / f"{len(kept):04d}.wav", sound, RATE_HZ)
            label = {"text": text, "phones": utterance.phones, "frames": features.durations.tolist()}
            labels.append(json.dumps(label))
            kept.append(features)
            frames += int(features.durations.sum())
    (out / "labels" / f"{name}.jsonl").write_text("\n".join(labels) + "\n")
    save(out / "features" / f"{name}.npz", kept)
    print(f"{name}: {len(kept)} utterances, {frames * HOP / RATE_HZ / 60:.1f} minutes", flush=True)


def save(path: Path, utterances: list[Features]) -> None:
    """Lay all utterances of a style end to end, with their lengths."""
    fields = ("ids", "word_starts", "durations", "envelope", "aperiodicity", "log_f0")
    joined = {field: np.concatenate([getattr(item, field) for item in utterances]) for field in fields}
    tokens = np.array([len(item.ids) for item in utterances])
    frames = np.array([int(item.durations.sum()) for item in utterances])
    np.savez(path, tokens=tokens, frames=frames, **joined)


def main() -> None:
    """Make all styles, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("~/.cache/segue/train"))
    parser.add_argument("--minutes", type=float, default=12.0, help="audio per style")
    parser.add_argument("--styles", nargs="*", default=list(STYLES))
    options = parser.parse_args()
    out = options.out.expanduser()
    for folder in ("labels", "features"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name in options.styles:
        make_style(name, STYLES[name], out=out, minutes=options.minutes, seed=100 + list(STYLES).index(name))


if __name__ == "__main__":
    main()
