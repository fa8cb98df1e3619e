"""Embed a few dozen espeak-ng voices: whom a voice is compared with when its threshold is calibrated.

    python training/make_cohort.py

Leaves out the voices that the demo's speakers were taught by, and voices that are nearly one another. Writes
`engines/segue_engines/probes/data/cohort.npz`, float16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from corpus import sentences
from espeak import Espeak, Speaker
from speakers import STYLES

from segue_engines.demo.text import read_text
from segue_engines.probes.speaker import embed, similarity

OUTPUT = Path(__file__).parent.parent / "engines" / "segue_engines" / "probes" / "data" / "cohort.npz"
VARIANTS = (
    *("m1", "m2", "m4", "m5", "m7", "m8", "f1", "f2", "f4", "f5"),
    *("Andy", "Annie", "Denis", "Diogo", "Gene", "Jacky", "Lee", "Mario", "Michael", "Alex"),
    *("anika", "antonio", "aunty", "belinda", "benjamin", "david", "john", "linda", "norbert", "paul"),
    *("rob", "robert", "sandro", "victor", "pablo", "zac"),
)
SECONDS = 20
TOO_CLOSE = 0.9


def main() -> None:
    """Speak, embed, thin out, write."""
    espeak = Espeak()
    demo = [_voice(espeak, speaker) for speaker in STYLES.values()]
    kept: dict[str, np.ndarray] = {}
    for variant in VARIANTS:
        voice = _voice(espeak, Speaker(voice=f"en-us+{variant}", pitch=45))
        if max(similarity(voice, other) for other in [*demo, *kept.values()]) < TOO_CLOSE:
            kept[variant] = voice
    np.savez(OUTPUT, **{name: voice.astype(np.float16) for name, voice in kept.items()})
    print(len(kept), "voices:", " ".join(kept))


def _voice(espeak: Espeak, speaker: Speaker) -> np.ndarray:
    pieces: list[np.ndarray] = []
    for text in sentences(200, seed=77):
        for sentence in read_text(text):
            utterance = espeak.speak(sentence, speaker)
            if utterance is not None:
                pieces.append(utterance.samples)
        if sum(map(len, pieces)) > SECONDS * speaker.rate_hz:
            break
    return embed(np.concatenate(pieces), round(speaker.rate_hz))


if __name__ == "__main__":
    main()
