"""Reading weight files as data: never as programs.

A `.pth` or `.ckpt` is a zip file with a pickle in it, and a pickle is a program. This package reads the layout that
`torch.save` writes with a pickle machine of its own that can build tensors and plain containers and nothing else, and
checks every size against the file before it takes memory; safetensors files, too. It needs no torch.
"""

from __future__ import annotations

from segue.containers.safetensors_file import SafetensorsFile, open_safetensors
from segue.containers.torch_file import (
    GPT_SOVITS_CONFIG,
    LoadedFile,
    TensorInfo,
    TorchFile,
    load_torch_file,
    open_torch_file,
)

__all__ = [
    "GPT_SOVITS_CONFIG",
    "LoadedFile",
    "SafetensorsFile",
    "TensorInfo",
    "TorchFile",
    "load_torch_file",
    "open_safetensors",
    "open_torch_file",
]
