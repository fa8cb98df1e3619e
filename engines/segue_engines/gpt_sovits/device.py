"""Where a voice may be built, and what cannot be computed there.

Separate because it is decided before anything is built, and by what was packed rather than by the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from segue.engine import Device
from segue.errors import WeightsError
from segue_engines.gpt_sovits.options import dtype_of
from segue_engines.gpt_sovits.t2s.packing import T2SDtype


def use_device(device: Device, options: Mapping[str, Any]) -> None:
    """Have torch work on a device from here on, in this thread, or refuse.

    Raises
    ------
    WeightsError
        Neither the CPU nor CUDA, no such device here, or int8 matrices, which are laid out for the CPU.
    """
    if device.name == "cpu":
        return
    kind, _, number = device.name.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise WeightsError(f"the gpt-sovits engine runs on cpu or cuda:N; asked for {device.name!r}")
    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        raise WeightsError(
            f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; asked for {device.name!r}: give "
            "the container the device, and install torch with CUDA"
        )
    if dtype_of(options) is T2SDtype.INT8:
        raise WeightsError("spec.options.dtype int8 is for the CPU: use bf16 on a CUDA device")
    torch.cuda.set_device(int(number or 0))
