"""The same on a real device, wherever one is at hand: what the driver without a device cannot show.

Skipped elsewhere, with the reason. Nobody has run these yet; see docs/gpu.md.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tests.support.memory import prepared_part
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from segue.errors import DeviceError
from segue.memory import memfd
from segue.memory.arena import ArenaPlan
from segue.memory.device.copying import CopyMapper
from segue.memory.device.device import CudaDevice
from segue.memory.device.mapping import SharedMapper
from segue.memory.device.shared import SharedDeviceMemory
from segue.memory.device.slots import SlotPool
from segue.memory.device.uploading import upload
from segue.memory.host import HostMemory
from segue.memory.interface import WeightMemory
from segue.memory.messages import PartRef

pytestmark = pytest.mark.gpu

MIB = 1 << 20
REPOSITORY = Path(__file__).resolve().parents[3]
READER = """
import sys
from torch.utils.dlpack import from_dlpack
from segue.memory.device.device import CudaDevice
from segue.memory.device.mapping import SharedMapper
from segue.memory.messages import PartRef
token, memory, name, digest, size = sys.argv[1:]
part = PartRef(name=name, digest=digest, size_bytes=int(size))
mapped = SharedMapper(CudaDevice.open("cuda:0")).map([int(token), int(memory)], part)
mapped.verify()
print(from_dlpack(mapped.view().tensors["weight"]).sum().item(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def device() -> CudaDevice:
    """`cuda:0` of the real driver."""
    try:
        found = CudaDevice.open("cuda:0")
    except DeviceError as error:
        pytest.skip(str(error))
    if not torch.cuda.is_available():
        pytest.skip("torch was built without CUDA, or for another driver")
    return found


def shared(device: CudaDevice) -> SharedDeviceMemory:
    return SharedDeviceMemory(device, budget_bytes=256 * MIB, staging=HostMemory(64 * MIB))


def lay_in(memory: WeightMemory, device: CudaDevice, *, fill: float = 1.0) -> PartRef:
    memory.settle()
    plan = ArenaPlan.of(prepared_part(fill=fill, values=1_000_000))
    allocation = memory.allocate(plan.total_bytes, name="timbre")
    plan.write(allocation.fd)
    part = memory.seal(allocation, owner="rev")
    for each in memory.uploads([part.digest]):
        upload(device, each.fds, each.part)
        memory.uploaded(part.digest)
    return part


def test_a_part_goes_to_the_device_and_torch_computes_with_it_where_it_lies(device: CudaDevice) -> None:
    memory = shared(device)
    part = lay_in(memory, device, fill=2.0)
    mapped = SharedMapper(device).map(memory.export(part.digest), part)
    mapped.verify()
    weight: Tensor = from_dlpack(mapped.view().tensors["weight"])
    first, end = mapped.address_range()
    assert weight.is_cuda
    assert first <= weight.data_ptr() < end
    assert (weight * 3).sum().item() == 6_000_000
    with pytest.raises(BufferError, match="still live"):
        mapped.close()
    del weight
    gc.collect()
    torch.cuda.synchronize()
    mapped.close()
    memory.release(part.digest, owner="rev")
    assert memory.reap() == (part.digest,)
    memory.close()


def test_another_process_reads_it_and_keeps_it_alive_when_its_maker_has_let_go(device: CudaDevice) -> None:
    memory = shared(device)
    part = lay_in(memory, device, fill=3.0)
    fds = memory.export(part.digest)
    said = asdict(part)
    command = [sys.executable, "-c", READER, *map(str, fds), said["name"], said["digest"], str(said["size_bytes"])]
    with subprocess.Popen(
        command, pass_fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as reader:
        memfd.close_all(fds)
        assert reader.stdout is not None
        assert float(reader.stdout.readline()) == 3_000_000
        memory.release(part.digest, owner="rev")
        assert memory.reap() == ()
        reader.kill()
        reader.wait()
    assert memory.reap() == (part.digest,)
    memory.close()


def test_slots_keep_their_addresses_on_the_device(device: CudaDevice) -> None:
    memory, mapper = HostMemory(64 * MIB), CopyMapper(device, SlotPool(device, 64 * MIB))
    seen = set()
    for turn in range(4):
        part = lay_in(memory, device, fill=float(turn))
        mapped = mapper.map(memory.export(part.digest), part)
        mapped.verify()
        seen.add(mapped.address_range()[0])
        mapped.close()
    assert len(seen) <= 2
    memory.close()
