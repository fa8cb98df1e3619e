"""Turn the pretrained speaker encoder of the Resemblyzer package into the arrays that the similarity probe reads.

    pip download --no-deps resemblyzer==0.1.4 && unzip -o Resemblyzer-*.whl
    python training/convert_speaker_encoder.py resemblyzer/pretrained.pt

Keeps the LSTM and the projection, drops what only training needed, and rounds to float16. Licence: Apache-2.0, see
NOTICE.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

OUTPUT = Path(__file__).parent.parent / "engines" / "segue_engines" / "probes" / "data" / "speaker.npz"


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    options = parser.parse_args()
    state = torch.load(options.checkpoint, map_location="cpu", weights_only=False)["model_state"]
    kept = {name: value.numpy().astype(np.float16) for name, value in state.items() if name[:4] in ("lstm", "line")}
    np.savez(OUTPUT, **kept)
    print({name: value.shape for name, value in kept.items()})


if __name__ == "__main__":
    main()
