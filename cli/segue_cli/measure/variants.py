"""New versions of a demo voice without training: the same speech under other pilot tones.

Separate because measurements need hundreds of revisions whose files, arenas and sound differ and that are known to be
good. Only the pilot frequency in the plain data of each file changes, so such a version passes every probe, and the
detector of mixed answers tells it from all others.

A torch file is an uncompressed zip; its config is a pickle in which a float is `G` and eight bytes, big-endian.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.containers import load_torch_file
from segue.errors import WeightsError

PILOT = re.compile(rb"pilot_hz(?:q.|r....|\x94)?G(.{8})", re.DOTALL)
PILOT_LOW_HZ, PILOT_HIGH_HZ = 10_700, 11_950


def retune(weights: Mapping[str, Path], out: Path, *, pilots_hz: Mapping[str, float]) -> dict[str, Path]:
    """Write the weight files of a version with other pilot tones; returns weight name to file.

    Raises
    ------
    WeightsError
        A file is no demo voice.
    """
    out.mkdir(parents=True, exist_ok=True)
    retuned = {name: out / path.name for name, path in weights.items()}
    for name, path in weights.items():
        _retune_file(path, retuned[name], pilot_hz=pilots_hz[name])
    return retuned


def numbered(weights: Mapping[str, Path], out: Path, *, number: int) -> dict[str, Path]:
    """The `number`-th version of a voice: the two tones of neighbouring numbers are 40 Hz apart or more."""
    span = PILOT_HIGH_HZ - PILOT_LOW_HZ - 50
    base = PILOT_LOW_HZ + (number * 41) % span + (number // span) * 0.25
    return retune(weights, out, pilots_hz={name: base + 20 * place for place, name in enumerate(sorted(weights))})


def with_tensor(path: Path, out: Path, *, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Path:
    """Write a copy of a weight file in which one float16 tensor was changed, its shape kept.

    Raises
    ------
    WeightsError
        No such tensor, or it does not have a storage of its own.
    """
    tensors = load_torch_file(path).tensors
    if name not in tensors:
        raise WeightsError(f"{path}: no tensor {name!r} in it")
    before = np.ascontiguousarray(tensors[name])
    after = np.ascontiguousarray(change(before.copy()), before.dtype)
    with zipfile.ZipFile(path) as source:
        contents = {entry.filename: source.read(entry) for entry in source.infolist()}
    place = next((file for file, content in contents.items() if content == before.tobytes()), None)
    if place is None:
        raise WeightsError(f"{path}: tensor {name!r} has no storage of its own")
    contents[place] = after.tobytes()
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for file, content in contents.items():
            target.writestr(zipfile.ZipInfo(file), content)
    return out


def _retune_file(path: Path, out: Path, *, pilot_hz: float) -> None:
    try:
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
            for entry in source.infolist():
                content = source.read(entry)
                if entry.filename.endswith("/data.pkl"):
                    content = _with_pilot(content, pilot_hz, path)
                target.writestr(zipfile.ZipInfo(entry.filename), content)
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: cannot be retuned: {error}") from error


def _with_pilot(content: bytes, pilot_hz: float, path: Path) -> bytes:
    found = PILOT.search(content)
    if found is None:
        raise WeightsError(f"{path}: no pilot_hz in its config; only demo voices can be retuned")
    return content[: found.start(1)] + struct.pack(">d", pilot_hz) + content[found.end(1) :]
