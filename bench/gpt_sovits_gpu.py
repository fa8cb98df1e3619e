"""`make bench-gpu`: a gpt-sovits voice of the real size on a CUDA device, in both modes of its memory.

Separate from the CPU's bench, with a target of its own: it needs a device and ends with an error where there is none,
so that nobody takes figures of something else for it. Nothing is promised yet; the report says what was measured on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch

from bench.gpt_sovits import measures
from bench.gpt_sovits.voices import PhonesGiven, parts, text, weight_files
from bench.table import CONSOLE, note, parse_options, print_lines, tell
from segue.engine import Device, SynthesisRequest, VoiceView
from segue.errors import DeviceError
from segue.memory.arena import ArenaPlan
from segue.memory.device.choosing import Sight, refuse_mps
from segue.memory.device.copying import CopyMapper
from segue.memory.device.device import CudaDevice
from segue.memory.device.driver import BINDINGS
from segue.memory.device.mapping import SharedMapper
from segue.memory.device.shared import SharedDeviceMemory
from segue.memory.device.slots import SlotPool
from segue.memory.device.uploading import upload
from segue.memory.host import HostMemory
from segue.memory.interface import MappedPart, WeightMapper, WeightMemory
from segue_cli.measure.environment import environment, write_report
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.sovits.network import SAMPLE_RATE
from segue_engines.gpt_sovits.synthesizer import GptSovitsSynthesizer
from segue_engines.gpt_sovits.t2s.packing import T2SDtype

BATCHES: Final = (1, 4, 16)
DTYPES: Final = (T2SDtype.FP32, T2SDtype.BF16)
_BUDGET_BYTES: Final = 4 << 30
_NO_DEVICE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How long each step lasts."""

    steps: int
    streams: int


FULL = Size(steps=200, streams=5)
SHORT = Size(steps=40, streams=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; 2 where there is no device."""
    options = parse_options("gpt_sovits_gpu", arguments)
    try:
        device = CudaDevice.open("cuda:0")
        refuse_mps(Sight.of(device))
        if not torch.cuda.is_available():
            raise DeviceError(f"torch {torch.__version__} has no CUDA here: install the build for this driver")
    except DeviceError as error:
        CONSOLE.print(f"[red bold]nothing was measured:[/] {error}")
        return _NO_DEVICE
    figures = measure(device, SHORT if options.short else FULL)
    measured_on = {"gpu": torch.cuda.get_device_name(0), "uuid": device.uuid, "torch": torch.__version__}
    write_report(options.out / "gpt_sovits_gpu.json", figures, environment() | measured_on)
    lines = [note(name, str(figure)) for name, figure in figures.items()]
    print_lines("gpt-sovits on a CUDA device", lines, short=options.short)
    return 0


def measure(device: CudaDevice, size: Size, *, driver: str = BINDINGS) -> dict[str, Any]:
    """All figures, for the report."""
    tell("making 145 million weights")
    weight_files()
    figures: dict[str, Any] = {"t2s_tokens_per_s": {}, "build_s": {}, "first_audio_s": {}, "stream_rtf": {}}
    for dtype in DTYPES:
        tell(f"gpu-shared, {dtype}")
        host = HostMemory(_BUDGET_BYTES)
        memory = SharedDeviceMemory(device, budget_bytes=_BUDGET_BYTES, staging=host, driver=driver)
        mapped = _brought_up(memory, SharedMapper(device), device, dtype, figures)
        _speak(mapped, device, dtype, size, figures)
        memory.close()
    tell("gpu-copy")
    memory_, slots = HostMemory(_BUDGET_BYTES), SlotPool(device, _BUDGET_BYTES)
    begin = time.perf_counter()
    copied = _brought_up(memory_, CopyMapper(device, slots), device, T2SDtype.FP32, {})
    figures["copy_s"] = time.perf_counter() - begin
    figures["slot_bytes"] = slots.usage().used_bytes
    _let_go(copied)
    memory_.close()
    return figures


def _brought_up(
    memory: WeightMemory, mapper: WeightMapper, device: CudaDevice, dtype: T2SDtype, figures: dict[str, Any]
) -> list[MappedPart]:
    """What sidecar, uploading child and worker do with a revision, in one process."""
    memory.settle()
    mapped, uploading_s = [], 0.0
    for name, part in parts(dtype).items():
        plan = ArenaPlan.of(part)
        allocation = memory.allocate(plan.total_bytes, name=name)
        plan.write(allocation.fd)
        sealed = memory.seal(allocation, owner="bench")
        begin = time.perf_counter()
        for each in memory.uploads([sealed.digest]):
            upload(device, each.fds, each.part)
            memory.uploaded(sealed.digest)
        uploading_s += time.perf_counter() - begin
        mapped.append(mapper.map(memory.export(sealed.digest), sealed))
    figures.setdefault("upload_and_hash_s", {})[dtype.value] = uploading_s
    figures.setdefault("device_bytes", {})[dtype.value] = memory.usage().used_bytes
    return mapped


def _speak(
    mapped: Sequence[MappedPart], device: CudaDevice, dtype: T2SDtype, size: Size, figures: Mapping[str, Any]
) -> None:
    """Build (with every graph captured), then tokens a second by batch, first sound, and one stream."""
    voice = VoiceView(parts={part.part.name: part.view() for part in mapped}, options={"dtype": dtype.value})
    begin = time.perf_counter()
    synthesizer = GptSovitsEngine(front_end=PhonesGiven()).build(voice, Device(name=device.engine_device))
    figures["build_s"][dtype.value] = time.perf_counter() - begin
    del voice
    measures.first_audio_s(synthesizer, seed=0)
    figures["t2s_tokens_per_s"][dtype.value] = {
        str(rows): _tokens_per_s(synthesizer, rows, size.steps) for rows in BATCHES
    }
    times = [measures.first_audio_s(synthesizer, seed=seed) for seed in range(size.streams)]
    figures["first_audio_s"][dtype.value] = median(times)
    rtf = measures.chunked_real_time_factor(synthesizer, seed=1, samples=3 * SAMPLE_RATE)
    figures["stream_rtf"][dtype.value] = rtf
    synthesizer.close()
    del synthesizer
    _let_go(mapped)


def _tokens_per_s(synthesizer: GptSovitsSynthesizer, count: int, steps: int) -> float:
    """Of all rows together, from the time that all have joined; nothing is decoded meanwhile."""
    request = {"decode": "whole"}
    rows = [synthesizer.admit(SynthesisRequest(text=text(seed), seed=seed, options=request)) for seed in range(count)]
    while any(not row.tokens for row in rows):
        synthesizer.step(rows)
    before, begin = sum(len(row.tokens) for row in rows), time.perf_counter()
    for _ in range(steps):
        synthesizer.step(rows)
    spoken, taken_s = sum(len(row.tokens) for row in rows) - before, time.perf_counter() - begin
    for row in rows:
        row.close()
    return spoken / taken_s


def _let_go(mapped: Sequence[MappedPart]) -> None:
    for part in mapped:
        while True:
            try:
                part.close()
                break
            except BufferError:
                time.sleep(0.001)


if __name__ == "__main__":
    sys.exit(main())
