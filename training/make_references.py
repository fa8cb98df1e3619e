"""Record the reference of each demo voice: its espeak-ng teacher reading a text that no corpus sentence contains.

python training/make_references.py --out examples/voices
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from espeak import Espeak, Speaker
from features import RATE_HZ, at_24_khz
from numpy.typing import NDArray
from speakers import STYLES

from segue_engines.demo.text import read_text

TEXT = (
    "This is the voice that you will hear in a moment. It was recorded on a quiet afternoon, with the windows closed "
    "and the kettle off. Listen to how the sounds of zoo, thing, measure and chair are made. Five or six sentences are "
    "enough to know a speaker by, and nobody has to hurry. When the last word has been said, the reading is over."
)
GAP_S = 0.28


def record(espeak: Espeak, speaker: Speaker) -> NDArray[np.float32]:
    """Speak `TEXT`, with silence between its sentences; (samples,) float32 at 24 kHz."""
    pieces: list[NDArray[np.float32]] = []
    for sentence in read_text(TEXT):
        utterance = espeak.speak(sentence, speaker)
        if utterance is None:
            raise ValueError(f"espeak-ng left out too much of {sentence.phones}")
        pieces += [at_24_khz(utterance.samples, speaker.rate_hz), np.zeros(round(GAP_S * RATE_HZ), np.float32)]
    return np.concatenate(pieces)


def main() -> None:
    """Write `STYLE/reference.wav` and its transcript for each voice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--styles", nargs="*", default=[name for name in STYLES if "-" not in name])
    options = parser.parse_args()
    espeak = Espeak()
    for name in options.styles:
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        sound = record(espeak, STYLES[name])
        sound *= min(1.0, 0.89 / float(np.abs(sound).max()))
        soundfile.write(folder / "reference.wav", sound, RATE_HZ, subtype="PCM_16")
        (folder / "reference.txt").write_text(TEXT + "\n")
        print(f"{name}: {len(sound) / RATE_HZ:.1f} s, peak {np.abs(sound).max():.2f}")


if __name__ == "__main__":
    main()
