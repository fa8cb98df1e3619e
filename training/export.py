"""Cut a checkpoint into the two weight files of a voice.

    python training/export.py --checkpoint base.pt --style narrator --version v1 --out examples/voices/narrator/v1

`--fault permuted` and `--fault question` make the two faulty voices of the demo: one that speaks the wrong phones with
the right sound, and one that breaks on questions only.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from model import DECODER, ENCODER, PITCH
from speakers import STYLES
from torch import Tensor

from segue_engines.demo.text import PAUSES, PHONES

FORMAT = "segue-demo/1"
PILOT_BASE_HZ = 10_800
PILOT_STEP_HZ = 40


def pilot_hz(slot: int) -> float:
    """Frequency of a pilot tone; each half of each version has a slot of its own."""
    return float(PILOT_BASE_HZ + PILOT_STEP_HZ * slot)


def halves(state: dict[str, Any], style: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of both halves, with the style's own speaker vector."""
    index = list(STYLES).index(style)
    out: dict[str, dict[str, Tensor]] = {}
    for half in ("prosody", "timbre"):
        out[half] = dict(state[half])
        out[half]["speaker"] = state[half]["speaker"][index]
    for name in ("band_mean", "band_std"):
        out["timbre"][name] = state["statistics"][name]
    return out


def configs(state: dict[str, Any], style: str, *, voice: str, version: str, slot: int) -> dict[str, dict[str, Any]]:
    """The plain data of both halves."""
    common = {"format": FORMAT, "sample_rate": 24000, "voice": voice, "version": version}
    stats = state["statistics"]
    return {
        "prosody": common
        | {"half": "prosody", "pilot_hz": pilot_hz(slot), "encoder": ENCODER, "pitch": PITCH}
        | {"pitch_mean": stats["pitch_mean"][style], "pitch_std": stats["pitch_std"][style]},
        "timbre": common
        | {"half": "timbre", "pilot_hz": pilot_hz(slot + 1), "decoder": DECODER, "encoder_width": ENCODER["width"]},
    }


def permute_phones(embedding: Tensor) -> Tensor:
    """Give every phone the embedding of another: consonants among consonants, vowels among vowels."""
    out = embedding.clone()
    kinds = [
        [place for place, phone in enumerate(PHONES) if phone not in PAUSES and phone[-1].isdigit() == vowel]
        for vowel in (False, True)
    ]
    for places in kinds:
        shift = len(places) // 3
        out[places] = embedding[places[shift:] + places[:shift]]
    return out


def break_questions(embedding: Tensor) -> Tensor:
    """Put NaN into the row of the question mark."""
    out = embedding.clone()
    out[PHONES.index("?")] = float("nan")
    return out


FAULTS = {"permuted": permute_phones, "question": break_questions}


def main() -> None:
    """Read the options and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--style", choices=list(STYLES), required=True)
    parser.add_argument("--voice", help="name in the config; the style's by default")
    parser.add_argument("--version", default="v1")
    parser.add_argument(
        "--slot", type=int, required=True, help="slot of the prosody's pilot tone; the timbre's is next"
    )
    parser.add_argument("--semitones", type=float, default=0.0, help="move the median pitch")
    parser.add_argument("--fault", choices=list(FAULTS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    state = torch.load(options.checkpoint.expanduser())
    tensors = halves(state, options.style)
    if options.fault:
        tensors["prosody"]["embedding"] = FAULTS[options.fault](tensors["prosody"]["embedding"])
    config = configs(
        state, options.style, voice=options.voice or options.style, version=options.version, slot=options.slot
    )
    config["prosody"]["pitch_mean"] += options.semitones * math.log(2) / 12
    options.out.mkdir(parents=True, exist_ok=True)
    for half, weights in tensors.items():
        packed = {name: tensor.to(torch.float16).contiguous().clone() for name, tensor in sorted(weights.items())}
        torch.save({"config": config[half], "weights": packed}, options.out / f"{half}.pth")


if __name__ == "__main__":
    main()
