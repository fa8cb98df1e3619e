"""Writes `data/speaker-golden.npz` with the original network. Needs torch and its `pretrained.pt`; run by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    state = torch.load(sys.argv[1], map_location="cpu", weights_only=False)["model_state"]
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    lstm.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith("lstm")})
    linear.load_state_dict({name[7:]: value for name, value in state.items() if name.startswith("linear")})
    windows = np.random.default_rng(7).gamma(0.5, 0.02, (3, 160, 40)).astype(np.float32)
    with torch.no_grad():
        _, (hidden, _) = lstm(torch.from_numpy(windows))
        raw = torch.relu(linear(hidden[-1]))
    np.savez(
        Path(__file__).parent / "data" / "speaker-golden.npz", embeddings=(raw / raw.norm(dim=1, keepdim=True)).numpy()
    )


if __name__ == "__main__":
    main()
