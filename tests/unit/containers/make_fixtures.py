"""Writes the two real torch files in `fixtures/`. Needs torch; run by hand: `python make_fixtures.py`."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch  # type: ignore[import-not-found,unused-ignore]

FIXTURES = Path(__file__).parent / "fixtures"


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6).reshape(2, 3) / 4)
        layer.bias.copy_(torch.tensor([0.5, -0.5]))
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    state = layer.state_dict()
    torch.save(
        {
            "layer": state,
            "parameter": layer.weight,
            "half": base.half(),
            "bfloat": base.bfloat16(),
            "transposed": base.T,
            "row": base[1],
            "flags": torch.tensor([True, False]),
            "longs": torch.tensor([1 << 40, -1]),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 4),
            "epoch": 8,
            "config": {"sizes": [1, 2, 3], "rate": 0.5, "name": "voice", "flag": True, "none": None},
        },
        FIXTURES / "torch.pt",
    )
    utils = types.ModuleType("utils")
    hparams = type("HParams", (), {"__module__": "utils"})
    vars(utils)["HParams"] = hparams
    sys.modules["utils"] = utils
    inner, outer = hparams(), hparams()
    inner.sampling_rate = 32000
    outer.data = inner
    outer.version = "v2Pro"
    path = FIXTURES / "gpt-sovits-05.pth"
    torch.save({"weight": {"enc_p.weight": base.half()}, "config": outer, "info": "8epoch_1234iteration"}, path)
    raw = path.read_bytes()
    path.write_bytes(b"05" + raw[2:])


if __name__ == "__main__":
    main()
